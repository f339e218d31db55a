"""The Flask application: its routes, and the checks that are made for every request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import flask
from flask import Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from onefs.demo.records import Login, Source
from onefs.demo.rest import openapi
from onefs.demo.rest.accounts import Accounts, Throttle
from onefs.demo.rest.cache_tables import cache_views
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.endpoints import READ_METHODS, View
from onefs.demo.rest.errors import ApiError, failure, forbidden, method_not_allowed
from onefs.demo.rest.login import log_in
from onefs.demo.rest.renderers import RENDERERS, dumps, error_page, negotiate, rendered
from onefs.demo.rest.request import ApiRequest
from onefs.demo.rest.views import VIEWS
from onefs.integers import parse_whole_number

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: gunicorn's limit for the length of a request line
MAX_LINE_BYTES = 4094
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_VARY = "Accept, Cookie"


class _LowerUuid(BaseConverter):
    """A URL converter for a UUID in lower case with dashes, as Alyx's routes accept it."""

    regex = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class _Word(BaseConverter):
    r"""A URL converter for a tag (``\w+``): letters, digits and underscores."""

    regex = r"\w+"


def create_app(
    source: Source,
    login: Login,
    *,
    data_url: str,
    bucket_url: str = "",
    throttle: int | None = None,
    public_users: Sequence[str] = ("intbrainlab",),
    allowed_hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]"),
) -> flask.Flask:
    """Return the REST server of a laboratory.

    - ``data_url``: the file server's address, without a slash at the end
    - ``bucket_url``: the address of a bucket with the tables of releases; '' for none
    - ``throttle``: the number of requests that a user may send per minute; None for no limit
    - ``public_users``: the users that may only send GET requests
    - ``allowed_hosts``: the hosts that the Host header of a request may name, as in Alyx
    """
    app = flask.Flask("onefs.demo.rest", static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.converters.update(key=_LowerUuid, word=_Word)
    server = _RestServer(DemoDatabase(source, data_url), Accounts(login, public_users), throttle)
    for view in (*VIEWS, *cache_views(bucket_url)):
        _route(app, view.rule, server.handler(view))
    _route(app, "/auth-token", server.log_in)
    _route(app, "/api/schema", server.schema)
    _add_pages(app)
    app.before_request(lambda: _check_host(allowed_hosts))
    app.register_error_handler(HTTPException, _html_error)
    app.wsgi_app = _limit_line(app.wsgi_app)  # type: ignore[assignment, method-assign]
    return app


class _RestServer:
    """The state that all routes use: the database, the accounts and the throttle."""

    def __init__(self, db: DemoDatabase, accounts: Accounts, throttle: int | None) -> None:
        self._db = db
        self._accounts = accounts
        self._throttle = Throttle(throttle) if throttle is not None else None

    def handler(self, view: View) -> Callable[..., Response]:
        """Return the Flask function that answers the requests for ``view``."""

        def handle(**names: str) -> Response:
            def answer() -> Any:
                self._admit()
                return self._answer(view, names)

            return _respond(answer, view.allow, RENDERERS, view.title)

        return handle

    def _admit(self) -> None:
        """Check authentication, permission and throttle, in this order.

        Raises ApiError if a check fails.
        """
        user = self._accounts.user(request.headers.get("Authorization"))
        if request.method != "GET" and self._accounts.is_public(user):
            raise forbidden("You do not have permission to perform this action.")
        if self._throttle is not None:
            self._throttle.check(user)

    def _answer(self, view: View, names: dict[str, str]) -> Any:
        method = request.method
        if method not in view.allow:
            raise method_not_allowed(method)
        if method == "OPTIONS":
            return _options(view)
        if method == "HEAD" and view.head_fails:
            raise failure("'NoneType' object is not callable")
        if method not in ("GET", "HEAD"):
            # the laboratory is read-only for every user
            raise forbidden("You do not have permission to perform this action.")
        self._db = self._db.refreshed()
        return view.get(ApiRequest(self._db, _base(), request.path, _query()), **names)

    def log_in(self) -> Response:
        """Answer ``/auth-token`` in JSON. The request needs no token and is never throttled."""
        headers = {"Allow": "POST, OPTIONS"}
        status = 200
        body: dict[str, Any]
        try:
            negotiate(request.headers.get("Accept"), None, (("json", "application/json"),))
            headers["Vary"] = "Cookie"
            body = dict(log_in(request, self._accounts))
        except ApiError as error:
            body, status = error.body, error.status
        return Response(dumps(body), status, headers, content_type="application/json")

    def schema(self) -> Response:
        """Answer ``/api/schema``. The request needs no token, but is throttled."""

        def answer() -> Any:
            self._throttle_anyone()
            if request.method not in READ_METHODS:
                raise method_not_allowed(request.method)
            return openapi.openapi(VIEWS)

        return _respond(answer, READ_METHODS, openapi.RENDERERS)

    def _throttle_anyone(self) -> None:
        if self._throttle is None:
            return
        authorization = request.headers.get("Authorization")
        user = self._accounts.user(authorization) if authorization else request.remote_addr
        self._throttle.check(user or "")


def _respond(
    answer: Callable[[], Any],
    allow: Sequence[str],
    renderers: Sequence[tuple[str, str]],
    title: str = "",
) -> Response:
    """Return a response with the value of ``answer()``, or with the ApiError that it raises.

    The media type is chosen by :func:`negotiate`.
    """
    headers = {"Vary": _VARY, "Allow": ", ".join(allow)}
    media_type, status = renderers[0][1], 200
    try:
        accept, form = request.headers.get("Accept"), request.args.get("format")
        media_type = negotiate(accept, form, renderers)
        body = answer()
    except ApiError as error:
        body, status = error.body, error.status
        headers.update(error.headers)
    response = body if isinstance(body, Response) else rendered(body, media_type, title, status)
    response.headers.update(headers)
    return response


def _options(view: View) -> dict[str, Any]:
    if view.options_fail:
        raise failure("'list' object has no attribute 'items'")
    return {
        "name": view.title,
        "description": "",
        "renders": ["application/json", "text/html"],
        "parses": ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"],
    }


def _query() -> dict[str, list[str]]:
    """Return the query's parameters. Bytes that are not UTF-8 are decoded by ``os.fsdecode``."""
    text = request.query_string.decode(errors="surrogateescape")
    return parse_qs(text, keep_blank_values=True, errors="surrogateescape")


def _base() -> str:
    """Return the server's address, with the host in the Host header.

    The scheme is https if a proxy has set ``X-Forwarded-Proto`` to https.
    """
    scheme = "https" if request.headers.get("X-Forwarded-Proto") == "https" else request.scheme
    return f"{scheme}://{request.host}"


def _route(app: flask.Flask, rule: str, handle: Callable[..., Response]) -> None:
    app.add_url_rule(
        rule, endpoint=rule, view_func=handle, methods=_METHODS, provide_automatic_options=False
    )


def _add_pages(app: flask.Flask) -> None:
    """Add the pages outside REST: the root, the documentation, and redirects.

    The redirects add a missing slash at the end of a path.
    """

    def redirect(target: str, status: int) -> Callable[[], Response]:
        return lambda: Response(
            b"", status, {"Location": target}, content_type="text/html; charset=utf-8"
        )

    def docs() -> Response:
        paths = sorted(openapi.path_of(view) for view in VIEWS)
        return rendered(paths, "text/html", "Alyx")

    _route(app, "/", redirect("/admin", 302))
    _route(app, "/cache/info", redirect("/cache/info/", 301))
    _route(app, "/cache/info/<word:tag>", lambda tag: redirect(f"/cache/info/{tag}/", 301)())
    _route(app, "/docs", redirect("/docs/", 301))
    _route(app, "/docs/", docs)


def _check_host(allowed: Sequence[str]) -> Response | None:
    host, _, port = request.host.rpartition(":")
    name = host if parse_whole_number(port) is not None else request.host
    return None if name in allowed else error_page(400, "Bad Request (400)")


def _html_error(error: HTTPException) -> Response:
    if error.code == 404:
        text = "The requested resource was not found on this server."
        return error_page(404, "Not Found", text)
    status = error.code or 500
    return error_page(status, f"{error.name} ({status})")


def _limit_line(app: WSGIApplication) -> WSGIApplication:
    """Return ``app``, but with status 414 for a request line longer than MAX_LINE_BYTES."""

    def limited(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        target = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
        line = f"{environ['REQUEST_METHOD']} {target} {environ['SERVER_PROTOCOL']}\r\n"
        if len(line) <= MAX_LINE_BYTES:
            return app(environ, start_response)
        text = f"Request Line is too large ({len(line)} &gt; {MAX_LINE_BYTES})"
        page = (
            "<html>\n  <head>\n    <title>URI Too Long</title>\n  </head>\n  <body>\n"
            f"    <h1><p>URI Too Long</p></h1>\n    {text}\n  </body>\n</html>\n"
        )
        return Response(page, 414, content_type="text/html")(environ, start_response)

    return limited

"""The demo's file server. It answers like nginx on FlatIron, which is IBL's file server.

The server supports Basic auth, requests for one or several ranges, conditional requests, and folder
listings. The user and password are not those of Alyx. Paths below ``/aws/`` need no password. In a
request, ``#`` must be escaped. As on FlatIron, a client that does not escape the ``#`` of a
revision requests the folder above the revision, and gets status 200 and HTML. The responses are
like those of a recorded nginx 1.22 (``tests/data/recorded``).
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from flask import Flask, Response, request
from werkzeug.routing import PathConverter

from onefs.demo import directory_listings
from onefs.demo.bucket import TABLES_PREFIX, PublicBucket
from onefs.demo.file_responses import open_file, respond
from onefs.demo.records import Login, Source

_REASONS = {
    400: "Bad Request", 401: "Authorization Required", 403: "Forbidden", 404: "Not Found",
    405: "Not Allowed", 412: "Precondition Failed", 416: "Requested Range Not Satisfiable",
    500: "Internal Server Error",
}  # fmt: skip


class AnyPath(PathConverter):
    """A URL converter that accepts any path, including names with line breaks."""

    regex = r"[\s\S]*?"
    part_isolating = False


def create_app(
    source: Source,
    login: Login | None,
    *,
    realm: str = "FlatIron",
    rate: int | None = None,
    bucket: PublicBucket | None = None,
) -> Flask:
    """Return the file server of ``source`` as a WSGI application.

    Without ``login``, no password is needed, as for IBL's public data. ``rate`` is the limit for
    each connection in bytes per second. None means no limit. The tables of ``bucket`` are served
    below ``/aws/``.
    """
    app = Flask("onefs.demo.flatiron", static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.converters["any"] = AnyPath

    @app.before_request
    def authorize() -> Response | None:
        # test the path that is served, because Flask may have normalized ``request.path``
        if login is None or decoded_path().startswith("/aws/") or _authorized(login):
            return None
        response = _page(401)
        response.headers["WWW-Authenticate"] = f'Basic realm="{realm}"'
        return response

    @app.route("/", defaults={"_path": ""}, methods=["GET"], provide_automatic_options=False)
    @app.route("/<any:_path>", methods=["GET"], provide_automatic_options=False)
    def serve(_path: str) -> Response:
        path = decoded_path()
        if bucket is not None and path.startswith(f"/aws/{TABLES_PREFIX}"):
            return _respond_with(bucket.content(path.removeprefix("/aws/")), path, rate)
        return _serve(source, path, rate)

    for status in (404, 405, 500):
        app.register_error_handler(status, lambda _error, status=status: _page(status))
    return app


def _authorized(login: Login) -> bool:
    credentials = request.authorization
    if credentials is None or credentials.type != "basic":
        return False
    user, password = credentials.username or "", credentials.password or ""
    right_user = hmac.compare_digest(user.encode(), login.data_username.encode())
    right_password = hmac.compare_digest(password.encode(), login.data_password.encode())
    return right_user and right_password


def decoded_path() -> str:
    """Return the path of the request. Bytes that are not UTF-8 are decoded by ``os.fsdecode``."""
    # PATH_INFO no longer has the bytes that are not UTF-8
    return os.fsdecode(unquote_to_bytes(urlsplit(request.environ["REQUEST_URI"]).path))


def _page(status: int) -> Response:
    title = f"{status} {_REASONS[status]}"
    text = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>onefs</center>\r\n</body>\r\n</html>\r\n"
    )
    response = Response(text, status=f"{status} {_REASONS[status]}")
    response.headers["Content-Type"] = "text/html"
    return response


def _serve(source: Source, path: str, rate: int | None) -> Response:
    if path.endswith("/") or "\0" in path:
        return _folder(source, path)
    try:
        content = source.file(path)
        return _folder(source, path) if content is None else _respond_with(content, path, rate)
    except PermissionError:
        return _page(403)


def _respond_with(content: Path | bytes | None, path: str, rate: int | None) -> Response:
    """Return the response with a file's bytes, or 404 if there is no file any more."""
    file = open_file(content, path)
    if file is None:
        return _page(404)
    try:
        response = respond(file, rate, _page)
    except BaseException:
        file.close()
        raise
    response.call_on_close(file.close)
    return response


def _folder(source: Source, path: str) -> Response:
    names = None if path == "/" else directory_listings.entries_of(source, path)
    if names is None:
        return _page(404)
    if path.startswith("/aws/"):
        return _page(403)
    if not path.endswith("/"):
        response = Response(status="301 Moved Permanently", content_type="text/html")
        response.headers["Location"] = request.host_url + quote(os.fsencode(path[1:])) + "/"
        return response
    return Response(directory_listings.render_page(path, names), content_type="text/html")

"""``one.alyx``: Alyx's REST interface for reading, as ONE-api's ``AlyxClient`` has it.

Requests are sent by the client of the catalogue, with its login, rate limit and retries. An answer
is stored. It is used again for some minutes, and also later if Alyx is unreachable.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from onefs.alyx.parsing import any_key
from onefs.catalogue.storage.catalogue_file import REST_ANSWERS
from onefs.errors import (
    CacheError,
    NotFound,
    OnefsError,
    ReadOnly,
    ServerError,
    Stopping,
    Unreachable,
    UsageError,
)
from onefs.one.alf_errors import http_error
from onefs.one.interrupts import Interruptible, interruptible
from onefs.one.rest_list import RestList, Row
from onefs.one.rest_query import ENDPOINTS, RestQuery, check_action, check_endpoint
from onefs.one.warn import warn
from onefs.search.name_tables import UNAVAILABLE_ERRORS

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.one.data_server import AlyxParams
    from onefs.one.laboratory_client import LaboratoryClient
    from onefs.one.rest_schemes import RestSchemes

log = logging.getLogger(__name__)

#: seconds for which a stored answer is used without a request, as in ONE-api
ANSWER_TTL_SECONDS = 300.0
#: the path of Alyx's description of its interface, and seconds for which it is used
SCHEMA, SCHEMA_TTL_SECONDS = "api/schema", 7 * 86400.0
#: characters of the largest answer that is stored; a page of 1,000 rows has 2 MB at most
MAX_STORED_CHARACTERS = 2**23
#: the end of the key of the rows that no page of a list had
_MISSING_ROWS = "#missing"


class AlyxRest(Interruptible):
    """Alyx's REST interface, for reading. ``ONE.alyx`` returns such an object.

    Every method that reads may also raise Unreachable, DeadlineExceeded, AlyxCredentials, Throttled
    or ServerError (``onefs.errors``).

    Args:
        client: The ``ONE`` whose database is read.
    """

    def __init__(self, client: LaboratoryClient) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"AlyxRest({self.base_url})"

    # -- attributes of ONE-api's class

    @property
    def base_url(self) -> str:
        """Alyx's address."""
        return self._client.url

    @property
    def user(self) -> str | None:
        """The user name for Alyx, or None if none is known."""
        return self._client._settings.username or None

    @property
    def is_logged_in(self) -> bool:
        """Whether requests are sent with a login that is known already."""
        if self._client.offline or self._access is None:
            return False
        try:
            return bool(self._access.has_login())
        except OnefsError:
            return False

    @property
    def cache_dir(self) -> Path:
        """The cache folder of the ``ONE``."""
        return self._client.cache_dir

    @property
    def cache_mode(self) -> str | None:
        """``GET`` if an answer is used for five minutes without a request. None: always ask Alyx.

        This attribute can be changed.
        """
        return self._client._cache_rest

    @cache_mode.setter
    def cache_mode(self, mode: str | None) -> None:
        if mode is not None and not isinstance(mode, str):
            raise UsageError(f"cache_mode is {type(mode).__name__}: give 'GET' or None")
        self._client._cache_rest = mode

    @property
    def _par(self) -> AlyxParams:
        """ONE-api's settings, of which brainbox reads the folder and the file server's address."""
        from onefs.one.data_server import AlyxParams

        return AlyxParams(self._client)

    @property
    def rest_schemes(self) -> RestSchemes:
        """The endpoints that can be read, with their actions and filters."""
        from onefs.one.rest_schemes import RestSchemes

        return RestSchemes(lambda: self._answer(RestQuery(SCHEMA, {})))

    def list_endpoints(self) -> list[str]:
        """Print and return the names of the endpoints that can be read."""
        print("\n".join(ENDPOINTS))
        return list(ENDPOINTS)

    # -- reads

    @interruptible
    def rest(
        self,
        url: str | None = None,
        action: str | None = None,
        id: Any = None,
        data: Any = None,
        files: Any = None,
        no_cache: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return rows or a record of an endpoint of Alyx.

        Args:
            url: The endpoint, such as ``"sessions"``, or with a query, such as
                ``"sessions?subject=x"``. None prints all endpoints.
            action: ``"list"`` or ``"read"``. None prints these two.
            id: The name or UUID of the record to read. With ``list``, the only row's id. ``read``
                without an id warns, and returns None.
            data: Has no meaning, because nothing is written.
            files: Has no meaning, because nothing is written.
            no_cache: Whether to ask Alyx in any case.
            **kwargs: The filters of a list. A list of values is joined with commas.

        Returns:
            The record as a dict, or the rows as a list of dicts. If the rows do not fit into one
            answer, a :class:`.RestList`, which requests the other rows when they are needed.

        Raises:
            UsageError: An argument is invalid.
            ReadOnly: The action or endpoint would change Alyx.
            NotFound: There is no record of this name. It is also a ``requests.HTTPError`` if the
                process has imported requests.
            Unreachable: Alyx is unreachable, and the answer is not known.
        """
        if not url:
            self.list_endpoints()
            return None
        path, _, text = str(url).strip("/").partition("?")
        endpoint = check_endpoint(path.partition("/")[0])
        checked = check_action("list" if text else action)
        if checked is None:
            print("list\nread")
            return None
        no_cache = bool(kwargs.pop("expires", False)) or no_cache
        if checked == "read":
            if id is None or str(id) == "":
                warn(f"rest({endpoint!r}, 'read') has no record to return: give its id")
                return None
            name = str(id).rstrip("/").rpartition("/")[2]
            return self._read(RestQuery(f"{endpoint}/{name}", {}), no_cache)
        query = RestQuery.of_list(endpoint, dict(parse_qsl(text)), id, kwargs)
        self._warn_of_unknown_filters(query, kwargs)
        return self._read(query, no_cache)

    @interruptible
    def get(self, rest_query: str, **kwargs: Any) -> Any:
        """Return the answer to a GET request, as :meth:`rest` does.

        Args:
            rest_query: The path, with its query, or a URL of Alyx.
            **kwargs: ``clobber`` or ``expires``, to ask Alyx in any case.

        Raises:
            UsageError: ``rest_query`` is invalid.
            ReadOnly: The request would change Alyx.
            NotFound: There is no such record.
            Unreachable: Alyx is unreachable, and the answer is not known.
        """
        text = str(rest_query).removeprefix(self.base_url)
        if "://" in text:
            raise UsageError(f"{ascii(rest_query)[:80]} is not a URL of {self.base_url}")
        parts = urlsplit(text)
        path = unquote(parts.path).strip("/")
        if path != SCHEMA:
            check_endpoint(path.partition("/")[0])
        if path.startswith("cache/"):  # Alyx has a slash at the end of these paths only
            path += "/"
        no_cache = bool(kwargs.get("clobber") or kwargs.get("expires"))
        return self._read(RestQuery(path, dict(parse_qsl(parts.query))), no_cache)

    @interruptible
    def download_file(
        self,
        url: Any,
        *,
        chunks: Sequence[int] | None = None,
        target_dir: Any = None,
        clobber: bool = False,
        return_md5: bool = False,
        silent: bool = True,
        headers: Any = None,
    ) -> Any:
        """Return the path of a file, or of a part of it, by its URL on the file server.

        The bytes come from the cache, and are cached if they are downloaded. Of a large file only
        the blocks with the requested part are downloaded.

        Args:
            url: The URL of a session's file, or its path without the server, or a list of these.
            chunks: The number of the first byte, and the number of bytes. None means the whole
                file.
            target_dir: The folder for the file, or a list with the folder of each. By default a
                whole file is not copied from its place in the cache folder, and a part is saved in
                the cache folder.
            clobber: Whether to replace a file in ``target_dir``.
            return_md5: Whether to return the md5 of the file or part too.
            silent: Has no meaning.
            headers: Has no meaning.

        Returns:
            The path. With ``return_md5``, the path and the md5. For a list, the list of the paths,
            or the paths and the md5s.

        Raises:
            UsageError: An argument is invalid, or ``target_dir`` cannot be written.
            NotFound: There is no such file.
            Unreachable: The file server is unreachable.
        """
        from onefs.one.data_server import download_urls

        return download_urls(
            self._client, url, chunks, target_dir, clobber=clobber, return_md5=return_md5
        )

    # -- writes, which are refused

    def post(self, rest_query: str, data: Any = None, files: Any = None) -> None:
        """Raise ReadOnly, because onefs does not write."""
        raise _read_only("post", rest_query)

    def put(self, rest_query: str, data: Any = None, files: Any = None) -> None:
        """Raise ReadOnly, because onefs does not write."""
        raise _read_only("put", rest_query)

    def patch(self, rest_query: str, data: Any = None, files: Any = None) -> None:
        """Raise ReadOnly, because onefs does not write."""
        raise _read_only("patch", rest_query)

    def delete(self, rest_query: str) -> None:
        """Raise ReadOnly, because onefs does not write."""
        raise _read_only("delete", rest_query)

    # -- helpers

    @property
    def _access(self) -> Access | None:
        """The opened laboratory, or None for another user's mount."""
        client = self._client
        return None if client.mountpoint is not None else cast("Access", client._whole)

    def _interrupt(self) -> None:
        self._client._interrupt()

    def _read(self, query: RestQuery, no_cache: bool) -> Any:
        try:
            body = self._answer(query, no_cache)
        except NotFound as error:
            raise http_error(error, 404) from error
        if not isinstance(body, Mapping) or not body.keys() >= {"count", "results"}:
            return body
        rows = body["results"]
        count = body["count"]
        if not isinstance(rows, list) or not isinstance(count, int):
            raise ServerError(
                f"{self.base_url}/{query.path} did not answer with a list: check that the URL "
                "belongs to an Alyx server"
            )
        if len(rows) >= count or "offset" in query.filters:
            return rows
        return RestList(
            rows,
            count,
            lambda filters: self._page(query.with_filters(filters), no_cache),
            lambda seen: self._missing_rows(query, seen, no_cache),
            page_rows=query.page_rows,
        )

    @interruptible
    def _page(self, query: RestQuery, no_cache: bool) -> Mapping[str, Any]:
        body = self._answer(query, no_cache)
        return body if isinstance(body, Mapping) else {"count": len(body), "results": body}

    @interruptible
    def _missing_rows(self, query: RestQuery, seen: Container[str], no_cache: bool) -> list[Row]:
        """Return the rows of a list that none of its pages had. They are stored, as answers are.

        Return those that are known if Alyx does not answer, or has fewer rows than it says.
        """
        access = self._access
        if access is None:
            return []
        key = _key(query) + _MISSING_ROWS
        stored = _stored_answer(access, key)
        if stored is not None and self._may_reuse(access, query, stored[1], no_cache):
            rows = stored[0]
        else:
            try:
                rows = access.alyx.complete_rows(query.path, query.sent_filters)
            except Stopping:
                raise
            except OnefsError as error:
                log.info("rows that are on no page of a list are not known: %s", error)
                rows = [] if stored is None else stored[0]
            else:
                rows = [row for row in rows if any_key(row) not in seen]
                _store_answer(access, key, rows)
        return [row for row in rows if any_key(row) not in seen]

    def _may_reuse(
        self, access: Access, query: RestQuery, fetched_at: float, no_cache: bool
    ) -> bool:
        """Whether an answer of this time is used without a request."""
        if no_cache or (self.cache_mode is None and query.path != SCHEMA):
            return False
        return _is_fresh(access, query, fetched_at)

    def _answer(self, query: RestQuery, no_cache: bool = False) -> Any:
        """Return Alyx's answer, or what is known of it."""
        access = self._access
        if access is None:
            return self._known_answer(query, None)
        stored = _stored_answer(access, _key(query))
        if stored is not None and self._may_reuse(access, query, stored[1], no_cache):
            return stored[0]
        try:
            body = access.alyx.get_body(query.path, query.sent_filters)
        except UNAVAILABLE_ERRORS as error:
            if stored is None:
                return self._known_answer(query, error)
            log.warning("an answer of Alyx that was stored before is used: %s", error)
            return stored[0]
        _store_answer(access, _key(query), body)
        return body

    def _known_answer(self, query: RestQuery, trouble: Exception | None) -> Any:
        """Return an answer that is made from what the catalogue or the mount has.

        ``trouble`` is the error of the request, or None if no request can be sent.
        """
        from onefs.one.rest_known import known_answer

        client = self._client
        whole = client._view.whole
        answer = known_answer(whole.laboratory, whole.resolver(), client.url, query)
        if answer is not None:
            if trouble is not None:
                log.info("an answer is made from the catalogue, because of an error: %s", trouble)
            return answer
        if trouble is None:
            raise UsageError(
                f"{client.cache_dir} is another user's mount, which cannot answer {query}: run "
                "`onefs setup` to use the database with a login of your own"
            )
        raise Unreachable(
            f"{trouble}; the answer to {query} is neither stored nor in the catalogue"
        ) from trouble

    def _warn_of_unknown_filters(self, query: RestQuery, given: Mapping[str, Any]) -> None:
        """Warn of a filter that Alyx would ignore, so that the whole list would be the answer."""
        unknown = query.unusual_filters(given)
        if not unknown:
            return
        known = self._client._filter_names.get(query.path)
        if known is None:
            try:
                known = frozenset(self.rest_schemes.field_names(query.path, "list"))
            except OnefsError as error:
                log.info("the filters of Alyx are not known: %s", error)
                return
            self._client._filter_names[query.path] = known
        ignored = [name for name in unknown if name not in known]
        if ignored:
            warn(
                f"Alyx's endpoint {query.path} has no filter {', '.join(ignored)}, and ignores it: "
                "one.alyx.rest_schemes.field_names(endpoint, 'list') has the names of its filters"
            )


def _read_only(action: str, what: object) -> ReadOnly:
    return ReadOnly(f"onefs does not write to Alyx, so {action} of {ascii(what)[:80]} is refused")


def _key(query: RestQuery) -> str:
    return f"{REST_ANSWERS}{query.path}?{urlencode(sorted(query.filters.items()))}"


def _stored_answer(access: Access, key: str) -> tuple[Any, float] | None:
    try:
        stored = access.database.stored_answer(key)
        return None if stored is None else (json.loads(stored[0]), stored[1])
    except (CacheError, ValueError, RecursionError) as error:
        log.warning("a stored answer cannot be read: %s", error)
        return None


def _is_fresh(access: Access, query: RestQuery, fetched_at: float) -> bool:
    invalidated_at = max(access.database.invalidations().values(), default=0.0)
    ttl = SCHEMA_TTL_SECONDS if query.path == SCHEMA else ANSWER_TTL_SECONDS
    return fetched_at >= invalidated_at and 0 <= time.time() - fetched_at < ttl


def _store_answer(access: Access, key: str, body: Any) -> None:
    text = json.dumps(body)
    if len(text) > MAX_STORED_CHARACTERS:
        return
    try:
        access.database.store_rest_answer(key, text, time.time())
    except CacheError as error:
        log.warning("the answer cannot be stored for use while Alyx is unreachable: %s", error)

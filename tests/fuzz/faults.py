"""The grammar of faults: what a server can do wrong, or unusually, with any of its answers.

A fault is a JSON object: ``at`` which requests it is about, ``first`` how many of these are spared,
``times`` how many it strikes, ``what`` it does; the other keys depend on that.
"""

from __future__ import annotations

import string

from hypothesis import strategies as st

from tests.fuzz.server import ALWAYS
from tests.fuzz.specs import Json

#: servers, and endpoints of Alyx
PLACES = (
    "data", "data", "alyx", "all", "sessions", "datasets", "datasets", "subjects", "labs",
    "data-repository", "auth-token",
)  # fmt: skip
#: fields of Alyx's rows and pages; others are found by their number
FIELDS = (
    "id", "url", "name", "lab", "subject", "nickname", "number", "start_time", "projects",
    "task_protocol", "count", "next", "results", "file_size", "hash", "collection", "revision",
    "dataset_type", "default_dataset", "qc", "file_records", "data_url", "exists",
    "data_repository", "globus_is_personal", "session", "created_datetime", "auto_datetime",
    "token", "detail", "date_created", "min_api_version", "tables",
)  # fmt: skip
#: pieces that mean something to a parser of texts, URLs, headers, JSON or terminals
PIECES = (
    "a", "0", "é", "?", "&", "=", ";", " ", "\t", "%", "%zz", "%00", "[", "]", "[]", "{", "}",
    "[],", "{},", '"', "'", "\\", "/", "//", "..", ":", "://", "@", "#", ",", ".", "-", "_", "*",
    "<b>", "a=", "?a", "&token=", "&key", "a://", "a@", "a:b@", "Token ", "Basic ",
    "Authorization:", "Authorization: a ", "\n", "\r\n", "\r", "\x1b[2J", "\x00", "\x7f", "\u202e",
    "\ufeff", "\ud800", "²", "nan", "null", "1e9", "0x1", "::1", "127.0.0.1", "localhost", "99999",
    "true",
)  # fmt: skip
#: lengths of what is one piece again and again: up to 1 MB
SIZES = (0, 1, 10, 300, 5_000, 30_000, 60_000, 100_000, 300_000, 1_000_000)
#: the same of bodies, which may be packed: up to 64 MiB
LARGE_SIZES = (0, 100, 100_000, 1 << 20, 8 << 20, 32 << 20, 60 << 20)
STATUSES = (
    200, 100, 101, 102, 103, 150, 199, 200, 200, 201, 202, 203, 204, 205, 206, 206, 226, 299, 300,
    301, 302, 303, 304, 305, 307, 308, 399, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410,
    411, 412, 413, 414, 416, 418, 421, 422, 425, 426, 429, 431, 451, 499, 500, 501, 502, 503, 504,
    505, 507, 509, 520, 599, 600, 999, 0,
)  # fmt: skip
HEADERS = (
    "Location", "Retry-After", "Content-Type", "Content-Range", "Content-Length", "ETag",
    "Last-Modified", "WWW-Authenticate", "Content-Encoding", "Transfer-Encoding", "Connection",
    "Set-Cookie", "Date", "Accept-Ranges", "Link", "Server", "X-Fuzz", "Vary",
)  # fmt: skip
ENCODINGS = ("gzip", "deflate", "identity", "br", "compress", "gzip, gzip", "")
FRAMES = ("chunked", "close", "trickle", "stall", "nothing", "reset")
#: what these change of an answer, its receiver must not notice (RFC 9110, 15.2; RFC 9112, 4 and 7)
_UNNOTICED_FRAMES = ("chunked", "close", "trickle")
_PRINTABLE = frozenset(string.ascii_letters + string.digits + string.punctuation + " ")
_MODEST = 500


def texts(sizes: tuple[int, ...] = SIZES) -> st.SearchStrategy[Json]:
    """Short texts as they are, and long ones that repeat a piece."""
    pieces = st.one_of(
        st.sampled_from(PIECES), st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
    )
    free = st.text(max_size=12)
    repeated = st.fixed_dictionaries(
        {"token": st.one_of(pieces, pieces, free), "size": st.sampled_from(sizes)},
        optional={"before": pieces, "after": pieces},
    )
    return st.one_of(pieces, free, repeated, repeated)


def hosts() -> st.SearchStrategy[str]:
    """Hosts of URLs, whole and broken."""
    return st.lists(st.sampled_from(PIECES), min_size=0, max_size=4).map("".join)


def values() -> st.SearchStrategy[Json]:
    """Any value of JSON in the place of another."""
    urls = st.one_of(
        hosts().map(lambda host: {"$url": {"host": host}}),
        hosts().map(lambda path: {"$url": {"path": path}}),
        st.sampled_from(("ftp", "file", "", "HTTPS", "https", "javascript", "h ttp")).map(
            lambda scheme: {"$url": {"scheme": scheme}}
        ),
    )
    edits = st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(PIECES)).map(
        lambda edit: {"$edit": list(edit)}
    )
    numbers = st.one_of(
        st.integers(-5, 5),
        st.sampled_from((2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), -1)),
        st.sampled_from((20, 400, 4299, 4301, 100_000)).map(lambda n: {"$integer": "9" * n}),
        st.sampled_from(("1e999", "NaN", "-Infinity", "1.5", "-0")).map(
            lambda literal: {"$integer": literal}
        ),
    )
    nested = st.sampled_from((3, 900, 5_000, 100_000)).map(lambda depth: {"$nested": depth})
    plain = st.one_of(st.none(), st.booleans(), numbers, texts().map(lambda t: {"$text": t}))
    small = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.text(max_size=4))
    some = st.one_of(
        st.lists(small, max_size=3), st.dictionaries(st.sampled_from(FIELDS), small, max_size=3)
    )
    return st.one_of(plain, plain, urls, edits, nested, some)


def _headers(most: int = 3) -> st.SearchStrategy[Json]:
    pair = st.tuples(st.sampled_from(HEADERS), header_values()).map(list)
    return st.lists(pair, max_size=most)


def header_values() -> st.SearchStrategy[Json]:
    """Values of headers: odd ones, and some that are right for one of them."""
    right = st.sampled_from(
        (
            "text/html", "application/json", "0", "-1", "1", "3600", "bytes 0-0/1", "bytes */5",
            "bytes 0-99/99", "Basic realm=x", '"e"', "W/", "gzip", "chunked", "close",
            "Mon, 01 Jan 2024 00:00:00 GMT",
        )
    )  # fmt: skip
    addresses = st.tuples(st.sampled_from(("http://", "//", "https://", "/")), texts()).map(
        lambda both: _joined(*both)
    )
    return st.one_of(right, texts(), addresses)


def _joined(scheme: str, rest: Json) -> Json:
    if isinstance(rest, str):
        return scheme + rest
    return {**rest, "before": scheme + str(rest.get("before", ""))}


def _answers() -> st.SearchStrategy[Json]:
    """Whole answers in place of the true one."""
    details = st.tuples(st.sampled_from(("detail", "message", "session", "token")), texts()).map(
        lambda both: _in_json(*both)
    )
    pages = st.sampled_from(
        ("", "{}", "[]", "null", "0", "<html>", "Service temporarily unavailable", '{"count":1}')
    )
    return st.fixed_dictionaries(
        {
            "what": st.just("answer"),
            "status": st.sampled_from(STATUSES),
            "reason": st.one_of(st.just("OK"), texts(SIZES[:6])),
            "headers": _headers(),
            "body": st.one_of(details, pages, texts(LARGE_SIZES)),
        }
    )


def _in_json(key: str, inner: Json) -> Json:
    """The text of a JSON object with one text in it, when the text needs no escapes."""
    if isinstance(inner, str):
        inner = {"token": inner, "size": len(inner)}
    token = inner["token"].encode("ascii", "replace").decode()
    token = "".join(letter for letter in token if letter >= " " and letter not in '"\\') or "x"
    return {"before": f'{{"{key}": "', "token": token, "size": inner["size"], "after": '"}'}


def _bodies() -> st.SearchStrategy[Json]:
    offset = st.integers(0, 3000)
    field = st.fixed_dictionaries(
        {
            "how": st.just("field"),
            "key": st.sampled_from(FIELDS),
            "row": st.integers(0, 40),
            "change": st.sampled_from(("set", "set", "set", "set", "delete", "add", "double")),
            "value": values(),
        }
    )
    bodies = st.one_of(
        field,
        st.fixed_dictionaries({"how": st.just("cut"), "offset": offset}),
        st.fixed_dictionaries(
            {"how": st.just("flip"), "offset": offset, "mask": st.integers(1, 255)}
        ),
        st.fixed_dictionaries(
            {
                "how": st.just("insert"),
                "offset": offset,
                "removed": st.integers(0, 9),
                "text": texts(),
            }
        ),
        st.fixed_dictionaries({"how": st.just("twice"), "copies": st.sampled_from((0, 2, 1000))}),
        st.fixed_dictionaries({"how": st.just("text"), "text": texts(LARGE_SIZES)}),
    )
    return st.one_of(field, field, bodies).map(lambda how: {"what": "body", **how})


def _interims() -> st.SearchStrategy[Json]:
    statuses = st.sampled_from([status for status in STATUSES if 100 <= status < 200])
    head = st.fixed_dictionaries(
        {
            "status": st.one_of(statuses, st.integers(100, 199)),
            "reason": st.one_of(
                st.sampled_from(("Processing", "Early Hints", "")), texts(SIZES[:6])
            ),
            "headers": _headers(2),
        }
    )
    return st.lists(head, min_size=1, max_size=3).map(
        lambda heads: {"what": "before", "heads": heads}
    )


def _of_the_wire() -> st.SearchStrategy[Json]:
    return st.one_of(
        st.fixed_dictionaries({"what": st.just("frame"), "frame": st.sampled_from(FRAMES)}),
        st.fixed_dictionaries(
            {
                "what": st.just("length"),
                "says": st.sampled_from((0, 1, 10, 10**6, 10**12, -1, "x", "1, 2", "9" * 400)),
            }
        ),
        st.fixed_dictionaries(
            {
                "what": st.just("encoding"),
                "says": st.sampled_from(ENCODINGS),
                "is": st.sampled_from(ENCODINGS),
            }
        ),
    )


def _columns() -> st.SearchStrategy[Json]:
    """Cache tables with an odd column, or odd bytes."""
    small = st.one_of(
        st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.sampled_from(PIECES),
        texts(SIZES[:6]).map(lambda t: {"$text": t}), st.booleans(),
    )  # fmt: skip
    return st.fixed_dictionaries(
        {
            "what": st.just("body"),
            "how": st.just("tables"),
            "change": st.sampled_from(("set", "set", "rename", "delete")),
            "table": st.integers(0, 1),
            "column": st.integers(0, 20),
            "text": texts(SIZES[:5]),
            "values": st.lists(small, min_size=1, max_size=3),
        }
    )


def faults() -> st.SearchStrategy[Json]:
    """One fault."""
    times = st.sampled_from((1, 1, 1, 2, 5, ALWAYS))
    where = st.fixed_dictionaries(
        {"at": st.sampled_from(PLACES), "first": st.sampled_from((0, 0, 0, 1, 2)), "times": times}
    )
    header = st.fixed_dictionaries(
        {"what": st.just("header"), "name": st.sampled_from(HEADERS), "value": header_values()}
    )
    status = st.fixed_dictionaries(
        {
            "what": st.just("status"),
            "status": st.sampled_from(STATUSES),
            "reason": st.one_of(st.just("OK"), texts(SIZES[:6])),
        }
    )
    what = st.one_of(
        _answers(), _answers(), _bodies(), _bodies(), header, status, _interims(), _of_the_wire()
    )
    return st.tuples(where, what).map(lambda both: {**both[0], **both[1]})


def faults_of_tables() -> st.SearchStrategy[Json]:
    """One fault of the cache tables, in their bytes or in a column."""
    what = st.one_of(_columns(), _columns(), _bodies(), _answers(), _of_the_wire())
    where = st.sampled_from(("cache.zip", "cache.zip", "cache.zip", "cache"))
    return st.tuples(where, what).map(
        lambda both: {"at": both[0], "first": 0, "times": 1, **both[1]}
    )


def is_harmless(fault: Json) -> bool:
    """Whether a receiver that keeps to RFC 9110 and 9112 does not notice the fault."""
    what = fault["what"]
    if what == "before":
        return len(fault["heads"]) <= 3 and all(map(_is_interim, fault["heads"]))
    if what == "frame":
        return fault["frame"] in _UNNOTICED_FRAMES
    if what == "header":
        return fault["name"] in ("X-Fuzz", "Server", "Link") and _is_modest(fault["value"])
    return False


def _is_interim(head: Json) -> bool:
    """A provisional answer that is none of another protocol's, and no longer than usual."""
    short = _is_modest(head["reason"]) and len(head["headers"]) <= 2
    # what a provisional answer says of its body or connection would be nonsense
    plain = all(
        name in ("Link", "Server", "X-Fuzz", "Date", "Vary") and _is_modest(value)
        for name, value in head["headers"]
    )
    return head["status"] != 101 and short and plain


def _is_modest(given: Json) -> bool:
    return isinstance(given, str) and len(given) < _MODEST and _PRINTABLE.issuperset(given)

"""The grammar of faults: what a server can do wrong, or unusually, with any of its answers.

A fault is a JSON object: ``at`` which requests it is about, ``first`` how many of these are spared,
``times`` how many it strikes, ``what`` it does; the other keys depend on that.
"""

from __future__ import annotations

import string

from hypothesis import strategies as st

from tests.fuzz.odd_values import (
    FIELDS,
    LARGE_SIZES,
    LINES,
    PIECES,
    SIZES,
    lists_of_json,
    long_texts,
    texts,
    urls,
    values,
    weighted,
)
from tests.fuzz.server import ALWAYS
from tests.fuzz.specs import Json

#: servers, and endpoints of Alyx
PLACES = (
    "data", "data", "alyx", "all", "sessions", "datasets", "datasets", "subjects", "labs",
    "data-repository", "auth-token",
)  # fmt: skip
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
_MOST_HEADER_BYTES = 500


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
    return weighted((1, right), (1, texts()), (1, addresses))


def _joined(scheme: str, rest: Json) -> Json:
    if isinstance(rest, str):
        return scheme + rest
    return {**rest, "before": scheme + str(rest.get("before", ""))}


def _answers() -> st.SearchStrategy[Json]:
    """Whole answers in place of the true one."""
    keys = st.sampled_from(("detail", "detail", "detail", "message", "session", "token"))
    details = st.tuples(keys, weighted((1, texts()), (2, long_texts(SIZES[3:])))).map(
        lambda both: _in_json(*both)
    )
    pages = st.sampled_from(
        ("", "{}", "[]", "null", "0", "<html>", "Service temporarily unavailable", '{"count":1}')
    )
    return st.fixed_dictionaries(
        {
            "what": st.just("answer"),
            "status": st.sampled_from(STATUSES),
            "reason": weighted((2, st.just("OK")), (1, texts(LINES))),
            "headers": _headers(),
            "body": weighted((4, details), (2, pages), (1, texts()), (2, lists_of_json())),
        },
        optional={"packed": st.just("gzip")},
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
    return weighted((2, field), (1, bodies)).map(lambda how: {"what": "body", **how})


def _of_urls() -> st.SearchStrategy[Json]:
    """A URL in a row that leads elsewhere, or nowhere."""
    return st.fixed_dictionaries(
        {
            "what": st.just("body"),
            "how": st.just("field"),
            "key": st.sampled_from(("data_url", "data_url", "data_url", "url", "next", "session")),
            "row": st.integers(0, 40),
            "change": st.just("set"),
            "value": urls(),
        }
    )


def _interims() -> st.SearchStrategy[Json]:
    statuses = st.sampled_from([status for status in STATUSES if 100 <= status < 200])
    reasons = st.sampled_from(("Processing", "Early Hints", "OK", ""))
    links = st.lists(st.just(["Link", "</a>; rel=preload"]), max_size=2)
    head = st.fixed_dictionaries(
        {
            "status": weighted((3, statuses), (1, st.integers(100, 199))),
            "reason": weighted((5, reasons), (1, texts(LINES))),
            "headers": weighted((3, links), (1, _headers(2))),
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
        texts(LINES).map(lambda t: {"$text": t}), st.booleans(),
    )  # fmt: skip
    return st.fixed_dictionaries(
        {
            "what": st.just("body"),
            "how": st.just("tables"),
            "change": st.sampled_from(("set", "set", "rename", "delete")),
            "table": st.integers(0, 1),
            "column": st.integers(0, 20),
            "text": texts(LINES),
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
            "reason": weighted((2, st.just("OK")), (1, texts(LINES))),
        }
    )
    what = weighted(
        (4, _answers()),
        (3, _bodies()),
        (1, header),
        (1, status),
        (2, _interims()),
        (1, _of_the_wire()),
    )
    of_urls = _of_urls().map(
        lambda how: {"at": "data-repository" if how["row"] % 7 == 0 else "datasets", **how}
    )
    rest = st.fixed_dictionaries({"first": st.sampled_from((0, 0, 1)), "times": times})
    led_astray = st.tuples(of_urls, rest).map(lambda both: {**both[0], **both[1]})
    anything = st.tuples(where, what).map(lambda both: {**both[0], **both[1]})
    return weighted((8, anything), (2, led_astray))


def faults_of_tables() -> st.SearchStrategy[Json]:
    """One fault of the cache tables, in their bytes or in a column."""
    what = weighted((4, _columns()), (2, _bodies()), (1, _answers()), (1, _of_the_wire()))
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
        return fault["name"] in ("X-Fuzz", "Server", "Link") and _is_short(fault["value"])
    return False


def _is_interim(head: Json) -> bool:
    """A provisional answer that is none of another protocol's, and no longer than usual."""
    short = _is_short(head["reason"]) and len(head["headers"]) <= 2
    # what a provisional answer says of its body or connection would be nonsense
    plain = all(
        name in ("Link", "Server", "X-Fuzz", "Date", "Vary") and _is_short(value)
        for name, value in head["headers"]
    )
    return head["status"] != 101 and short and plain


def _is_short(given: Json) -> bool:
    return (
        isinstance(given, str) and len(given) < _MOST_HEADER_BYTES and _PRINTABLE.issuperset(given)
    )

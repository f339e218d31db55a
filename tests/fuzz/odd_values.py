"""The grammar of odd texts and odd values."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from tests.fuzz.specs import Json

T = TypeVar("T")

#: fields of Alyx's rows and pages; others are found by their number
FIELDS = (
    "id", "url", "name", "lab", "subject", "nickname", "number", "start_time", "projects",
    "task_protocol", "count", "next", "results", "file_size", "hash", "collection", "revision",
    "dataset_type", "default_dataset", "qc", "file_records", "data_url", "exists",
    "data_repository", "globus_is_personal", "session", "created_datetime", "auto_datetime",
    "token", "detail", "date_created", "min_api_version", "tables",
)  # fmt: skip
#: pieces of texts that mean something to some parser, by what they are
LETTERS = ("a", "0", "_", "é", "true", "null", "nan", "1e9", "0x1", "²")
OF_URLS = (
    "?", "&", "=", "?a", "a=", "&a=", "&token=", "&key", "%", "%zz", "%00", "#", ";", "/", "//",
    "..", ":", "://", "a://", "@", "a@", "a:b@", ".", "-", "~", "+",
)  # fmt: skip
OF_HOSTS = (
    "[", "]", "[::1", "[::", "::1]", "[]", "::1", "[::1]", "127.0.0.1", "localhost", ":", ":0",
    ":99999", ":x", "@", "a@", "%", "%41", "é", "xn--", " ", "\t", "#", "?", "\\", ".", "..", "-",
    "a", "",
)  # fmt: skip
OF_JSON = ("[", "]", "[]", "{", "}", "[],", "{},", '"', '"a":', ",", "\\", "\\u")
OF_HEADERS = (
    "Token ",
    "Basic ",
    "Authorization:",
    "Authorization: a ",
    "a=",
    "<b>",
    "*",
    "W/",
    "'",
)
CONTROLS = (
    " ", "\t", "\n", "\r\n", "\r", "\x00", "\x1b[2J", "\x7f", "\x85", "\u202e", "\u2028", "\ufeff",
    "\ud800",
)  # fmt: skip
PIECES = (*LETTERS, *OF_URLS, *OF_HOSTS, *OF_JSON, *OF_HEADERS, *CONTROLS)
#: lengths of what is one piece again and again: up to 1 MB
SIZES = (0, 1, 10, 300, 5_000, 20_000, 60_000, 100_000, 300_000, 1_000_000)
#: such as fit into a line of HTTP
LINES = SIZES[:7]
#: lengths of bodies, which may be packed: up to 60 MiB
LARGE_SIZES = (0, 100, 100_000, 1 << 20, 8 << 20, 32 << 20, 60 << 20)


def weighted(*choices: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of several, each as often as its weight says.

    hypothesis's ``one_of`` makes nested choices flat and drops what is given twice.
    """
    bowl = [choice for weight, choice in choices for _ in range(weight)]
    return st.integers(0, len(bowl) - 1).flatmap(bowl.__getitem__)


def pieces() -> st.SearchStrategy[str]:
    """One piece, or a few that were put together."""
    groups = (LETTERS, OF_URLS, OF_JSON, OF_HEADERS, CONTROLS)
    one = weighted(*((1, st.sampled_from(group)) for group in groups))
    return weighted((3, one), (1, st.lists(st.sampled_from(PIECES), max_size=4).map("".join)))


def long_texts(sizes: tuple[int, ...] = SIZES) -> st.SearchStrategy[Json]:
    """Texts that repeat a piece."""
    return st.fixed_dictionaries(
        {
            "token": weighted((4, pieces()), (1, st.text(max_size=12))),
            "size": st.sampled_from(sizes),
        },
        optional={"before": pieces(), "after": pieces()},
    )


def texts(sizes: tuple[int, ...] = SIZES) -> st.SearchStrategy[Json]:
    """Short texts as they are, and long ones that repeat a piece."""
    return weighted((2, pieces()), (1, st.text(max_size=12)), (4, long_texts(sizes)))


def lists_of_json() -> st.SearchStrategy[Json]:
    """Valid JSON: a list of one value again and again, up to 60 MiB."""
    values_ = (
        "[]",
        "{}",
        "0",
        "null",
        '""',
        '"a"',
        '{"a":0}',
        "[[]]",
        "1e9",
        "[0,0]",
        '{"id":"a"}',
    )
    around = (("[", "]"), ('{"results":[', "]}"), ('{"count":1,"next":null,"results":[', "]}"))
    return st.tuples(
        st.sampled_from(values_), st.sampled_from(LARGE_SIZES), st.sampled_from(around)
    ).map(
        lambda of: {
            "before": of[2][0],
            "token": f"{of[0]},",
            "size": of[1],
            "after": of[0] + of[2][1],
        }
    )


def urls() -> st.SearchStrategy[Json]:
    """A URL in which a part is another one, or broken."""
    hosts = st.lists(st.sampled_from(OF_HOSTS), max_size=3).map("".join)
    paths = st.lists(st.sampled_from(OF_URLS), max_size=3).map("".join)
    schemes = st.sampled_from(("ftp", "file", "", "HTTPS", "https", "javascript", "h ttp"))
    return weighted(
        (3, hosts.map(lambda host: {"$url": {"host": host}})),
        (1, paths.map(lambda path: {"$url": {"path": path}})),
        (1, schemes.map(lambda scheme: {"$url": {"scheme": scheme}})),
    )


def values() -> st.SearchStrategy[Json]:
    """Any value of JSON in the place of another."""
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
    return weighted((5, plain), (2, urls()), (2, edits), (1, nested), (2, some))

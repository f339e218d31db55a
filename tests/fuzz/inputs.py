"""Whole inputs: what the server does, and what the user does meanwhile."""

from __future__ import annotations

from hypothesis import strategies as st

from onefs.search.vocabulary import ALIASES, VOCABULARY
from tests.fuzz.faults import faults, faults_of_tables
from tests.fuzz.odd_values import (
    PIECES,
    SIZES,
    texts,
    values,
    weighted,
)
from tests.fuzz.specs import Json

_TREE = (
    ("labone",), ("labone", "mouse.1"), ("labone", "mouse.1", "2021-03-04"),
    ("labone", "mouse.1", "2021-03-04", "001"), ("labone", "mouse.1", "2021-03-04", "001", "alf"),
    (".by-eid",), (".by-ref",), (".search",), (".as-of",), (".one",), (".rest",), (),
)  # fmt: skip
_VERBS = ("list", "eid", "ref", "path", "session", "describe")
_SUFFIXES = (
    ".npy", ".npz", ".json", ".jsonable", ".csv", ".tsv", ".htsv", ".ssv", ".pqt", ".parquet", ".x"
)  # fmt: skip
_HEADS = (
    "",
    "934e554d5059",
    "934e554d50590100",
    "504b0304",
    "50415231",
    "1f8b08",
    "efbbbf",
    "fffe",
)


def _names() -> st.SearchStrategy[Json]:
    """Names of any bytes, as the kernel gives them, and such as mean something."""
    return st.one_of(
        st.binary(min_size=1, max_size=40).map(
            lambda raw: raw.replace(b"\0", b"_").decode("utf-8", "surrogateescape")
        ),
        texts((1, 10, 255)),
        st.sampled_from(
            (
                "2019-13-45_1_X", "2021-03-04_1_mouse.1", "2021-03-04_²_mouse.1", "2021-99-99",
                "0000-00-00", "001", "1", "~", "001~00000000", "..%2f", ".datasets.tsv",
                "session.json", "2021-03-04_99999999999999999999_x", "as-of",
                "00000000-0000-0000-0000-000000000000",
            )
        ),
    )  # fmt: skip


def searches() -> st.SearchStrategy[str]:
    """Names of folders in ``.search``: the grammar, bent."""
    names = st.one_of(st.sampled_from([*VOCABULARY, *ALIASES]), st.sampled_from(PIECES))
    given = st.one_of(
        st.sampled_from(("labone", "mouse.1", "2021-03-04", "2021-03-04,", "1", "1,2", "a,b")),
        st.lists(st.sampled_from(PIECES), max_size=4).map("".join),
    )
    pair = st.tuples(names, st.sampled_from(("=", "=", "=", "==", "")), given).map("".join)
    return st.lists(pair, max_size=3).map("&".join)


def _questions() -> st.SearchStrategy[Json]:
    """What a user asks for oddly: names, searches, verbs, files."""
    path = st.tuples(st.sampled_from(_TREE), st.lists(_names(), max_size=2)).map(
        lambda both: {"do": "path", "path": [*both[0], *both[1]]}
    )
    search = st.tuples(searches(), st.sampled_from(((), (".eids",), (".paths",)))).map(
        lambda both: {"do": "path", "path": [".search", both[0], *both[1]]}
    )
    verb = st.fixed_dictionaries(
        {
            "do": st.just("verb"),
            "verb": st.sampled_from(_VERBS),
            "arguments": st.lists(values(), min_size=1, max_size=1),
        }
    )
    terms = st.lists(st.tuples(st.sampled_from(list(VOCABULARY)), values()).map(list), max_size=2)
    asked = terms.map(lambda t: {"do": "verb", "verb": "search", "terms": t, "arguments": []})
    reader = st.fixed_dictionaries(
        {
            "do": st.just("reader"),
            "suffix": st.sampled_from(_SUFFIXES),
            "head": st.sampled_from(_HEADS),
            "body": texts(SIZES),
            "mmap": st.booleans(),
        }
    )
    return weighted((3, path), (2, search), (2, verb), (2, asked), (2, reader))


def _uses() -> st.SearchStrategy[Json]:
    """What a user does all day."""
    types = st.sampled_from((None, "licks.times", "spikes.times", "*"))
    load = types.map(lambda given: {"do": "load", "types": given})
    found = {"do": "path", "path": [".search", "lab=labone"]}
    return weighted(
        (5, st.just({"do": "walk"})),
        (2, load),
        (1, st.just({"do": "refresh"})),
        (1, st.just(found)),
    )


def inputs() -> st.SearchStrategy[Json]:
    """Whole inputs: most are about what servers say to everyday questions."""
    some = weighted((1, faults().map(_alone)), (1, st.lists(faults(), min_size=1, max_size=3)))
    lied = _input(some, st.lists(_uses(), min_size=1, max_size=2))
    asked = _input(st.lists(faults(), max_size=1), st.lists(_questions(), min_size=1, max_size=3))
    sync = st.just([{"do": "sync"}])
    tables = _input(st.lists(faults_of_tables(), min_size=1, max_size=2), sync)
    return weighted((12, lied), (3, asked), (1, tables))


def _alone(fault: Json) -> Json:
    return [fault]


def _input(
    faults: st.SearchStrategy[Json], does: st.SearchStrategy[Json]
) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {"faults": faults, "operations": does, "early": st.booleans(), "reopen": st.booleans()}
    )

"""Tests of hostile values in every method: each gives a named error or a result, and no request
for a whole table."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onefs.cli.search import _TERM_FLAGS
from onefs.demo.rest.session_filters import SESSION_FILTERS
from onefs.demo.servers import Servers
from onefs.errors import OnefsError, UsageError
from onefs.one import ONE
from onefs.search.vocabulary import (
    ALIASES,
    VOCABULARY,
    Query,
    parse_terms,
    parse_text,
)
from tests.one.conftest import EID, REF

#: texts that break what is careless with them
NASTY = [
    "", " ", ",", ",,", "a,", "&", "=", "%", "%2C", "%zz", "#", "?", "/", "..", "\0", "\n",
    "\x1b[2J", "\ud800", "é", "ẞ", "\u202e", "'", '"', "';--", "None", "True", "-1", "1e999",
    "nan", "inf",
    "x" * 5000, "0" * 400, "id__in,[", "~", "a,b", "[1]", "__class__,1", "2018-08-24", "2018-13-45",
    "0000-00-00", "9999-99-99", "-", "--help", EID, REF, "*", "$(id)", "${IFS}", "../../etc/passwd",
    "/etc/passwd", "\\", "|", "clns0730", "spikes.times", "mainenlab",
]  # fmt: skip


class Hostile:
    """An object that raises an error for each operation."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__

    def __iter__(self) -> Any:
        raise RuntimeError("no")

    def __index__(self) -> int:
        raise RuntimeError("no")

    __float__ = __index__


HOSTILE = Hostile()
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=30))
scalars = st.one_of(
    texts,
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.binary(max_size=5),
    st.dates(),
    st.datetimes(),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from(
        [object(), np.datetime64("NaT"), np.arange(2), np.int8(3), Path("."), {}, {"a": 1}, set(),
         range(3), int, date.min, datetime.max, np.str_("clns0730"), ...]
    ),
)  # fmt: skip
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.tuples(scalars, scalars))
terms = st.one_of(st.sampled_from([*VOCABULARY, *ALIASES]), texts)

check = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def outcome(call: Callable[[], Any]) -> Any:
    """Return the result of a call, or its named error. Any other error fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except OnefsError as error:
            found = error
    assert str(found)
    assert "\n" not in str(found)
    return found


def assert_no_unfiltered_request(servers: Servers) -> None:
    """Check that each request for sessions or datasets has a value for a filter of Alyx."""
    for each in servers.requests:
        parts = urlsplit(each.path)
        if parts.path not in ("/sessions", "/datasets"):
            continue
        query = parse_qs(parts.query, keep_blank_values=True)
        known = {*SESSION_FILTERS, "session"} & query.keys()
        assert known, each.path
        assert all(query[name][-1].strip(" ,") for name in known), each.path


@check
@given(given_terms=st.dictionaries(terms, values, min_size=1, max_size=3))
def test_any_search_gives_a_result_or_a_sentence(
    shared: ONE, servers: Servers, given_terms: dict[str, Any]
) -> None:
    servers.clear_requests()
    for name in ("details", "limit"):
        given_terms.pop(name, None)
    found = outcome(lambda: shared.search(**given_terms))
    assert isinstance(found, (list, OnefsError))
    assert_no_unfiltered_request(servers)


@check
@given(
    name=st.sampled_from(list(VOCABULARY)),
    value=st.sampled_from([HOSTILE, [HOSTILE], (None, HOSTILE)]),
)
def test_values_that_raise_are_usage_errors(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        parse_terms({name: value})


@check
@given(limit=values, details=values)
def test_any_limit_and_details_give_a_result_or_a_sentence(
    shared: ONE, limit: Any, details: Any
) -> None:
    outcome(lambda: shared.search(subject="clns0730", limit=limit, details=details))


@check
@given(eid=values, keyword=values, details=values)
def test_any_list_gives_a_result_or_a_sentence(
    shared: ONE, servers: Servers, eid: Any, keyword: Any, details: Any
) -> None:
    servers.clear_requests()
    outcome(lambda: shared.list(eid, keyword, details))
    outcome(lambda: shared.list(EID, keyword))
    assert_no_unfiltered_request(servers)


@check
@given(eid=values, types=values, collection=values, revision=values)
def test_any_load_gives_a_result_or_a_sentence(
    shared: ONE, servers: Servers, eid: Any, types: Any, collection: Any, revision: Any
) -> None:
    servers.clear_requests()
    outcome(lambda: shared.load(eid, types, collection=collection, revision=revision))
    if types is not None:
        outcome(lambda: shared.load(EID, types, collection=collection, revision=revision))
    assert_no_unfiltered_request(servers)


@check
@given(name=values)
def test_any_name_gives_a_result_or_a_sentence(shared: ONE, servers: Servers, name: Any) -> None:
    servers.clear_requests()
    for verb in (shared.eid, shared.ref, shared.path, shared.session, shared.describe):
        outcome(lambda verb=verb: verb(name))  # type: ignore[misc]
    assert_no_unfiltered_request(servers)


ARGUMENTS = ("username", "password", "token", "profile", "data_username", "data_password")


@check
@given(given_arguments=st.dictionaries(st.sampled_from(ARGUMENTS), scalars, max_size=3))
def test_any_arguments_of_one_give_a_result_or_a_sentence(
    servers: Servers, given_arguments: dict[str, Any]
) -> None:
    found = outcome(lambda: ONE(base_url=servers.alyx_url, silent=True, **given_arguments))
    if isinstance(found, ONE):
        found.close()


@check
@given(text=st.one_of(texts, st.lists(st.tuples(terms, texts), max_size=3).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))))  # fmt: skip
def test_any_name_of_a_search_folder_is_a_query_or_an_error(text: str) -> None:
    query = outcome(lambda: parse_text(text))
    if isinstance(query, Query):
        assert query.values
        assert parse_text(str(query)) == query


@check
@given(st.dictionaries(st.sampled_from(list(VOCABULARY)), values, min_size=1, max_size=3))
def test_a_query_is_read_back_from_its_name(given_terms: dict[str, Any]) -> None:
    query = outcome(lambda: parse_terms(given_terms))
    if isinstance(query, Query):
        assert parse_text(str(query)) == query
        assert "/" not in str(query)


def test_every_term_has_a_flag() -> None:
    assert list(_TERM_FLAGS) != []
    assert set(_TERM_FLAGS) == set(VOCABULARY)


@pytest.mark.parametrize("value", [UUID(EID), EID])
def test_the_fuzz_includes_valid_values(shared: ONE, value: Any) -> None:
    assert outcome(lambda: shared.ref(value)) == REF

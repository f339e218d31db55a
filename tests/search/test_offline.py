"""Searches that the catalogue answers without Alyx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.model import Session
from onefs.search import offline
from onefs.search.vocabulary import parse_terms

ROW = {
    "id": "cf264653-2deb-44cb-aa84-89b82507028a",
    "subject": "clns0730",
    "start_time": "2018-08-24T14:27:19",
    "number": 1,
    "lab": "mainenlab",
    "projects": ["ibl_tutorial", "other"],
    "task_protocol": "spontaneous_wheel1.0.0",
}


@pytest.mark.parametrize(
    ("terms", "holds"),
    [
        ({"subject": "CLNS0730"}, True),
        ({"subject": ["x", "clns0730"]}, True),
        ({"subject": "clns073"}, False),
        ({"lab": "mainenlab"}, True),
        ({"lab": "zadorlab"}, False),
        ({"date": "2018-08-24"}, True),
        ({"date": "2018-08-25"}, False),
        ({"date": [None, "2018-08-24"]}, True),
        ({"number": "001"}, True),
        ({"number": 2}, False),
        ({"project": "TUTOR"}, True),
        ({"project": "ibl_tutorial,other"}, False),
        ({"task": "WHEEL"}, True),
        ({"task": "choice"}, False),
        ({"users": "who knows", "tag": "x"}, True),
    ],
)
def test_rows_are_checked_again(terms: dict[str, Any], holds: bool) -> None:
    assert offline.is_match(ROW, parse_terms(terms)) is holds


def test_rows_of_old_servers_lack_columns() -> None:
    old = {name: ROW[name] for name in ("id", "subject", "start_time", "number")}
    assert offline.is_match(
        old, parse_terms({"lab": "any", "project": "p", "task": "t", "number": 1})
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CatalogueDatabase]:
    made = CatalogueDatabase(tmp_path / "catalogue.sqlite")
    made.store_search_results(
        [
            (session("1", subject="ẞtraße", date="2020-01-01"), True),
            (session("2", subject="a%b", date="2020-01-02"), True),
            (session("3", subject="aXb", date="2020-01-03", protocol="p_q"), True),
            (session("4", subject="aXb", date="2020-01-04", protocol="pxq", number=-1), False),
        ]
    )
    yield made
    made.close()


def session(digit: str, *, subject: str, date: str, protocol: str = "", number: int = 1) -> Session:
    eid = f"00000000-0000-4000-8000-00000000000{digit}"
    return Session(eid, "lab", subject, date, number, float(digit), protocol)


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        ({"lab": "LAB"}, "4321"),
        ({"subject": "SStraße"}, "1"),
        ({"subject": "a%b"}, "2"),
        ({"subject": "AXB"}, "43"),
        ({"task": "p_q"}, "3"),
        ({"task": "P"}, "43"),
        ({"number": 1}, "321"),
        ({"date": ["2020-01-02", "2020-01-03"]}, "32"),
        ({"dataset_types": "spikes.times"}, ""),
    ],
)
def test_the_catalogue_searches_as_alyx_does(
    database: CatalogueDatabase, terms: dict[str, Any], found: str
) -> None:
    assert [eid[-1] for eid in offline.search_catalogue(database, parse_terms(terms))] == list(
        found
    )


def test_a_suggestion(database: CatalogueDatabase) -> None:
    assert "'aXb'" in offline.suggest_names(database, parse_terms({"subject": "aXc"}))
    assert offline.suggest_names(database, parse_terms({"subject": "aXb"})) == ""
    assert offline.suggest_names(database, parse_terms({"users": "aXc"})) == ""


def test_answers_asked_for_longest_ago_are_dropped(database: CatalogueDatabase) -> None:
    for number in range(5):
        database.store_answer(f"k{number}", "[]", float(number), keep=3)
    kept = [number for number in range(5) if database.stored_answer(f"k{number}") is not None]
    assert kept == [2, 3, 4]
    assert database.stored_answer("k4") == ("[]", 4.0)


def test_answers_of_the_rest_interface_have_a_pool_of_their_own(
    database: CatalogueDatabase,
) -> None:
    database.store_answer("search", "[]", 0.0, keep=3)
    for number in range(100):
        database.store_rest_answer(f"rest/{number}", "x" * 500, 1.0 + number, most_bytes=20_000)
    kept = [number for number in range(100) if database.stored_answer(f"rest/{number}")]
    assert kept == list(range(100 - len(kept), 100))
    assert 10 < len(kept) < 20
    # an answer that is replaced does not drop others for ever
    for number in range(100):
        database.store_rest_answer("rest/99", "x" * 500, 200.0 + number, most_bytes=20_000)
    assert len([n for n in range(100) if database.stored_answer(f"rest/{n}")]) > 10
    database.store_rest_answer("rest/large", "x" * 30_000, 400.0, most_bytes=20_000)
    assert database.stored_answer("rest/large")
    for number in range(3):
        database.store_answer(f"k{number}", "[]", 500.0, keep=4)
    assert database.stored_answer("search") == ("[]", 0.0)
    assert database.stored_answer("rest/large")

"""An invalid row affects itself only, and a damaged stored row is requested again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.errors import NotFound, ServerError
from onefs.http import Transport
from onefs.lowlevel.lazy import Lazy
from onefs.search.queries import SessionQueries
from onefs.search.vocabulary import parse_terms
from tests.alyx.conftest import WrittenAlyx
from tests.catalogue.test_catalogue import (
    Clock,
    Make,
    clock,
    make,
)
from tests.catalogue.test_flaky_server import (
    EIDS,
    FlakyAlyx,
    dataset_row,
    flaky_alyx,
    listed,
    session_row,
)
from tests.catalogue.test_malformed_answers import (
    COLUMNS,
    GOOD,
    ODD_VALUES,
    SESSION,
)

__all__ = ["clock", "flaky_alyx", "make"]  # fixtures of this module too

#: data_urls that cannot be asked for, or that parsers choke on
ADDRESSES: list[Any] = [
    *(
        "http://[::1/",
        "http://[",
        "http://h:99999/a.npy",
        "http://h:x/a.npy",
        "http://",
        "http:///",
    ),
    *("http://h/\ud800", "http://h/\udcff\ud800"),
    *("http://[fe80::1%25eth0]/a", "https://\ud800/a", "http://h\0/a", "http://\n/a", "//h/a"),
    *(5, True, 1e400, [], {}, ["http://h/"], "http://" + "a" * 70_000, "HTTP://]/"),
]
#: a second row of each list, and what the list gives of it
OTHER: dict[str, dict[str, Any]] = {
    "/labs": {"name": "other"},
    "/subjects": {"nickname": "other", "lab": "a"},
    "/data-repository": {"name": "other", "data_url": "", "globus_is_personal": True},
    "/sessions": session_row(EIDS[1]),
    "/datasets": {**dataset_row(EIDS[0]), "name": "other.b.npy", "url": f"http://a/{EIDS[7]}"},
}
NAMES: dict[str, Callable[[Catalogue], list[str]]] = {
    "/labs": lambda catalogue: catalogue.labs().value,
    "/subjects": lambda catalogue: catalogue.subjects("a").value,
    "/data-repository": lambda catalogue: list(catalogue.repositories().value),
    "/sessions": lambda catalogue: [each.eid for each in catalogue.sessions("a", "s").value],
    "/datasets": lambda catalogue: [each.name for each in catalogue.datasets(SESSION).value],
}
EXPECTED = {**dict.fromkeys(NAMES, "other"), "/sessions": EIDS[1], "/datasets": "other.b.npy"}
LISTS = {
    "/labs": "labs",
    "/subjects": "subjects/a",
    "/data-repository": "repositories",
    "/sessions": "sessions/a/s",
    "/datasets": f"datasets/{EIDS[0]}",
}
NESTED: Any = json.loads("[" * 500 + "]" * 500)
ODD = [*ODD_VALUES, -(2**63) - 1, 10**400, -1e400, NESTED, {"\ud800": "\udfff"}, ["\ud800"]]


@pytest.mark.parametrize(
    ("endpoint", "column"), [(e, c) for e, columns in COLUMNS.items() for c in columns]
)
def test_the_other_rows_are_listed(
    make: Make, flaky_alyx: FlakyAlyx, endpoint: str, column: str
) -> None:
    for value in [*ODD, *(ADDRESSES if column == "data_url" else [])]:
        odd = {**GOOD[endpoint], column: value}
        flaky_alyx.written.answer(endpoint, 200, listed([odd, OTHER[endpoint]]))
        catalogue = make(flaky_alyx.written)
        assert EXPECTED[endpoint] in NAMES[endpoint](catalogue), repr(value)[:80]
        catalogue._database.expire_listing(LISTS[endpoint])
        catalogue.close()


@pytest.mark.parametrize("endpoint", LISTS)
@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, {"id": 5}], ids=repr)
def test_a_value_that_is_not_a_row_is_left_out_with_a_log_line(
    make: Make, flaky_alyx: FlakyAlyx, endpoint: str, odd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    flaky_alyx.written.answer(endpoint, 200, listed([OTHER[endpoint], odd]))
    assert NAMES[endpoint](make(flaky_alyx.written)) == [EXPECTED[endpoint]]
    assert len([line for line in caplog.messages if "left out" in line]) == 1


@pytest.mark.parametrize("endpoint", LISTS)
def test_a_list_of_invalid_rows_only_is_not_an_empty_list(
    make: Make, flaky_alyx: FlakyAlyx, endpoint: str
) -> None:
    flaky_alyx.written.answer(endpoint, 200, listed([{"lab": "a"}, {"lab": "a", "odd": 1}]))
    with pytest.raises(ServerError, match="Alyx sent a row without"):
        NAMES[endpoint](make(flaky_alyx.written))


@pytest.mark.parametrize("url", ADDRESSES, ids=lambda url: repr(url)[:20])
def test_a_file_with_an_invalid_url_is_listed(make: Make, flaky_alyx: FlakyAlyx, url: Any) -> None:
    """A file that cannot be fetched is not reported absent."""
    row = dataset_row(EIDS[0])
    record = {"data_repository": "f", "exists": True, "data_url": url}
    flaky_alyx.written.answer("/datasets", 200, listed([{**row, "file_records": [record]}]))
    assert [each.name for each in make(flaky_alyx.written).datasets(SESSION).value] == ["a.b.npy"]


@pytest.mark.parametrize("url", ADDRESSES, ids=lambda url: repr(url)[:20])
def test_an_invalid_url_of_a_repository_affects_its_own_files_only(
    make: Make, flaky_alyx: FlakyAlyx, clock: Clock, url: Any
) -> None:
    """This is so even if URLs were stored relative to the repository's valid URL."""
    assert len(make(flaky_alyx.written).datasets(SESSION).value) == 1
    clock.now += 30 * 86400
    odd = {"name": "g", "data_url": url, "globus_is_personal": False}
    good = {"name": "f", "data_url": "http://h/", "globus_is_personal": False}
    flaky_alyx.written.answer("/data-repository", 200, listed([odd, good]))
    catalogue = make(flaky_alyx.written)
    catalogue.invalidate(())
    assert set(catalogue.repositories().value) == {"f", "g"}
    assert [each.name for each in catalogue.datasets(SESSION).value] == ["a.b.npy"]


DAMAGED_ROWS = {
    "copies": "UPDATE datasets SET copies = 'no json'",
    "copies of another kind": "UPDATE datasets SET copies = '[[[1], 2], 3]'",
    "copies nested": "UPDATE datasets SET copies = '" + "[" * 100_000 + "'",
    "a size": "UPDATE datasets SET size = 'x'",
    "a date": "UPDATE datasets SET mtime = 'x'",
    "no text": "UPDATE datasets SET name = CAST(x'ff' AS TEXT)",
    "a malformed address": 'UPDATE datasets SET copies = \'[["f", "http://[::1/"]]\'',
    "a start": "UPDATE sessions SET start_time = 'x'",
    "a number": "UPDATE sessions SET number = 'x'",
    "a subject": "UPDATE sessions SET task_protocol = CAST(x'ff' AS TEXT)",
    "an address": "UPDATE repositories SET data_url = CAST(x'ff' AS TEXT)",
    "a time": "UPDATE listings SET fetched_at = 'x'",
}


@pytest.mark.parametrize("spoil", DAMAGED_ROWS.values(), ids=DAMAGED_ROWS)
def test_an_unreadable_stored_row_is_asked_for_again(
    make: Make, flaky_alyx: FlakyAlyx, tmp_path: Path, spoil: str
) -> None:
    first = make(flaky_alyx.written)
    assert [each.name for each in first.datasets(SESSION).value] == ["a.b.npy"]
    assert len(first.sessions("a", "s").value) == len(EIDS)
    first.close()
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as connection:
        connection.execute(spoil)
    connection.close()
    for _ in range(2):
        catalogue = make(flaky_alyx.written)
        assert [each.name for each in catalogue.datasets(SESSION).value] == ["a.b.npy"]
        assert len(catalogue.sessions("a", "s").value) == len(EIDS)
        assert catalogue.session(EIDS[0]).eid == EIDS[0]
        catalogue.close()


def test_a_record_with_characters_that_utf8_cannot_encode(
    make: Make, flaky_alyx: FlakyAlyx
) -> None:
    record = {"id": EIDS[0], "json": {"\ud800": ["\udcff", "é", 1e400]}}
    flaky_alyx.written.answer(f"/sessions/{EIDS[0]}", 200, record)
    text = make(flaky_alyx.written).record(SESSION).value
    assert json.loads(text) == record
    assert "é" in text


def test_a_record_that_is_nested_too_deeply_is_an_onefs_error(
    make: Make, flaky_alyx: FlakyAlyx
) -> None:
    read = []
    for depth in (100, 900, 950, 2000):
        body = '{"id": "x", "a": ' + "[" * depth + "]" * depth + "}"
        flaky_alyx.written.answer(f"/sessions/{EIDS[0]}", 200, body)
        catalogue = make(flaky_alyx.written)
        with suppress(ServerError):  # any other exception is a defect
            assert json.loads(catalogue.record(SESSION).value)["id"] == "x"
            read.append(depth)
        catalogue._database.expire_listing(f"record/{EIDS[0]}")
    assert 100 in read


def test_a_search_shows_the_other_rows(
    make: Make, flaky_alyx: FlakyAlyx, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = make(flaky_alyx.written)
    alyx = AlyxClient(transport, flaky_alyx.written.url, FixedToken("t"))
    queries = SessionQueries(alyx, Lazy(lambda: catalogue._database))
    for column in COLUMNS["/sessions"]:
        for value in ODD:
            odd = {**session_row(EIDS[0]), column: value}
            flaky_alyx.written.answer("/sessions", 200, listed([odd, session_row(EIDS[1])]))
            found = queries.search(parse_terms({"lab": "a"}))
            assert EIDS[1] in found.eids, (column, value)
            assert EIDS[1] in [each.eid for each in found.sessions()]


@pytest.mark.parametrize("lacks", ["number", "lab", "subject", "start_time"])
def test_a_session_that_lacks_part_of_its_path_has_no_folder(
    make: Make, written: WrittenAlyx, lacks: str
) -> None:
    written.answer("/sessions", 200, listed([{**session_row(EIDS[0]), lacks: None}]))
    catalogue = make(written)
    for _ in range(2):
        with pytest.raises(NotFound, match="has no folder: the session lacks a"):
            catalogue.session(EIDS[0])
        assert catalogue.any_session(EIDS[0]).eid == EIDS[0]

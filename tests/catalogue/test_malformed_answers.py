"""Answers with values of unexpected types are accepted or cause an OnefsError."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from onefs.catalogue.catalogue import Catalogue
from onefs.errors import OnefsError
from onefs.model import Session
from tests.catalogue.test_catalogue import Make, clock, make
from tests.catalogue.test_flaky_server import (
    EIDS,
    FlakyAlyx,
    dataset_row,
    flaky_alyx,
    listed,
    session_row,
)

__all__ = ["clock", "flaky_alyx", "make"]  # fixtures of this module too

ODD_VALUES: list[Any] = [
    *(None, "", 0, -1, 1.5, True, 2**70, float("nan"), float("inf"), "9" * 40, "2020-01-01", "#"),
    *("x" * 70000, "\ud800", "\udcff", "\0", [], [1], ["a"], [None], [[]], {}, {"a": 1}),
    *([{}], [{"exists": True}], [{"exists": True, "data_repository": 5, "data_url": 7}]),
]
BODIES: list[Any] = [
    *("[" * 100_000, '{"a":' * 50_000, "[1", "nan", '"x"', "null", "[null]"),
    *({"count": -1, "results": []}, {"count": True, "results": [{}]}, {"count": 0}),
    *({"count": 1, "results": {}}, {"count": 10**30, "results": []}),
]
COLUMNS: dict[str, tuple[str, ...]] = {
    "/labs": ("name",),
    "/subjects": ("nickname", "lab"),
    "/data-repository": ("name", "data_url", "globus_is_personal"),
    "/sessions": (
        *("id", "subject", "lab", "number", "start_time", "url", "projects", "project"),
        "task_protocol",
    ),
    "/datasets": (
        *("url", "id", "session", "name", "file_size", "file_records", "collection", "revision"),
        *("hash", "default_dataset", "qc", "created_datetime", "auto_datetime", "dataset_type"),
    ),
}
GOOD: dict[str, dict[str, Any]] = {
    "/labs": {"name": "a"},
    "/subjects": {"nickname": "s", "lab": "a"},
    "/data-repository": {"name": "f", "data_url": "http://h/", "globus_is_personal": False},
    "/sessions": session_row(EIDS[0]),
    "/datasets": dataset_row(EIDS[0]),
}
SESSION = Session(EIDS[0], "a", "s", "2020-01-01", 1)
CATALOGUE_CALLS: dict[str, Callable[[Catalogue], Any]] = {
    "/labs": lambda catalogue: catalogue.labs(),
    "/subjects": lambda catalogue: catalogue.subjects("a"),
    "/data-repository": lambda catalogue: catalogue.repositories(),
    "/sessions": lambda catalogue: catalogue.sessions("a", "s"),
    "/datasets": lambda catalogue: catalogue.datasets(SESSION),
}


def survives(catalogue: Catalogue, endpoint: str) -> None:
    with suppress(OnefsError):  # any other exception is a defect
        CATALOGUE_CALLS[endpoint](catalogue)


@pytest.mark.parametrize(
    ("endpoint", "column"), [(e, c) for e, columns in COLUMNS.items() for c in columns]
)
def test_an_odd_row_is_accepted_or_an_onefs_error(
    make: Make, flaky_alyx: FlakyAlyx, endpoint: str, column: str
) -> None:
    """After the odd row, the listing has the valid row of a later answer."""
    written = flaky_alyx.written
    good = listed([GOOD[endpoint]])
    found = []
    for row in [GOOD[endpoint], *({**GOOD[endpoint], column: value} for value in ODD_VALUES)]:
        for answer in (listed([row]), good):
            written.answer(endpoint, 200, answer)
            # a new catalogue, since a failed request is not repeated at once
            catalogue = make(written)
            survives(catalogue, endpoint)
            if answer is good:
                found.append(CATALOGUE_CALLS[endpoint](catalogue).value)
            catalogue._database.expire_listing(_key(endpoint))
            catalogue.close()
    assert len(found[0]) == 1
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("endpoint", COLUMNS)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body)[:20])
def test_an_odd_list_is_accepted_or_an_onefs_error(
    make: Make, flaky_alyx: FlakyAlyx, endpoint: str, body: Any
) -> None:
    """The lists are deeply nested, truncated, or have wrong counts of rows."""
    flaky_alyx.written.answer(endpoint, 200, body)
    survives(make(flaky_alyx.written), endpoint)
    assert len(flaky_alyx.written.paths) < 20


def _key(endpoint: str) -> str:
    return {
        "/labs": "labs",
        "/subjects": "subjects/a",
        "/data-repository": "repositories",
        "/sessions": "sessions/a/s",
        "/datasets": f"datasets/{EIDS[0]}",
    }[endpoint]


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
def test_a_record_that_is_odd_is_kept_as_text(
    make: Make, flaky_alyx: FlakyAlyx, value: Any
) -> None:
    flaky_alyx.written.answer(
        f"/sessions/{EIDS[0]}", 200, {"id": EIDS[0], "json": value, "ü": [value]}
    )
    text = make(flaky_alyx.written).record(SESSION).value
    assert text.encode().startswith(b"{")
    assert text.endswith("}\n")

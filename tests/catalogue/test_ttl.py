"""The TTLs that docs/SEMANTICS.md promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.alyx.conftest import WrittenAlyx
from tests.catalogue.test_catalogue import (
    Clock,
    Make,
    clock,
    make,
)
from tests.running import wait_until

__all__ = ["clock", "make"]  # fixtures of this module too

EID = "cf264653-2deb-44cb-aa84-89b82507028a"
#: what the clock shows at the beginning: 2023-11-14
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def session_row(date: str) -> dict[str, Any]:
    start = f"{date}T10:00:00"
    return {"id": EID, "subject": "s", "lab": "x", "number": 1, "start_time": start}


def listed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"count": len(rows), "results": rows}


def asked(written: WrittenAlyx, path: str) -> Callable[[int], Callable[[], bool]]:
    return lambda count: lambda: sum(each.startswith(path) for each in written.paths) == count


def test_a_subject_stays_fresh_for_five_minutes(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/sessions", 200, listed([session_row("2023-11-14")]))
    catalogue, times = make(written), asked(written, "/sessions")
    catalogue.sessions("x", "s")
    clock.now += 5 * MINUTE - 1
    catalogue.sessions("x", "s")
    assert times(1)()
    clock.now += 2
    catalogue.sessions("x", "s")
    wait_until(times(2))


@pytest.mark.parametrize(
    ("date", "age"),
    [("2023-11-14", 5 * MINUTE), ("2023-11-01", HOUR), ("2020-01-01", DAY)],
)
def test_the_older_a_session_the_longer_its_listing_stays_fresh(
    make: Make, written: WrittenAlyx, clock: Clock, date: str, age: float
) -> None:
    written.answer("/sessions", 200, listed([session_row(date)]))
    written.answer("/data-repository", 200, listed([]))
    written.answer("/datasets", 200, listed([]))
    catalogue, times = make(written), asked(written, "/datasets")
    session = catalogue.session(EID)
    catalogue.datasets(session)
    clock.now += age - 1
    catalogue.datasets(session)
    assert times(1)()
    clock.now += 2
    catalogue.datasets(session)
    wait_until(times(2))

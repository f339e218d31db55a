"""The TTLs that docs/SEMANTICS.md promises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from onefs.alf import Ref
from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import sync_from_files
from onefs.catalogue.ttl import session_ttl_seconds
from onefs.errors import ServerError
from onefs.http import Transport
from onefs.model import Session
from tests.alyx.conftest import WrittenAlyx
from tests.cache_tables import table_files
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


def settled(catalogue: Catalogue) -> None:
    """Wait until no request runs in the background."""
    cache = catalogue._listing_cache
    flights = (cache._flights, cache._background_flights, cache._batches)
    wait_until(lambda: not any(each._in_flight for each in flights))


def test_a_subject_stays_fresh_for_five_minutes(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/sessions", 200, listed([session_row("2023-11-14")]))
    catalogue, times = make(written), asked(written, "/sessions")
    for seconds, count in ((0, 1), (5 * MINUTE - 0.5, 1), (1, 2)):
        clock.now += seconds
        catalogue.sessions("x", "s")
        settled(catalogue)
        assert times(count)()


@pytest.mark.parametrize(
    ("path", "load", "age"),
    [
        ("/labs", lambda catalogue: catalogue.labs(), HOUR),
        ("/subjects", lambda catalogue: catalogue.subjects("x"), HOUR),
        ("/data-repository", lambda catalogue: catalogue.repositories(), DAY),
    ],
)
def test_a_listing_is_requested_again_after_its_ttl_and_not_before(
    make: Make,
    written: WrittenAlyx,
    clock: Clock,
    path: str,
    load: Callable[[Catalogue], object],
    age: float,
) -> None:
    written.answer(path, 200, listed([]))
    catalogue, times = make(written), asked(written, path)
    for seconds, count in ((0, 1), (age - 0.5, 1), (1, 2)):
        clock.now += seconds
        load(catalogue)
        settled(catalogue)
        assert times(count)()


def test_a_ref_without_a_session_is_requested_again_after_half_a_minute(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/sessions", 200, listed([]))
    catalogue, times = make(written), asked(written, "/sessions")
    for seconds, count in ((0, 1), (29.5, 1), (1, 2)):
        clock.now += seconds
        assert catalogue.sessions_by_ref(Ref("2020-01-01", 1, "s")) == []
        assert times(count)()


def test_a_failed_request_is_repeated_after_two_seconds(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/labs", 400, {"detail": "no"})
    catalogue, times = make(written), asked(written, "/labs")
    for seconds, count in ((0, 1), (1.5, 1), (1, 2)):
        clock.now += seconds
        with pytest.raises(ServerError):
            catalogue.labs()
        assert times(count)()


def test_a_listing_of_the_tables_is_requested_after_a_week(
    transport: Transport, written: WrittenAlyx, clock: Clock, tmp_path: Path
) -> None:
    tables = table_files.write(tmp_path / "tables", [table_files.session(1)], [])
    sync_from_files(tables, tmp_path)
    written.answer("/sessions", 200, listed([]))
    alyx = AlyxClient(transport, written.url, FixedToken("t"))
    catalogue = Catalogue(OverlayDatabase(tmp_path / "catalogue.sqlite"), alyx, clock=clock)

    def count(part: str) -> int:
        settled(catalogue)
        return sum(part in unquote(path) for path in written.paths)

    clock.now = table_files.CREATED_AT + 7 * DAY - 0.5
    catalogue.sessions("labone", "mouse")
    assert count("subject=mouse") == 0
    # sessions that were registered in the week before the tables were made may be missing from them
    assert count("auto_datetime__gte,2023-11-07T20:00:00") == 1
    clock.now += 1
    catalogue.sessions("labone", "mouse")
    assert count("subject=mouse") == 1
    catalogue.close()


@pytest.mark.parametrize("moment", ["2023-11-14 00:00:10", "2023-11-14 23:59:50"])
@pytest.mark.parametrize(
    ("date", "age"),
    [
        ("2023-11-15", 5 * MINUTE),
        ("2023-11-07", 5 * MINUTE),
        ("2023-11-06", HOUR),
        ("2023-10-14", HOUR),
        ("2023-10-13", DAY),
        ("1999-12-31", DAY),
    ],
)
def test_the_ttl_of_a_session_depends_on_its_age_in_days(
    date: str, age: float, moment: str
) -> None:
    now = datetime.fromisoformat(moment).timestamp()
    assert session_ttl_seconds(Session(EID, "x", "s", date, 1), now) == age


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

"""An outage is noticed and logged once, requests then fail fast, and its end is noticed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue import availability
from onefs.catalogue.availability import AWAY_WAIT_SECONDS, ServerAvailability
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import FAILURE_PAUSE_SECONDS, LABS_TTL_SECONDS
from onefs.errors import DeadlineExceeded, Unreachable
from onefs.http import Transport
from tests.alyx.conftest import WrittenAlyx
from tests.catalogue.test_catalogue import (
    Clock,
    Make,
    clock,
    labs,
    make,
)
from tests.running import wait_until, within
from tests.scripted_server import unanswering_url

__all__ = ["clock", "make"]  # fixtures of this module too


def answered_probe() -> None:
    """Answer a probe."""


def failed_probe() -> None:
    raise Unreachable("no way")


def make_breaker(
    clock: Clock, probe: Callable[[], None], always_offline: bool = False
) -> ServerAvailability:
    return ServerAvailability("http://alyx", probe, clock, always_offline=always_offline)


def test_an_outage_and_its_end_are_reported_once(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "FIRST_PROBE_PAUSE_SECONDS", 0.02)
    answers = threading.Event()

    def probe() -> None:
        if not answers.is_set():
            failed_probe()

    changes: list[bool] = []
    found = make_breaker(clock, probe)
    found.on_change = changes.append
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            found.record_failure(Unreachable("gone"))
        was_offline = found.offline
        answers.set()
        wait_until(lambda: changes == [True, False])
    assert was_offline
    assert not found.offline
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "is unreachable" in text] == [said[0]]
    assert [text for text in said if "answers again" in text] == [said[-1]]
    found.close()


def test_one_slow_answer_is_no_outage(clock: Clock) -> None:
    asked = threading.Event()
    found = make_breaker(clock, asked.set)
    found.record_failure(DeadlineExceeded("a long query"))
    assert asked.wait(60)
    assert not found.offline
    found.close()


def test_a_slow_answer_and_an_unanswered_probe_are_an_outage(clock: Clock) -> None:
    found = make_breaker(clock, failed_probe)
    found.record_failure(DeadlineExceeded("a long query"))
    wait_until(lambda: found.offline)
    found.close()


def test_during_an_outage_one_probe_is_sent_every_two_seconds(clock: Clock) -> None:
    found = make_breaker(clock, failed_probe)
    assert found.wait_seconds(10.0, "it") == 10.0
    found.record_failure(Unreachable("gone"))
    with pytest.raises(Unreachable, match="is unreachable"):
        found.wait_seconds(10.0, "it")
    clock.now += FAILURE_PAUSE_SECONDS + 1
    assert found.wait_seconds(10.0, "it") == AWAY_WAIT_SECONDS < 1
    found.close()


def test_a_forced_offline_mode_stays(clock: Clock) -> None:
    found = make_breaker(clock, answered_probe, always_offline=True)
    found.record_success()
    clock.now += 100
    assert found.offline
    assert not found.can_ask()
    with pytest.raises(Unreachable, match="onefs is in offline mode"):
        found.wait_seconds(10.0, "it")


def test_unknown_listings_fail_within_a_second_during_an_outage(
    tmp_path: Path, transport: Transport, clock: Clock
) -> None:
    """In a network that loses all packets, only the first request waits for its deadline."""
    with unanswering_url() as url:
        alyx = AlyxClient(transport, url, FixedToken("t"), deadline=1.0)
        first = Catalogue(CatalogueDatabase(tmp_path / "first"), alyx, deadline=1.0, clock=clock)
        with pytest.raises((Unreachable, DeadlineExceeded)):
            first.labs()
        wait_until(lambda: first.offline)
        first.close()
        # these deadlines are much longer than a second, even on a busy machine
        alyx = AlyxClient(transport, url, FixedToken("t"), deadline=60.0)
        catalogue = Catalogue(CatalogueDatabase(tmp_path / "c"), alyx, deadline=60.0, clock=clock)
        catalogue.availability.record_failure(Unreachable("gone"))
        for number in range(3):
            with within(), pytest.raises(Unreachable):
                catalogue.subjects(f"lab{number}")
            clock.now += FAILURE_PAUSE_SECONDS + 1
        catalogue.close()


def test_stale_listings_are_served_without_a_wait(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/labs", 200, labs("a"))
    catalogue = make(written)
    catalogue.labs()
    written.listener.stop()
    with pytest.raises(Unreachable):
        catalogue.subjects("a")
    clock.now += LABS_TTL_SECONDS + 1
    with within():  # waits for all refreshes would take too long
        for _ in range(100):
            assert catalogue.labs().value == ["a"]


def test_the_end_of_an_outage_is_noticed_without_a_request(
    make: Make, written: WrittenAlyx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "FIRST_PROBE_PAUSE_SECONDS", 0.05)
    written.answer("/labs", 200, labs("a"))
    catalogue = make(written)
    written.listener.stop()
    with pytest.raises(Unreachable):
        catalogue.labs()
    assert catalogue.offline
    written.listener.start(written._app)
    wait_until(lambda: not catalogue.offline)


def test_an_offline_catalogue_serves_listings_of_any_age(
    make: Make, written: WrittenAlyx, clock: Clock, tmp_path: Path, transport: Transport
) -> None:
    written.answer("/labs", 200, labs("a"))
    make(written).labs()
    asked = len(written.paths)
    clock.now += 365 * 86400
    alyx = AlyxClient(transport, "", FixedToken(""))
    offline = Catalogue(
        CatalogueDatabase(tmp_path / "catalogue.sqlite"), alyx, clock=clock, offline=True
    )
    assert offline.offline
    assert offline.labs().value == ["a"]
    with pytest.raises(Unreachable):
        offline.subjects("a")
    assert len(written.paths) == asked
    offline.close()


def test_a_probe_that_dies_or_cannot_start_is_not_the_last(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "FIRST_PROBE_PAUSE_SECONDS", 0.05)
    asked: list[int] = []

    def probe() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise ZeroDivisionError("not foreseen")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    found = make_breaker(clock, probe)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        found.record_failure(Unreachable("gone"))
    assert found.offline
    found.record_failure(Unreachable("gone"))
    wait_until(lambda: not found.offline)
    assert len(asked) == 2
    found.close()

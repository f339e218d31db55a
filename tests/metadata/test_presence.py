"""Offline is a mode: noticed once, said once, fast, and over without anybody's doing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.errors import DeadlineExceeded, Unreachable
from onefs.http import Transport
from onefs.metadata import presence
from onefs.metadata.alyx import Alyx
from onefs.metadata.auth import GivenToken
from onefs.metadata.catalogue import Catalogue
from onefs.metadata.database import Database
from onefs.metadata.freshness import FAILURE_PAUSE, LABS_AGE
from onefs.metadata.presence import SHORT, Presence
from tests.metadata.conftest import WrittenAlyx
from tests.metadata.test_catalogue import Clock, Make, clock, labs, make
from tests.running import wait_until, within
from tests.scripted import unanswering

__all__ = ["clock", "make"]  # fixtures of this module too


def nothing() -> None:
    """A probe that is answered."""


def failing() -> None:
    raise Unreachable("no way")


def made(clock: Clock, probe: Callable[[], None], **options: bool) -> Presence:
    return Presence("http://alyx", probe, clock, **options)


def test_leaving_and_coming_back_are_said_once(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "FIRST_LOOK", 0.02)
    answers = threading.Event()

    def probe() -> None:
        if not answers.is_set():
            failing()

    changes: list[bool] = []
    found = made(clock, probe)
    found.changed = changes.append
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            found.failed(Unreachable("gone"))
        assert found.offline
        answers.set()
        wait_until(lambda: changes == [True, False])
    assert not found.offline
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "is away" in text] == [said[0]]
    assert [text for text in said if "answers again" in text] == [said[-1]]
    found.close()


def test_who_is_slow_once_is_not_away(clock: Clock) -> None:
    asked = threading.Event()
    found = made(clock, asked.set)
    found.failed(DeadlineExceeded("a long query"))
    assert asked.wait(60)
    assert not found.offline
    found.close()


def test_who_is_slow_and_does_not_answer_a_small_question_is_away(clock: Clock) -> None:
    found = made(clock, failing)
    found.failed(DeadlineExceeded("a long query"))
    wait_until(lambda: found.offline)
    found.close()


def test_while_away_one_try_every_two_seconds(clock: Clock) -> None:
    found = made(clock, failing)
    assert found.patience(10.0, "it") == 10.0
    found.failed(Unreachable("gone"))
    with pytest.raises(Unreachable, match="is away"):
        found.patience(10.0, "it")
    clock.now += FAILURE_PAUSE + 1
    assert found.patience(10.0, "it") == SHORT < 1
    found.close()


def test_who_wants_to_be_offline_stays_so(clock: Clock) -> None:
    found = made(clock, nothing, never=True)
    found.answered()
    clock.now += 100
    assert found.offline
    assert not found.may_ask()
    with pytest.raises(Unreachable, match="the mount is offline"):
        found.patience(10.0, "it")


def test_what_is_not_known_fails_within_a_second(
    tmp_path: Path, transport: Transport, clock: Clock
) -> None:
    """Of a network that swallows everything: the first waits, the others do not."""
    with unanswering() as url:
        alyx = Alyx(transport, url, GivenToken("t"), deadline=1.0)
        first = Catalogue(Database(tmp_path / "first"), alyx, deadline=1.0, clock=clock)
        with pytest.raises((Unreachable, DeadlineExceeded)):
            first.labs()
        wait_until(lambda: first.offline)
        first.close()
        # deadlines that are told from a second on a busy machine, too
        alyx = Alyx(transport, url, GivenToken("t"), deadline=60.0)
        catalogue = Catalogue(Database(tmp_path / "c"), alyx, deadline=60.0, clock=clock)
        catalogue.presence.failed(Unreachable("gone"))
        for number in range(3):
            with within(), pytest.raises(Unreachable):
                catalogue.subjects(f"lab{number}")
            clock.now += FAILURE_PAUSE + 1
        catalogue.close()


def test_stale_listings_are_served_and_nobody_waits(
    make: Make, written: WrittenAlyx, clock: Clock
) -> None:
    written.answer("/labs", 200, labs("a"))
    catalogue = make(written)
    catalogue.labs()
    written.listener.stop()
    with pytest.raises(Unreachable):
        catalogue.subjects("a")
    clock.now += LABS_AGE + 1
    with within():  # who waits for a refresh waits a hundred times
        for _ in range(100):
            assert catalogue.labs().value == ["a"]


def test_coming_back_is_noticed_although_nobody_asks(
    make: Make, written: WrittenAlyx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "FIRST_LOOK", 0.05)
    written.answer("/labs", 200, labs("a"))
    catalogue = make(written)
    written.listener.stop()
    with pytest.raises(Unreachable):
        catalogue.labs()
    assert catalogue.offline
    written.listener.start(written._app)
    wait_until(lambda: not catalogue.offline)


def test_an_offline_catalogue_serves_what_it_knows_at_any_age(
    make: Make, written: WrittenAlyx, clock: Clock, tmp_path: Path, transport: Transport
) -> None:
    written.answer("/labs", 200, labs("a"))
    make(written).labs()
    asked = len(written.paths)
    clock.now += 365 * 86400
    alyx = Alyx(transport, "", GivenToken(""))
    offline = Catalogue(Database(tmp_path / "catalogue.sqlite"), alyx, clock=clock, offline=True)
    assert offline.offline
    assert offline.labs().value == ["a"]
    with pytest.raises(Unreachable):
        offline.subjects("a")
    assert len(written.paths) == asked
    offline.close()


def test_a_look_that_dies_or_cannot_begin_is_not_the_last(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "FIRST_LOOK", 0.05)
    asked: list[int] = []

    def probe() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise ZeroDivisionError("not foreseen")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    found = made(clock, probe)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        found.failed(Unreachable("gone"))
    assert found.offline
    found.failed(Unreachable("gone"))
    wait_until(lambda: not found.offline)
    assert len(asked) == 2
    found.close()

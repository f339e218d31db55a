"""Calls that stand still: their callers stop waiting, and later ones do not wait at all."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from onefs.errors import Stopping
from onefs.lowlevel import bounded_calls
from onefs.lowlevel.bounded_calls import MAX_CALL_THREADS, BoundedCalls, StandsStill
from tests.running import wait_until, within


def fail() -> None:
    raise PermissionError("no")


def test_a_call_returns_its_result_or_raises_its_error() -> None:
    calls = BoundedCalls("test", 60)
    assert calls.call(lambda: 5) == 5
    with pytest.raises(PermissionError):
        calls.call(fail)
    with ThreadPoolExecutor(64) as pool:
        assert sorted(pool.map(lambda n: calls.call(lambda: n), range(500))) == [*range(500)]
    assert not calls.stands_still()


def test_after_a_call_that_stands_still_others_fail_at_once_until_one_returns() -> None:
    calls, event = BoundedCalls("test", 0.1), threading.Event()
    late: list[bool] = []
    with pytest.raises(StandsStill):
        calls.call(lambda: event.wait(60), late.append)
    assert calls.stands_still()
    asked: list[int] = []
    for number in range(5):
        with pytest.raises(StandsStill):
            calls.call(lambda number=number: asked.append(number))  # type: ignore[misc]
    assert asked == []
    event.set()
    wait_until(lambda: not calls.stands_still())
    assert calls.call(lambda: 7) == 7
    wait_until(lambda: late == [True])


def test_a_call_is_tried_although_another_never_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_calls, "_PROBE_SECONDS", 0.0)
    calls, event = BoundedCalls("test", 0.1), threading.Event()
    for _ in range(MAX_CALL_THREADS - 1):
        with pytest.raises(StandsStill):
            calls.call(lambda: event.wait(60))
    assert calls.call(lambda: 7) == 7
    event.set()


def test_calls_still_run_after_more_calls_than_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_calls, "_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(bounded_calls, "MAX_CALL_THREADS", 1)
    calls, name = BoundedCalls("onefs-burst", 60), "onefs-burst"
    for future in [calls.start(partial(time.sleep, 0.02)) for _ in range(8)]:
        future.result(60)
    wait_until(lambda: name not in {thread.name for thread in threading.enumerate()})
    monkeypatch.setattr(bounded_calls, "MAX_CALL_THREADS", 4)
    barrier = threading.Barrier(4)
    together = [calls.start(partial(barrier.wait, 30)) for _ in range(4)]
    assert sorted(future.result(30) for future in together) == [0, 1, 2, 3]


def test_after_a_call_that_stands_still_the_same_caller_does_not_wait_again() -> None:
    calls, event = BoundedCalls("test", 0.1), threading.Event()
    late: list[int] = []
    with pytest.raises(StandsStill):
        calls.call(partial(event.wait, 60))
    with pytest.raises(StandsStill):
        calls.call(lambda: late.append(1))
    event.set()
    wait_until(lambda: not calls.stands_still())
    assert late == []


def test_a_caller_that_waits_is_woken_when_the_calls_are_closed() -> None:
    calls, event = BoundedCalls("test", 60), threading.Event()
    with ThreadPoolExecutor(1) as pool, within():
        begun = threading.Event()

        def stand_still() -> None:
            begun.set()
            event.wait(60)

        waiting = pool.submit(calls.call, stand_still)
        assert begun.wait(60)
        calls.close()
        with pytest.raises(Stopping):
            waiting.result(60)
    with pytest.raises(Stopping):
        calls.call(lambda: 5)
    event.set()

"""Values that are created on first use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from onefs.errors import Stopping
from onefs.lowlevel.lazy import Lazy
from tests.running import wait_until


def test_a_value_is_created_once_for_all_callers() -> None:
    made: list[object] = []
    barrier = threading.Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        barrier.wait(60)
        return once()

    once = Lazy(make)
    assert made == []
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert found == made * 8


def test_a_value_can_be_created_in_the_background() -> None:
    made = threading.Event()

    def make() -> str:
        made.set()
        return "here"

    once = Lazy(make)
    once.start()
    assert made.wait(60)
    assert once() == "here"


def test_a_failure_is_raised_and_tried_again() -> None:
    tries: list[int] = []

    def make() -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise ValueError("not yet")
        return "here"

    once = Lazy(make)
    once.start()  # the factory fails in the background
    wait_until(lambda: len(tries) == 1)
    with pytest.raises(ValueError, match="not yet"):
        once()
    assert once() == "here"


def test_after_close_no_value_is_created() -> None:
    once = Lazy(lambda: "here")
    assert once.close() is None
    with pytest.raises(Stopping):
        once()
    other = Lazy(lambda: "here")
    assert other() == other.close() == other() == "here"


def test_a_value_that_is_closed_while_it_is_created_is_not_used() -> None:
    """As by a signal handler, in the thread that creates the value."""

    def make() -> str:
        assert once.close() is None
        return "here"

    once: Lazy[str] = Lazy(make)
    for _ in range(2):
        with pytest.raises(Stopping):
            once()
    assert once.close() is None


def test_a_value_that_another_thread_creates_during_close_is_returned() -> None:
    is_begun, may_go_on = threading.Event(), threading.Event()

    def make() -> str:
        is_begun.set()
        may_go_on.wait(60)
        return "here"

    once: Lazy[str] = Lazy(make)
    creator = threading.Thread(target=once)
    creator.start()
    is_begun.wait(60)
    threading.Timer(0.2, may_go_on.set).start()
    assert once.close() == "here"
    creator.join(60)

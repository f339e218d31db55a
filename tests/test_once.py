"""What is made when it is first asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from onefs.errors import Stopping
from onefs.once import Once
from tests.running import wait_until


def test_it_is_made_once_for_all_who_ask() -> None:
    made: list[object] = []
    barrier = threading.Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        barrier.wait(60)
        return once()

    once = Once(make)
    assert made == []
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert found == made * 8


def test_it_is_made_behind_who_wants_it_soon() -> None:
    made = threading.Event()
    once = Once(lambda: made.set() or "here")
    once.begin()
    assert made.wait(60)
    assert once() == "here"


def test_what_fails_is_told_and_tried_again() -> None:
    tries: list[int] = []

    def make() -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise ValueError("not yet")
        return "here"

    once = Once(make)
    once.begin()  # which fails behind us
    wait_until(lambda: len(tries) == 1)
    with pytest.raises(ValueError, match="not yet"):
        once()
    assert once() == "here"


def test_after_the_end_nothing_is_made() -> None:
    once = Once(lambda: "here")
    assert once.end() is None
    with pytest.raises(Stopping):
        once()
    other = Once(lambda: "here")
    assert other() == other.end() == other() == "here"

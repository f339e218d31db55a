"""Bounded parallel work: order, limits, errors for single items, and an early end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest

from onefs.errors import Busy
from onefs.lowlevel import parallel
from onefs.lowlevel.parallel import run_parallel
from tests.unreachable_frames import unreachable_frames

#: seconds in which each wait in this file ends, also on a busy machine
BOUND = 60


def test_each_item_has_one_outcome_and_errors_belong_to_their_item() -> None:
    def invert(number: int) -> float:
        return 1 / number

    outcomes = list(run_parallel(invert, range(50), 4, "test"))

    assert sorted(outcome.item for outcome in outcomes) == list(range(50))
    assert [outcome.item for outcome in outcomes if outcome.error is not None] == [0]
    failed = next(outcome for outcome in outcomes if outcome.error is not None)
    with pytest.raises(ZeroDivisionError):
        failed.result()
    assert all(outcome.result() == 1 / outcome.item for outcome in outcomes if outcome.item)


def test_an_error_leaves_no_frames() -> None:
    def fail(number: int) -> None:
        raise ValueError(number)

    with unreachable_frames() as names:
        for outcome in run_parallel(fail, range(4), 2, "test"):
            assert isinstance(outcome.error, ValueError)
        del outcome
    assert names == []


def test_a_falsy_item_and_a_none_result_are_passed_on() -> None:
    outcomes = list(run_parallel(lambda item: item, [None, 0, ""], 2, "test"))
    assert {repr(outcome.item) for outcome in outcomes} == {"None", "0", "''"}
    assert all(outcome.result() == outcome.item for outcome in outcomes)


def test_without_items_no_thread_is_started() -> None:
    before = threading.active_count()
    assert list(run_parallel(str, (), 4, "never-started")) == []
    assert threading.active_count() <= before


def test_at_most_the_given_number_is_under_way() -> None:
    lock = threading.Lock()
    all_busy = threading.Barrier(3, timeout=BOUND)
    under_way, highest = 0, 0

    def work(_: int) -> None:
        nonlocal under_way, highest
        with lock:
            under_way += 1
            highest = max(highest, under_way)
        all_busy.wait()  # raises unless three calls run at the same time
        with lock:
            under_way -= 1

    for outcome in run_parallel(work, range(30), 3, "test"):
        outcome.result()
    assert highest == 3


def test_threads_are_added_while_the_first_ones_wait() -> None:
    all_busy = threading.Barrier(8, timeout=BOUND)

    # wait() raises unless eight calls wait at the same time
    outcomes = list(run_parallel(lambda _: all_busy.wait(), range(24), 8, "test", 1))
    assert sorted(outcome.result() for outcome in outcomes) == sorted([*range(8)] * 3)


def test_no_threads_are_added_while_the_processors_are_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "process_time", time.monotonic)  # as of one busy thread
    names = set[str]()

    def note(_: int) -> None:
        names.add(threading.current_thread().name)
        time.sleep(0.1)  # longer than it takes to find out that a process is idle

    for outcome in run_parallel(note, range(6), 4, "busy", 2):
        outcome.result()
    assert names == {"busy_0", "busy_1"}


def test_an_outcome_is_yielded_while_other_items_are_under_way() -> None:
    release = threading.Event()

    def work(item: str) -> str:
        if item == "slow":
            assert release.wait(BOUND)
        return item

    outcomes = run_parallel(work, ["slow", "fast"], 2, "test")
    assert next(outcomes).result() == "fast"
    release.set()
    assert next(outcomes).result() == "slow"


def test_items_are_taken_lazily_in_the_thread_of_the_caller() -> None:
    taken_in = set()

    def items() -> Iterator[int]:
        for number in count():
            taken_in.add(threading.current_thread())
            yield number

    outcomes = run_parallel(lambda number: number, items(), 4, "test")
    assert len(list(islice(outcomes, 100))) == 100
    assert taken_in == {threading.current_thread()}


def test_an_error_of_the_items_iterator_reaches_the_caller() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError):
        list(run_parallel(lambda number: number, items(), 2, "test"))


def test_a_caller_that_stops_early_does_not_wait_and_queued_items_never_begin() -> None:
    release, begun = threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        if number:
            assert release.wait(BOUND)
        return number

    outcomes = run_parallel(work, range(8), 2, "stopped-early")
    assert next(outcomes).item == 0
    outcomes.close()  # type: ignore[attr-defined]
    threads = [each for each in threading.enumerate() if each.name.startswith("stopped-early")]
    release.set()
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    assert len(begun) <= 4


def test_without_any_thread_it_is_busy_and_with_one_thread_all_items_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, started = threading.Thread.start, list[threading.Thread]()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def start_one(thread: threading.Thread) -> None:
        if started:
            refuse(thread)
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(Busy):
        list(run_parallel(str, range(5), 4, "test"))
    monkeypatch.setattr(threading.Thread, "start", start_one)
    assert len(list(run_parallel(str, range(20), 4, "test"))) == 20


class _Counted:
    """Work of 30 ms, and how many calls ran at most at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = self.most = 0

    def __call__(self, _: int) -> None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        time.sleep(0.03)
        with self._lock:
            self._running -= 1


def test_more_threads_begin_for_a_short_list_whose_outcomes_arrive_steadily() -> None:
    work = _Counted()
    assert len(list(run_parallel(work, range(32), 8, "test", first_threads=2))) == 32
    assert work.most > 2


def test_more_threads_begin_beside_a_thread_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_BUSY_PROCESSORS", -1.0)  # the processors are always busy
    monkeypatch.setattr(parallel, "_BUSY_CHECK_SECONDS", 0.1)
    work = _Counted()
    list(run_parallel(work, range(32), 8, "test", first_threads=2))
    assert work.most > 2
    monkeypatch.setattr(parallel, "_FAST_ITEM_SECONDS", 60.0)  # 30 ms are fast
    work = _Counted()
    list(run_parallel(work, range(32), 8, "test", first_threads=2))
    assert work.most == 2


PROGRAM = r"""
import os, time
from onefs.lowlevel.parallel import run_parallel
def work(number):
    os.write(1, b"begun\n")
    time.sleep(3600)
for _ in run_parallel(work, range(100), 4, "test"):
    pass
"""


def test_ctrl_c_ends_a_program_whose_work_does_not_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            assert child.stdout is not None
            for _ in range(4):
                assert child.stdout.readline() == "begun\n"
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=BOUND)
        finally:
            child.kill()
    assert child.returncode in (-signal.SIGINT, 130), errors
    assert "KeyboardInterrupt" in errors

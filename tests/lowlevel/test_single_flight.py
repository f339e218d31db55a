"""Single flight: callers that ask at the same time share one run."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from onefs.errors import Busy, DeadlineExceeded, NotFound, Stopping
from onefs.lowlevel.single_flight import SingleFlight
from tests.unreachable_frames import unreachable_frames


@pytest.fixture
def flights() -> Iterator[SingleFlight[int]]:
    found: SingleFlight[int] = SingleFlight("test", workers=4)
    yield found
    found.close()


def test_concurrent_callers_share_one_call(flights: SingleFlight[int]) -> None:
    release, runs = threading.Event(), []

    def work() -> int:
        runs.append(1)
        assert release.wait(60)
        return 7

    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(flights.wait("k", work, 10, "k")))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    first = flights.start("k", work)
    release.set()
    for thread in threads:
        thread.join(60)
    assert first.result(60) == 7
    assert results == [7] * 20
    assert len(runs) == 1


def test_the_next_caller_after_the_end_calls_again(flights: SingleFlight[int]) -> None:
    assert flights.wait("k", lambda: 1, 10, "k") == 1
    assert flights.wait("k", lambda: 2, 10, "k") == 2


def test_errors_reach_every_waiter_and_are_not_kept(flights: SingleFlight[int]) -> None:
    def fail() -> int:
        raise NotFound("no")

    with pytest.raises(NotFound):
        flights.wait("k", fail, 10, "k")
    assert flights.wait("k", lambda: 1, 10, "k") == 1


def test_an_error_leaves_no_frames(flights: SingleFlight[int]) -> None:
    def fail() -> int:
        raise NotFound("no")

    with unreachable_frames() as names:
        with pytest.raises(NotFound):
            flights.wait("k", fail, 60, "k")
        flights.close()
        flights._pool.shutdown(wait=True)  # the thread has left the failed call
    assert names == []


def test_an_error_in_the_calling_thread_leaves_no_frames(flights: SingleFlight[int]) -> None:
    def fail() -> int:
        raise NotFound("no")

    with unreachable_frames() as names, pytest.raises(NotFound):
        flights.run_if_idle("k", fail)
    assert names == []


def test_waiting_ends_at_the_deadline(flights: SingleFlight[int]) -> None:
    release = threading.Event()

    def work() -> int:
        release.wait(60)
        return 1

    with pytest.raises(DeadlineExceeded, match=r"the labs: no answer within 0\.05 s"):
        flights.wait("k", work, 0.05, "the labs")
    release.set()


def test_a_timeout_raised_by_the_work_reaches_the_caller(flights: SingleFlight[int]) -> None:
    def fail() -> int:
        raise DeadlineExceeded("the server")

    with pytest.raises(DeadlineExceeded, match="the server"):
        flights.wait("k", fail, 10, "the labs")


def test_close_wakes_waiting_callers(flights: SingleFlight[int]) -> None:
    release, started = threading.Event(), threading.Event()

    def work() -> int:
        started.set()
        release.wait(60)
        return 1

    future = flights.start("k", work)
    assert started.wait(60)
    flights.close()
    with pytest.raises(Stopping):
        future.result(30)
    with pytest.raises(Stopping):
        flights.start("other", work)
    release.set()


def test_a_call_without_a_thread_is_an_error_and_the_next_one_works(
    flights: SingleFlight[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(Busy):
                flights.wait("k", lambda: 1, 10, "k")
    assert flights.wait("k", lambda: 2, 10, "k") == 2

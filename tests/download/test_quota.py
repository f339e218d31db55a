"""The quota for fetched bytes per hour."""

from __future__ import annotations

import pytest

from onefs.download.quota import QUOTA_STEP_SECONDS, QUOTA_WINDOW_SECONDS, FetchQuota
from onefs.errors import FetchLimit
from tests.content.conftest import Open, in_threads
from tests.content.ranged_file import (
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.scripted_server import ScriptedServer


def test_bytes_count_for_an_hour() -> None:
    now = [1000.0]
    meter = FetchQuota(100, lambda: now[0])
    meter.count(60)
    now[0] += QUOTA_WINDOW_SECONDS / 2
    meter.count(30)
    assert meter.spent_bytes() == 90
    assert meter.is_within_limit(10)
    assert not meter.is_within_limit(11)
    beyond = pytest.raises(FetchLimit, match=r"a\.npy is not fetched: 90 bytes")
    with beyond, meter.reserve("a", 11, "a.npy"):
        pass
    now[0] += QUOTA_WINDOW_SECONDS / 2 + QUOTA_STEP_SECONDS
    assert meter.spent_bytes() == 30
    with meter.reserve("a", 70, "a.npy"):
        pass


def test_bytes_in_flight_count_once_for_all_waiting_readers() -> None:
    meter = FetchQuota(100)
    with meter.reserve("a", 60, "a"), meter.reserve("a", 60, "a"):
        with pytest.raises(FetchLimit), meter.reserve("b", 41, "b"):
            pass
        with meter.reserve("b", 40, "b"):
            pass
    with meter.reserve("b", 100, "b"):
        pass


def test_bytes_that_are_still_to_arrive_ahead_do_not_count_for_reads() -> None:
    meter = FetchQuota(100)
    meter.count(20)
    with meter.reserve_ahead("a", 40) as go_on, meter.reserve_ahead("b", 1) as none:
        assert none is None  # more than half of what is left
        assert go_on is not None
        meter.count(10)
        assert go_on(10)
        with meter.reserve("c", 40, "c"):
            assert go_on(0)
            # 30 have arrived, 40 are reserved, and 30 are still to arrive
            with meter.reserve("d", 30, "d"):
                assert not go_on(0)
                # a reader of the file itself needs only what is still to arrive
                with pytest.raises(FetchLimit), meter.reserve("a", 40, "a"):
                    pass
            with meter.reserve("a", 40, "a"):
                assert go_on(0)
    with meter.reserve_ahead("b", 35) as go_on:
        assert go_on is not None
        with meter.reserve("c", 70, "c"):
            meter.count(35)
            assert go_on(35)  # nothing is missing


def test_files_that_are_fetched_ahead_share_what_reads_leave() -> None:
    meter = FetchQuota(100)
    with meter.reserve_ahead("a", 20) as first, meter.reserve_ahead("b", 20) as second:
        assert first is not None
        assert second is not None
        with meter.reserve("c", 70, "c"):  # 30 are left for 40
            assert first(0)
            assert not second(0)
            meter.count(15)
            assert first(15)
            assert not second(0)  # 15 are left for 25


def test_a_read_of_a_file_that_has_arrived_needs_nothing() -> None:
    meter = FetchQuota(100)
    with meter.reserve_ahead("a", 40) as go_on, meter.reserve("b", 70, "b"):
        assert go_on is not None
        meter.count(40)
        assert go_on(40)
        with meter.reserve("a", 40, "a"):
            pass


def test_concurrent_readers_stay_within_the_quota(open_content: Open) -> None:
    bodies = [some_bytes(100_000, seed=seed) for seed in range(12)]
    scripts = {f"/{n}.npy": served(body, rate=200_000) for n, body in enumerate(bodies)}
    with ScriptedServer(scripts) as server:
        content = open_content(max_fetch=350_000)
        waiting = list(enumerate(bodies))

        def read_one() -> bytes:
            number, body = waiting.pop()
            return read_all(content, dataset_of(server, body, f"/{number}.npy"))

        found = in_threads(12, read_one)
        given = [each for each in found if isinstance(each, bytes)]
        assert all(each in bodies for each in given)
        # fewer than 3 if one is slow, because a running download counts with its full size
        assert 1 <= len(given) <= 3
        assert sum(isinstance(each, FetchLimit) for each in found) == 12 - len(given)
        assert len(server.requests) == len(given)


def test_without_a_limit_every_download_is_allowed() -> None:
    meter = FetchQuota()
    meter.count(1 << 50)
    with meter.reserve("a", 1 << 50, "a.npy"):
        pass
    assert meter.spent_bytes() == 1 << 50

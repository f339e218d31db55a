"""The rate limiter for one Alyx, which threads and processes share. Requests of low priority."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from onefs.alyx.auth import fetch_token
from onefs.alyx.client import AlyxClient
from onefs.alyx.rate_limit import (
    BURST_REQUESTS,
    REQUESTS_PER_SECOND,
    RESERVED_REQUESTS,
    RateLimiter,
    RateLimits,
)
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import Throttled
from onefs.http import Transport
from tests.running import process, within
from tests.scripted_server import ScriptedServer, answer_json

#: requests per minute that Alyx allows, and that low priority may use
ALYX, BULK = 550, 400


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def permit_times(budget: RateLimiter, clock: Clock, seconds: float, *, modest: bool) -> list[float]:
    """Return the times of requests, each sent as soon as the limiter allows."""
    times, end = [], clock.now + seconds
    while clock.now < end:
        wait = budget.try_acquire(low_priority=modest)
        if wait == 0:
            times.append(clock.now)
        clock.now += max(wait, 1e-6)
    return times


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(start <= each < start + 60 for each in times) for start in times)


def test_no_minute_has_more_than_alyx_allows(tmp_path: Path) -> None:
    clock = Clock()
    assert most_in_a_minute(
        permit_times(RateLimiter(tmp_path / "b", clock=clock), clock, 200, modest=False)
    ) in (range(500, ALYX))


def test_low_priority_requests_are_at_most_four_hundred_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    budget = RateLimiter(tmp_path / "b", clock=clock)
    times = permit_times(budget, clock, 200, modest=True)
    assert most_in_a_minute(times) in range(380, BULK + 2)
    # afterwards, requests without low priority need not wait
    assert [budget.try_acquire(low_priority=False) for _ in range(int(RESERVED_REQUESTS))] == [
        0.0
    ] * int(RESERVED_REQUESTS)
    assert budget.try_acquire(low_priority=True) > 10
    while not (wait := budget.try_acquire(low_priority=False)):
        pass
    assert wait <= 1 / REQUESTS_PER_SECOND


def test_a_429_pauses_all_processes(tmp_path: Path) -> None:
    clock = Clock()
    one, other = (RateLimiter(tmp_path / "b", clock=clock) for _ in range(2))
    assert one.try_acquire(low_priority=False) == 0
    one.report_throttled(49.0)
    assert other.try_acquire(low_priority=False) == pytest.approx(49.0)
    assert other.pause_seconds() == pytest.approx(49.0)
    clock.now += 49.5
    # few requests at first, because the server still counts the earlier requests
    assert [other.try_acquire(low_priority=False) == 0 for _ in range(4)] == [
        True,
        True,
        True,
        False,
    ]
    assert one.pause_seconds() == 0


def test_a_clock_that_is_set_back_does_not_stop_requests(tmp_path: Path) -> None:
    clock = Clock()
    budget = RateLimiter(tmp_path / "b", clock=clock)
    budget.report_throttled(30.0)
    clock.now -= 86400
    assert budget.try_acquire(low_priority=False) <= 1 / REQUESTS_PER_SECOND
    clock.now += 1
    assert budget.try_acquire(low_priority=False) == 0


def test_a_long_pause_is_kept_for_an_hour(tmp_path: Path) -> None:
    clock = Clock()
    budget = RateLimiter(tmp_path / "b", clock=clock)
    budget.report_throttled(86400.0)
    clock.now += 3500
    assert budget.try_acquire(low_priority=False) > 60
    clock.now += 200
    assert budget.try_acquire(low_priority=False) == 0


@pytest.mark.parametrize("rubbish", [b"", b"x", b"rubbish" * 100])
def test_a_broken_file_is_a_full_bucket(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "b").write_bytes(rubbish)
    budget = RateLimiter(tmp_path / "b")
    assert budget.try_acquire(low_priority=True) == 0


def test_a_read_only_folder_does_not_stop_requests(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    budget = RateLimiter(tmp_path / "file" / "b", RateLimits(burst=2, rate=0.001, reserve=0))
    assert [budget.try_acquire(low_priority=False) == 0 for _ in range(3)] == [True, True, False]


def test_a_stopped_process_with_the_lock_blocks_no_other(tmp_path: Path) -> None:
    budget = RateLimiter(tmp_path / "b")
    held = os.open(tmp_path / "b", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    with within():
        assert budget.try_acquire(low_priority=False) == 0
    os.close(held)


_PERMIT_TAKER = """
import sys, time
from pathlib import Path
from onefs.alyx.rate_limit import RateLimiter, RateLimits
budget = RateLimiter(Path(sys.argv[1]), RateLimits(burst=40, rate=100, reserve=20))
count = 0
while count < 60:
    wait = budget.try_acquire(low_priority=True)
    count += wait == 0
    time.sleep(min(wait, 0.01))
print(count)
"""


def test_three_processes_share_one_bucket(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PERMIT_TAKER, str(tmp_path / "b")]
    began = time.monotonic()
    with ExitStack() as stack:
        takers = [stack.enter_context(process(command, stdout=subprocess.PIPE)) for _ in range(3)]
        counts = [int(taker.communicate(timeout=90)[0]) for taker in takers]
    elapsed = time.monotonic() - began
    assert counts == [60] * 3  # each process gets its 60 requests
    # a slow machine takes longer; with three separate buckets this would take 0.4 s
    assert 100 * elapsed >= sum(counts) - 20 - 3


def test_retry_after_is_kept_and_reported(tmp_path: Path, transport: Transport) -> None:
    """If another client uses up the limit, requests fail at once and are not sent."""
    throttled = answer_json({"detail": "Request was throttled."}, 429, Retry_After=49)
    with ScriptedServer({"/labs": throttled}) as server:
        budget = RateLimiter(tmp_path / "b", clock=Clock())
        alyx = AlyxClient(transport, server.url, FixedToken("t"), rate_limiter=budget)
        with within():
            for _ in range(3):
                with pytest.raises(Throttled):
                    alyx.labs()
        assert len(server.requests) == 1
        assert budget.pause_seconds() == pytest.approx(49)


def test_a_short_retry_after_is_waited_for(tmp_path: Path, transport: Transport) -> None:
    throttled = answer_json({"detail": "Request was throttled."}, 429, Retry_After=1)
    labs = answer_json({"count": 1, "results": [{"name": "a"}]})
    with ScriptedServer({"/labs": [throttled, labs]}) as server:
        budget = RateLimiter(tmp_path / "b")
        alyx = AlyxClient(
            transport, server.url, FixedToken("t"), deadline=60.0, rate_limiter=budget
        )
        began = time.monotonic()
        assert alyx.labs() == ["a"]
        assert time.monotonic() - began >= 1.0
        assert len(server.requests) == 2


def test_cached_listings_are_served_while_others_use_up_the_limit(
    tmp_path: Path, transport: Transport
) -> None:
    deadline = 20.0  # shorter than the wait that the server asks for
    with Servers(SyntheticLaboratory(), throttle=20) as servers:
        login = servers.login
        token = fetch_token(transport, servers.alyx_url, login.username, login.password)
        budget = RateLimiter(tmp_path / "b")
        alyx = AlyxClient(
            transport, servers.alyx_url, FixedToken(token), deadline=deadline, rate_limiter=budget
        )
        catalogue = Catalogue(CatalogueDatabase(tmp_path / "c.sqlite"), alyx, deadline=deadline)
        labs = catalogue.labs().value
        while len(servers.requests) < 21:  # requests of another client
            header = {"Authorization": f"Token {token}"}
            transport.get_json(f"{servers.alyx_url}/labs", headers=header)
        with within(deadline * 0.75), pytest.raises(Throttled):  # at once, and not at the deadline
            catalogue.subjects(labs[0])
        with within(deadline * 0.75):
            assert catalogue.labs().value == labs
        assert not catalogue.offline
        catalogue.close()


def test_the_constants_stay_below_the_limit_of_alyx() -> None:
    assert BURST_REQUESTS + 60 * REQUESTS_PER_SECOND < ALYX
    assert BURST_REQUESTS - RESERVED_REQUESTS + 60 * REQUESTS_PER_SECOND <= BULK

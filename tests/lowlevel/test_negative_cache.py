"""The negative cache: a failure is the answer to the same request until its TTL expires."""

from __future__ import annotations

import pytest

from onefs.errors import CacheError, OnefsError, ServerError, Throttled
from onefs.lowlevel.negative_cache import NegativeCache


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ttl(error: OnefsError) -> float:
    if isinstance(error, Throttled):
        return 0.0
    return 1.0 if isinstance(error, CacheError) else 5.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(clock: Clock) -> NegativeCache[str]:
    return NegativeCache(2, ttl, clock)


def test_a_failure_is_kept_for_its_ttl(failures: NegativeCache[str], clock: Clock) -> None:
    failures.add("server", ServerError("broken", 500))
    failures.add("disk", CacheError("full"))
    clock.now += 1.0
    assert failures.get("disk") is None
    failures.raise_failure("disk")
    with pytest.raises(ServerError, match="broken"):
        failures.raise_failure("server")
    clock.now += 4.0
    failures.raise_failure("server")


def test_a_failure_with_a_ttl_of_zero_is_not_kept(failures: NegativeCache[str]) -> None:
    failures.add("a", Throttled("later", 3.0))
    assert failures.get("a") is None


def test_each_raise_is_a_copy_without_the_frames_of_the_first(
    failures: NegativeCache[str],
) -> None:
    try:
        raise ServerError("broken", 503, "detail")
    except ServerError as error:
        failures.add("a", error)
    caught = []
    for _ in range(2):
        with pytest.raises(ServerError) as raised:
            failures.raise_failure("a")
        caught.append(raised.value)
    assert caught[0] is not caught[1]
    assert (caught[0].status, caught[0].detail) == (503, "detail")
    kept = failures.get("a")
    assert kept is not None
    assert kept.__traceback__ is None


def test_failures_are_dropped_one_by_one_all_at_once_and_beyond_the_limit(
    failures: NegativeCache[str],
) -> None:
    for key in ("a", "b"):
        failures.add(key, ServerError("broken", 500))
    failures.discard("a")
    failures.discard("never failed")
    assert failures.get("a") is None
    assert failures.get("b") is not None
    failures.clear()
    assert failures.get("b") is None
    for key in ("a", "b", "c"):
        failures.add(key, ServerError("broken", 500))
    assert failures.get("a") is None
    assert failures.get("c") is not None


def test_a_failure_that_its_handler_raises_again_keeps_no_frames(
    failures: NegativeCache[str],
) -> None:
    def fetch() -> None:
        try:
            raise ServerError("broken", 503)
        except ServerError as error:
            failures.add("a", error)
            raise

    with pytest.raises(ServerError):
        fetch()
    kept = failures.get("a")
    assert kept is not None
    assert kept.__traceback__ is None

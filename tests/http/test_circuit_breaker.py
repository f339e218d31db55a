"""The circuit breaker is open from a failure until an answer. No probe blocks it forever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import repeat

import pytest

from onefs.errors import Stopping, Unreachable
from onefs.http import circuit_breaker
from onefs.http.circuit_breaker import CircuitBreaker, Probe
from tests.running import wait_until


@pytest.fixture
def circuit() -> Iterator[CircuitBreaker]:
    opened = CircuitBreaker(is_open=True)
    yield opened
    opened.stop()


def answered_probe() -> None:
    """Return a probe that the server answers."""


def test_opening_and_closing_report_whether_they_changed_anything() -> None:
    circuit = CircuitBreaker()
    assert [circuit.open(), circuit.open()] == [True, False]
    assert circuit.is_open
    assert [circuit.close(), circuit.close()] == [True, False]
    assert not circuit.is_open


def test_an_answered_probe_closes_the_circuit(circuit: CircuitBreaker) -> None:
    circuit.start_probe(Probe(answered_probe, circuit.close))
    wait_until(lambda: not circuit.is_open)
    assert not circuit.is_probing


def test_probes_repeat_until_one_is_answered(circuit: CircuitBreaker) -> None:
    failures = [Unreachable("no way"), ZeroDivisionError("not foreseen"), Unreachable("no way")]

    def probe() -> None:
        if failures:
            raise failures.pop()

    circuit.start_probe(Probe(probe, circuit.close, repeat(0.01)))
    wait_until(lambda: not circuit.is_open)
    assert not failures


def test_one_probe_runs_at_a_time_and_the_next_after_a_pause(circuit: CircuitBreaker) -> None:
    release, sent = threading.Event(), []

    def probe() -> None:
        sent.append(1)
        release.wait(60)
        raise Unreachable("no way")

    for _ in range(3):
        circuit.start_probe(Probe(probe, circuit.close))
    wait_until(lambda: sent)
    release.set()
    wait_until(lambda: not circuit.is_probing)
    circuit.start_probe(Probe(probe, circuit.close), pause_seconds=1000.0)
    assert not circuit.is_probing
    assert len(sent) == 1
    circuit.start_probe(Probe(probe, circuit.close))
    wait_until(lambda: len(sent) == 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("end", [ZeroDivisionError, SystemExit, Stopping, MemoryError])
def test_a_probe_that_ends_in_any_way_does_not_prevent_the_next(
    circuit: CircuitBreaker, end: type[BaseException]
) -> None:
    def probe() -> None:
        raise end("not foreseen")

    circuit.start_probe(Probe(probe, circuit.close))
    wait_until(lambda: not circuit.is_probing)
    assert circuit.is_open
    circuit.start_probe(Probe(answered_probe, circuit.close))
    wait_until(lambda: not circuit.is_open)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_while_closing_does_not_prevent_the_next_probe(circuit: CircuitBreaker) -> None:
    def fail() -> None:
        raise ZeroDivisionError("not foreseen")

    circuit.start_probe(Probe(answered_probe, fail))
    wait_until(lambda: not circuit.is_probing)
    circuit.start_probe(Probe(answered_probe, circuit.close))
    wait_until(lambda: not circuit.is_open)


def test_a_probe_that_cannot_start_does_not_prevent_the_next(
    circuit: CircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        circuit.start_probe(Probe(answered_probe, circuit.close))
    assert not circuit.is_probing
    circuit.start_probe(Probe(answered_probe, circuit.close))
    wait_until(lambda: not circuit.is_open)


def test_a_probe_that_never_ends_does_not_prevent_the_next(
    circuit: CircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "MAX_PROBE_SECONDS", 0.1)
    release, ended = threading.Event(), threading.Event()

    def hang() -> None:
        release.wait(60)
        ended.set()
        raise Unreachable("no way")

    circuit.start_probe(Probe(hang, circuit.close, repeat(0.0)))
    wait_until(lambda: not circuit.is_probing)
    circuit.start_probe(Probe(answered_probe, circuit.close))
    wait_until(lambda: not circuit.is_open)
    release.set()
    assert ended.wait(60)
    assert not circuit.is_probing


def test_a_stopped_circuit_sends_no_more_probes(circuit: CircuitBreaker) -> None:
    sent: list[int] = []
    circuit.start_probe(Probe(lambda: sent.append(1), circuit.close, [1000.0]))
    was_probing = circuit.is_probing
    assert was_probing
    circuit.stop()
    wait_until(lambda: not circuit.is_probing)
    circuit.start_probe(Probe(lambda: sent.append(1), circuit.close))
    assert not circuit.is_probing
    assert sent == []
    assert circuit.is_open

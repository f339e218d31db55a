"""Events that signal handlers set."""

from __future__ import annotations

import signal
import threading

from onefs.lowlevel.signal_event import SignalEvent


def test_a_handler_sets_it_while_the_main_thread_begins_to_wait() -> None:
    """``threading.Event`` stands still here, after some thousand signals."""
    event = SignalEvent()
    before = signal.signal(signal.SIGUSR2, lambda *_: event.set())
    stopped = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        while not stopped.is_set():
            signal.pthread_kill(main, signal.SIGUSR2)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert all(event.wait(1.0) for _ in range(20_000))
    finally:
        stopped.set()
        thread.join()
        signal.signal(signal.SIGUSR2, before)


def test_it_stays_set_and_a_wait_has_an_end() -> None:
    event = SignalEvent()
    assert (event.is_set(), event.wait(0.01)) == (False, False)
    event.set()
    assert [event.is_set(), event.wait(0.01), event.wait(0.01), event.is_set()] == 4 * [True]

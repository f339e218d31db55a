"""SIGTERM, SIGINT and SIGHUP end a benchmark like an exception: what it started is undone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _State:
    """Of this process."""

    #: how many blocks are being executed in which no signal is acted on
    held = 0
    #: the signal that came within such a block
    waiting: int | None = None
    #: a signal was acted on: the ones after it would disturb the clean-up
    ended = False


def end_cleanly() -> None:
    """From now on, the first of these signals raises SystemExit in the main thread."""
    for number in _SIGNALS:
        # a function, not SIG_IGN, which the programs that are started would inherit
        signal.signal(number, _on_signal)


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes in the block is acted on at its end."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        number, _State.waiting = _State.waiting, None
        if number is not None:
            _on_signal(number)


def _on_signal(number: int, _frame: object = None) -> None:
    if _State.ended:
        return
    if _State.held:
        _State.waiting = number
        return
    _State.ended = True
    raise SystemExit(128 + number)

"""What is made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from onefs.errors import Stopping
from onefs.lowlevel.forking import ForkAware, register_fork_aware

T = TypeVar("T", covariant=True)


class Lazy(ForkAware, Generic[T]):
    """Makes something at the first call, and gives the same at all others. Thread-safe.

    What fails is tried again at the next call. After :meth:`end` nothing is made any more. A child
    made by a fork makes it anew: locks and threads in it would be the parent's.
    """

    def __init__(self, factory: Callable[[], T]) -> None:
        self._factory = factory
        self._lock = threading.RLock()
        self._value: T | None = None
        self._is_closed = False
        register_fork_aware(self)

    def __call__(self) -> T:
        """The thing. Raises what making it raises, and Stopping when it was not made in time."""
        made = self._value
        if made is None:
            with self._lock:
                made = self._value
                if made is None:
                    if self._is_closed:
                        raise Stopping("onefs is being stopped")
                    made = self._value = self._factory()
        return made

    def start(self) -> None:
        """Make it behind the caller, if nobody has. What fails then is told at the next call."""
        if self._value is None:
            threading.Thread(
                target=self._create_ignoring_errors, name="onefs-once", daemon=True
            ).start()

    def close(self) -> T | None:
        """What was made, None when nothing was and nothing will be."""
        self._is_closed = True
        with self._lock:
            return self._value

    def reset(self) -> T | None:
        """What was made, which is made anew at the next call."""
        made, self._value = self._value, None
        return made

    def after_fork_in_child(self) -> None:
        """Have it made anew."""
        self._lock = threading.RLock()
        self._value = None

    def _create_ignoring_errors(self) -> None:
        with suppress(Exception):
            self()

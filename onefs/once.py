"""What is made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from onefs.errors import Stopping
from onefs.forking import Member, register

T = TypeVar("T", covariant=True)


class Once(Member, Generic[T]):
    """Makes something at the first call, and gives the same at all others. Thread-safe.

    What fails is tried again at the next call. After :meth:`end` nothing is made any more. A child
    made by a fork makes it anew: locks and threads in it would be the parent's.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.RLock()
        self._made: T | None = None
        self._ended = False
        register(self)

    def __call__(self) -> T:
        """The thing. Raises what making it raises, and Stopping when it was not made in time."""
        made = self._made
        if made is None:
            with self._lock:
                made = self._made
                if made is None:
                    if self._ended:
                        raise Stopping("onefs is being stopped")
                    made = self._made = self._make()
        return made

    def begin(self) -> None:
        """Make it behind the caller, if nobody has. What fails then is told at the next call."""
        if self._made is None:
            threading.Thread(target=self._try, name="onefs-once", daemon=True).start()

    def end(self) -> T | None:
        """What was made, None when nothing was and nothing will be."""
        self._ended = True
        with self._lock:
            return self._made

    def renew(self) -> T | None:
        """What was made, which is made anew at the next call."""
        made, self._made = self._made, None
        return made

    def after_fork_in_child(self) -> None:
        """Have it made anew."""
        self._lock = threading.RLock()
        self._made = None

    def _try(self) -> None:
        with suppress(Exception):
            self()

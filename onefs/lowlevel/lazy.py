"""A value that is created on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from onefs.errors import Stopping
from onefs.lowlevel.forking import ForkAware, register_fork_aware

T = TypeVar("T", covariant=True)


class Lazy(ForkAware, Generic[T]):
    """A value that ``factory`` creates at the first call. Later calls return it. Thread-safe.

    If ``factory`` fails, the next call tries again. A child made by a fork creates its own value.
    After :meth:`close` no value is created. A value that another thread is creating is returned by
    :meth:`close`; one that the same thread is creating (as in a signal handler) is dropped.
    """

    def __init__(self, factory: Callable[[], T]) -> None:
        self._factory = factory
        self._lock = threading.RLock()
        self._value: T | None = None
        self._is_closed = False
        #: the thread in which ``factory`` is running, and whether :meth:`close` was called there
        self._creator: int | None = None
        self._is_dropped = False
        # locks and threads of the value belong to the process that created it
        register_fork_aware(self)

    def __call__(self) -> T:
        """Return the value. Raises what ``factory`` raises, and Stopping after :meth:`close`."""
        value = self._value
        if value is None:
            with self._lock:
                value = self._value
                if value is None:
                    if self._is_closed:
                        raise Stopping("onefs is being stopped")
                    self._creator = threading.get_ident()
                    try:
                        value = self._factory()
                    finally:
                        self._creator = None
                    # a signal handler has closed it during the call; then close() has not returned
                    # the value, so that it must not be used
                    if self._is_dropped:
                        raise Stopping("onefs is being stopped")
                    self._value = value
        return value

    def start(self) -> None:
        """Start to create the value in the background. Do nothing if the value exists.

        If the creation fails, the next call tries again and raises the error.
        """
        if self._value is None:
            # without a thread, the next call creates the value
            with suppress(RuntimeError):
                threading.Thread(
                    target=self._create_ignoring_errors, name="onefs-lazy", daemon=True
                ).start()

    def close(self) -> T | None:
        """Create no value from now on. Return the present value, or None if no value exists."""
        self._is_closed = True
        self._is_dropped = self._creator == threading.get_ident()
        with self._lock:
            return self._value

    def reset(self) -> T | None:
        """Forget and return the present value. Return None if no value was created.

        The next call creates a new value.
        """
        value, self._value = self._value, None
        return value

    def after_fork_in_child(self) -> None:
        """Forget the parent's value and lock."""
        self._lock = threading.RLock()
        self._value = None

    def _create_ignoring_errors(self) -> None:
        with suppress(Exception):
            self()

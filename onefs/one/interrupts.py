"""Handling of Ctrl-C in a method of ``ONE``: the method ends, and the object remains usable."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from onefs.errors import Stopping

F = TypeVar("F", bound=Callable[..., Any])


class Interruptible:
    """Base class for objects with methods that Ctrl-C can end (:func:`interruptible`)."""

    #: how many times Ctrl-C has ended the requests in progress
    _interrupt_count = 0

    def _interrupt(self) -> None:
        """End the requests of all methods of this object. Later requests use new connections."""
        raise NotImplementedError


def interruptible(method: F) -> F:
    """Decorate a method so that Ctrl-C also ends the method's requests and downloads."""

    @wraps(method)
    def run(self: Interruptible, *args: Any, **kwargs: Any) -> Any:
        while True:
            before = self._interrupt_count
            try:
                return method(self, *args, **kwargs)
            except KeyboardInterrupt:
                self._interrupt_count += 1
                self._interrupt()
                raise
            # if Ctrl-C in another thread has ended the requests, the method is run again
            except Stopping:
                if before == self._interrupt_count:
                    raise

    return cast(F, run)

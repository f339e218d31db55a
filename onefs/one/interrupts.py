"""Ctrl-C in a method of ``ONE``: it ends at once, and the object works on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from onefs.errors import Stopping

F = TypeVar("F", bound=Callable[..., Any])


class Interruptible:
    """The base of what has methods that are :func:`interruptible`."""

    #: how often what was under way was ended by Ctrl-C
    _interrupt_count = 0

    def _interrupt(self) -> None:
        """End what is under way; what is asked for afterwards begins anew."""
        raise NotImplementedError


def interruptible(method: F) -> F:
    """A method whose requests and downloads end when Ctrl-C ends it.

    Other threads share the object, and so their requests end, too: they are begun again.
    """

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
            except Stopping:
                if before == self._interrupt_count:
                    raise

    return cast(F, run)

"""The transport of offline mode: every request fails at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from onefs.config.urls import host_of
from onefs.errors import Offline, OnefsError
from onefs.http.transport import Transport


class OfflineTransport(Transport):
    """A :class:`Transport` without network. Every request raises Offline.

    ``error``, if given, makes the error of each request instead.
    """

    def __init__(self, error: Callable[[], OnefsError] | None = None) -> None:
        super().__init__()
        self._error = error

    def load(self) -> None:
        """Do nothing, because no request is sent."""

    def get_json(self, url: str, **_: Any) -> NoReturn:
        raise self._error_of(url)

    def post_json(self, url: str, payload: Any, **_: Any) -> NoReturn:
        raise self._error_of(url)

    def stream(self, url: str, **_: Any) -> NoReturn:
        raise self._error_of(url)

    def _error_of(self, url: str) -> OnefsError:
        return _offline_error(url) if self._error is None else self._error()


def _offline_error(url: str) -> Offline:
    return Offline(f"no request is sent to {host_of(url)}, because onefs is in offline mode")

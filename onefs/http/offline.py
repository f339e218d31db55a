"""The transport of offline mode: every request fails at once."""

from __future__ import annotations

from typing import Any, NoReturn

from onefs.config.urls import host_of
from onefs.errors import Offline
from onefs.http.transport import Transport


class OfflineTransport(Transport):
    """A :class:`Transport` without network. Every request raises Offline."""

    def load(self) -> None:
        """Do nothing, because no request is sent."""

    def get_json(self, url: str, **_: Any) -> NoReturn:
        raise _offline_error(url)

    def post_json(self, url: str, payload: Any, **_: Any) -> NoReturn:
        raise _offline_error(url)

    def stream(self, url: str, **_: Any) -> NoReturn:
        raise _offline_error(url)


def _offline_error(url: str) -> Offline:
    return Offline(f"no request is sent to {host_of(url)}, because onefs is in offline mode")

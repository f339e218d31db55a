"""The transport of who wants no network: everything fails at once, and says why."""

from __future__ import annotations

from typing import Any, NoReturn

from onefs.errors import Unreachable
from onefs.http.transport import Transport
from onefs.urls import host_of


class NoTransport(Transport):
    """A :class:`Transport` that asks nobody. Every request raises Unreachable."""

    def get_json(self, url: str, **_: Any) -> NoReturn:
        raise _refusal(url)

    def post_json(self, url: str, payload: Any, **_: Any) -> NoReturn:
        raise _refusal(url)

    def stream(self, url: str, **_: Any) -> NoReturn:
        raise _refusal(url)


def _refusal(url: str) -> Unreachable:
    return Unreachable(f"{host_of(url)} is not asked: the mount is offline")

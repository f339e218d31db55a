"""The value type of one HTTP request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from onefs.http.auth import HostAuth


class HttpRequest(NamedTuple):
    """One request and its timeouts."""

    method: str
    url: str
    #: seconds that connecting may take
    connect_timeout: float
    #: seconds to wait for the next byte; used only where the watchdog cannot end the request
    read_timeout: float
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes | None = None
    #: credentials for file servers; None if no credentials are sent
    auth: HostAuth | None = None
    #: False if the caller wants the answer that redirects
    follow_redirects: bool = True
    #: whether the body is wanted as it is sent, by :class:`onefs.http.stream.Stream`
    is_plain: bool = False

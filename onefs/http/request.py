"""The value type of one HTTP request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onefs.http.auth import HostAuth


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request and its timeouts."""

    method: str
    url: str
    #: seconds
    connect_timeout: float
    #: seconds between two bytes; used only where the watchdog cannot end the request
    read_timeout: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    #: credentials of file servers; None to send none
    auth: HostAuth | None = None

"""What one request is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onefs.http.auth import HostAuth


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, and how long its sockets may be silent where the watchdog cannot end them."""

    method: str
    url: str
    connect_timeout: float
    read_timeout: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    auth: HostAuth | None = None

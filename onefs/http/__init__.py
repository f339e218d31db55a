"""One way to talk HTTP: deadlines, redirects, retries, and credentials that stay with their host.

=============  ==================================================================
``transport``  :class:`Transport`: JSON within a total deadline, data as a stream
``body``       a body in JSON: unpacked, bounded, parsed
``offline``    :class:`OfflineTransport`: no network at all
``streams``    :class:`Stream`: one answer's bytes as they come
``auth``       :class:`HostAuth`: which file server gets the user and password
``retry``      whether and when to try again: a pure decision
``failures``   every exception of requests and urllib3 as one of ``onefs.errors``
``exchange``   what ends a request from outside: the watchdog, ``abort``
``adapter``    requests' own adapter, on connections that an exchange can end
=============  ==================================================================
"""

from __future__ import annotations

from onefs.http.auth import HostAuth
from onefs.http.json_body import MAX_JSON_BYTES, MAX_JSON_VALUES
from onefs.http.offline import OfflineTransport
from onefs.http.retry import retry_after_seconds, retry_delay
from onefs.http.stream import Stream
from onefs.http.transport import DEADLINE_SECONDS, JsonAnswer, Transport

__all__ = [
    "DEADLINE_SECONDS",
    "MAX_JSON_BYTES",
    "MAX_JSON_VALUES",
    "HostAuth",
    "JsonAnswer",
    "OfflineTransport",
    "Stream",
    "Transport",
    "retry_after_seconds",
    "retry_delay",
]

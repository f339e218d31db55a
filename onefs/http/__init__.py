"""The HTTP transport: deadlines, redirects, retries, and credentials that stay with their host.

====================  ===========================================================
``transport``         :class:`Transport`: JSON within a total deadline, data as a stream
``offline``           :class:`OfflineTransport`: a transport without network
``stream``            :class:`Stream`: the bytes of one response as they arrive
``json_body``         a response body in JSON: unpacked, bounded, parsed
``sender``            one request with its credentials and redirects
``auth``              :class:`HostAuth`: which file server gets the user name and password
``stored_auth``       the same credentials as they are stored, also after a new login
``retry``             whether and when to send a request again: a pure decision
``circuit_breaker``   :class:`CircuitBreaker`: no requests to a server that does not answer
``error_mapping``     exceptions of requests, urllib3, ssl and sockets as ``onefs.errors``
``exchange``          one request that a deadline or another thread can end
``connection_pools``  kept connections, over urllib3
``proxy_adapter``     the same over requests, for proxies
``resolver``          host names to addresses, on a bounded number of threads
====================  ===========================================================
"""

from __future__ import annotations

from onefs.http.auth import HostAuth
from onefs.http.json_body import MAX_JSON_BYTES, MAX_JSON_VALUES, JsonAnswer
from onefs.http.offline import OfflineTransport
from onefs.http.retry import retry_after_seconds, retry_delay
from onefs.http.stream import Stream
from onefs.http.transport import DEADLINE_SECONDS, Transport

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

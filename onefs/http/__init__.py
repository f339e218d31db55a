"""The HTTP transport: deadlines, redirects, retries, and credentials for trusted hosts only.

====================  ===========================================================
``transport``         :class:`Transport`: gets JSON within a deadline, and data as a stream
``offline``           :class:`OfflineTransport`: a transport without network
``stream``            :class:`Stream`: the bytes of one response as they arrive
``json_body``         unpacks a JSON body, limits its size, and parses it
``sender``            sends one request with its credentials, and follows redirects
``redirects``         decides which answers redirect a request, and to which URL
``auth``              :class:`HostAuth`: decides which file server gets the password
``stored_auth``       reads these credentials again when new ones are stored
``retry``             decides whether and when to send a request again
``circuit_breaker``   :class:`CircuitBreaker`: stops requests to an unreachable server
``error_mapping``     converts exceptions of the HTTP libraries to ``onefs.errors``
``exchange``          one request that a deadline or another thread can end
``dialing``           connects to a host, so that any thread can shut the connection down
``connection_pools``  keeps connections open for later requests, with urllib3
``proxy_adapter``     sends requests through proxies, with the library requests
``resolver``          looks up the addresses of hosts, on a limited number of threads
====================  ===========================================================

The first request loads urllib3, ssl and the modules that need them (``sender``,
``connection_pools``, ``dialing``, ``error_mapping``). The other modules import them for types only.
"""

from __future__ import annotations

from onefs.http.auth import HostAuth
from onefs.http.json_body import MAX_JSON_BYTES, MAX_JSON_VALUES, JsonAnswer
from onefs.http.offline import OfflineTransport
from onefs.http.redirects import redirect_target
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
    "redirect_target",
    "retry_after_seconds",
    "retry_delay",
]

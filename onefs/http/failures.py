"""Every exception of requests, urllib3, ssl and the sockets as one of ``onefs.errors``.

The sentences are ours: theirs may hold URLs with credentials.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Callable, Iterator

import requests
import urllib3.exceptions as u3

from onefs.errors import DeadlineExceeded, OnefsError, ServerError, Unreachable, UsageError

#: what sending a request and reading its answer may raise
RAISED: tuple[type[BaseException], ...] = (
    requests.RequestException,
    u3.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)

_Sentence = Callable[[BaseException, str], OnefsError]


def failure(error: BaseException, host: str) -> OnefsError:
    """What ``error``, raised while talking to ``host``, means for onefs."""
    causes = list(causes_of(error))
    for kinds, sentence in _RULES:
        for cause in causes:
            if isinstance(cause, kinds):
                return sentence(cause, host)
    return ServerError(f"talking to {host} failed ({type(error).__name__})")


def is_lasting(error: OnefsError) -> bool:
    """Whether trying again cannot help: a bad certificate, a name that does not exist."""
    return any(
        isinstance(cause, ssl.SSLCertVerificationError)
        or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME)
        for cause in causes_of(error)
    )


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps: ``__cause__``, urllib3's ``reason``, exceptions in ``args``.

    Not ``__context__``: it may be something that the caller was just handling.
    """
    todo, seen = [error], set[int]()
    while todo:
        cause = todo.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, getattr(cause, "reason", None), *cause.args)
        todo.extend(item for item in inner if isinstance(item, BaseException))


def _certificate(error: BaseException, host: str) -> OnefsError:
    why = getattr(error, "verify_message", "") or "it cannot be verified"
    return Unreachable(
        f"the certificate of {host} is not accepted: {why}; check the clock, or name your "
        "network's own certificates in REQUESTS_CA_BUNDLE"
    )


def _tls(error: BaseException, host: str) -> OnefsError:
    why = str(getattr(error, "reason", "") or "") if isinstance(error, ssl.SSLError) else ""
    return Unreachable(f"no TLS connection with {host}" + (f": {why}" if why else ""))


def _name(error: BaseException, host: str) -> OnefsError:
    return Unreachable(f"the name of {host} cannot be looked up: check the URL and the network")


def _proxy(error: BaseException, host: str) -> OnefsError:
    return Unreachable(
        f"the proxy on the way to {host} fails: check http_proxy, https_proxy and no_proxy"
    )


def _connect_timeout(error: BaseException, host: str) -> OnefsError:
    return Unreachable(f"{host} does not answer a connection: check the URL and the network")


def _read_timeout(error: BaseException, host: str) -> OnefsError:
    return DeadlineExceeded(f"{host} sent nothing for too long")


def _short(error: BaseException, host: str) -> OnefsError:
    return ServerError(f"{host} broke off in the middle of its answer")


def _nonsense(error: BaseException, host: str) -> OnefsError:
    return ServerError(f"{host} did not answer in HTTP ({type(error).__name__})")


def _socket(error: BaseException, host: str) -> OnefsError:
    number = getattr(error, "errno", None)
    why = os.strerror(number) if isinstance(number, int) and number > 0 else "it was closed"
    return Unreachable(f"the connection to {host} failed: {why}")


def _no_connection(error: BaseException, host: str) -> OnefsError:
    return _socket(error.__cause__ or error, host)


def _closed(error: BaseException, host: str) -> OnefsError:
    return Unreachable(f"the connection to {host} failed: it was closed")


def _request(error: BaseException, host: str) -> OnefsError:
    return UsageError(f"no request can be made for {host}: the address or a header is not valid")


#: looked through in order: the first kind that any of the causes is says what happened
_RULES: tuple[tuple[tuple[type[BaseException], ...], _Sentence], ...] = (
    ((ssl.SSLCertVerificationError,), _certificate),
    ((u3.ProxyError, requests.exceptions.ProxyError), _proxy),
    (
        (u3.ProxySchemeUnknown, u3.ProxySchemeUnsupported, requests.exceptions.InvalidProxyURL),
        _proxy,
    ),
    ((socket.gaierror, u3.NameResolutionError), _name),
    ((ConnectionError,), _socket),
    ((u3.NewConnectionError,), _no_connection),
    ((http.client.IncompleteRead, requests.exceptions.ChunkedEncodingError), _short),
    ((u3.ReadTimeoutError, requests.exceptions.ReadTimeout), _read_timeout),
    ((TimeoutError, u3.TimeoutError, requests.exceptions.Timeout), _connect_timeout),
    ((ssl.SSLError, u3.SSLError, requests.exceptions.SSLError), _tls),
    (
        (
            u3.LocationValueError,
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
            requests.exceptions.URLRequired,
            UnicodeError,
        ),
        _request,
    ),
    (
        (
            http.client.HTTPException,
            u3.InvalidHeader,
            u3.HeaderParsingError,
            u3.DecodeError,
            u3.ResponseError,
            u3.ResponseNotChunked,
            requests.exceptions.InvalidHeader,
            requests.exceptions.InvalidJSONError,
            requests.exceptions.ContentDecodingError,
            requests.exceptions.TooManyRedirects,
        ),
        _nonsense,
    ),
    ((requests.exceptions.ConnectionError, u3.ProtocolError, u3.PoolError), _closed),
    ((requests.RequestException,), _nonsense),
    ((OSError,), _socket),
    ((ValueError,), _request),
)

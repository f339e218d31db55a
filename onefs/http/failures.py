"""Every exception of HTTP libraries, ssl and the sockets as one of ``onefs.errors``.

The sentences are ours: theirs may hold URLs with credentials.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterator

import urllib3.exceptions as u3

from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Unreachable,
    UsageError,
    WrongScheme,
)

_Sentence = Callable[[BaseException, str], OnefsError]
_Kinds = tuple[type[BaseException], ...]


#: what OpenSSL says of an answer that is no TLS, by its version
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG",
            "HTTP_REQUEST", "UNKNOWN_PROTOCOL")  # fmt: skip


#: what sending a request and reading its answer may raise; all of requests' are OSErrors
RAISED: _Kinds = (u3.HTTPError, http.client.HTTPException, OSError, ValueError)


def _of_requests(*names: str) -> _Kinds:
    """Exceptions of requests; none while it is not loaded, since it has raised none then."""
    loaded = sys.modules.get("requests.exceptions")
    return () if loaded is None else tuple(getattr(loaded, name) for name in names)


def failure(error: BaseException, host: str) -> OnefsError:
    """What ``error``, raised while talking to ``host``, means for onefs."""
    causes = list(causes_of(error))
    for kinds, sentence in _rules():
        for cause in causes:
            if isinstance(cause, kinds):
                return sentence(cause, host)
    return ServerError(f"talking to {host} failed ({type(error).__name__})")


def is_lasting(error: OnefsError) -> bool:
    """Whether trying again cannot help: a bad certificate, a name that does not exist."""
    return isinstance(error, WrongScheme) or any(
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
    if why in _NOT_TLS:
        return WrongScheme(f"no TLS connection with {host}: does it speak http?")
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
    advice = ": does it speak https?" if isinstance(error, http.client.BadStatusLine) else ""
    return ServerError(f"{host} did not answer in HTTP ({type(error).__name__}){advice}")


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


def _rules() -> tuple[tuple[_Kinds, _Sentence], ...]:
    """Looked through in order: the first kind that any of the causes is says what happened."""
    return (
        ((ssl.SSLCertVerificationError,), _certificate),
        (
            (
                u3.ProxyError,
                u3.ProxySchemeUnknown,
                u3.ProxySchemeUnsupported,
                *_of_requests("ProxyError", "InvalidProxyURL"),
            ),
            _proxy,
        ),
        ((socket.gaierror, u3.NameResolutionError), _name),
        ((ConnectionError,), _socket),
        ((u3.NewConnectionError,), _no_connection),
        ((http.client.IncompleteRead, *_of_requests("ChunkedEncodingError")), _short),
        ((u3.ReadTimeoutError, *_of_requests("ReadTimeout")), _read_timeout),
        (
            (TimeoutError, u3.TimeoutError, *_of_requests("Timeout")),
            _connect_timeout,
        ),
        ((ssl.SSLError,), _tls),  # it has the reason, and the others wrap it
        ((u3.SSLError, *_of_requests("SSLError")), _tls),
        (
            (
                http.client.InvalidURL,
                UnicodeError,
                u3.LocationValueError,
                *_of_requests("InvalidURL", "InvalidSchema", "MissingSchema", "URLRequired"),
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
                *_of_requests("InvalidHeader", "InvalidJSONError"),
                *_of_requests("ContentDecodingError", "TooManyRedirects"),
            ),
            _nonsense,
        ),
        (
            (*_of_requests("ConnectionError"), u3.ProtocolError, u3.PoolError),
            _closed,
        ),
        (_of_requests("RequestException"), _nonsense),
        ((OSError,), _socket),
        ((ValueError,), _request),
    )

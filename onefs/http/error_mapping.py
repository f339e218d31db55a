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

_ErrorFactory = Callable[[BaseException, str], OnefsError]
_ExceptionTypes = tuple[type[BaseException], ...]


#: what OpenSSL says of an answer that is no TLS, by its version
_NOT_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG",
            "HTTP_REQUEST", "UNKNOWN_PROTOCOL")  # fmt: skip


#: what sending a request and reading its answer may raise; all of requests' are OSErrors
HTTP_EXCEPTIONS: _ExceptionTypes = (u3.HTTPError, http.client.HTTPException, OSError, ValueError)


def _requests_exceptions(*names: str) -> _ExceptionTypes:
    """Exceptions of requests; none while it is not loaded, since it has raised none then."""
    loaded = sys.modules.get("requests.exceptions")
    return () if loaded is None else tuple(getattr(loaded, name) for name in names)


def to_onefs_error(error: BaseException, host: str) -> OnefsError:
    """What ``error``, raised while talking to ``host``, means for onefs."""
    causes = list(causes_of(error))
    for kinds, sentence in _mapping_rules():
        for cause in causes:
            if isinstance(cause, kinds):
                return sentence(cause, host)
    return ServerError(f"talking to {host} failed ({type(error).__name__})")


def is_permanent(error: OnefsError) -> bool:
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


def _certificate_error(error: BaseException, host: str) -> OnefsError:
    why = getattr(error, "verify_message", "") or "it cannot be verified"
    return Unreachable(
        f"the certificate of {host} is not accepted: {why}; check the clock, or name your "
        "network's own certificates in REQUESTS_CA_BUNDLE"
    )


def _tls_error(error: BaseException, host: str) -> OnefsError:
    why = str(getattr(error, "reason", "") or "") if isinstance(error, ssl.SSLError) else ""
    if why in _NOT_TLS_REASONS:
        return WrongScheme(f"no TLS connection with {host}: does it speak http?")
    return Unreachable(f"no TLS connection with {host}" + (f": {why}" if why else ""))


def _name_lookup_error(error: BaseException, host: str) -> OnefsError:
    return Unreachable(f"the name of {host} cannot be looked up: check the URL and the network")


def _proxy_error(error: BaseException, host: str) -> OnefsError:
    return Unreachable(
        f"the proxy on the way to {host} fails: check http_proxy, https_proxy and no_proxy"
    )


def _connect_timeout_error(error: BaseException, host: str) -> OnefsError:
    return Unreachable(f"{host} does not answer a connection: check the URL and the network")


def _read_timeout_error(error: BaseException, host: str) -> OnefsError:
    return DeadlineExceeded(f"{host} sent nothing for too long")


def _truncated_answer_error(error: BaseException, host: str) -> OnefsError:
    return ServerError(f"{host} broke off in the middle of its answer")


def _malformed_answer_error(error: BaseException, host: str) -> OnefsError:
    advice = ": does it speak https?" if isinstance(error, http.client.BadStatusLine) else ""
    return ServerError(f"{host} did not answer in HTTP ({type(error).__name__}){advice}")


def _socket_error(error: BaseException, host: str) -> OnefsError:
    number = getattr(error, "errno", None)
    why = os.strerror(number) if isinstance(number, int) and number > 0 else "it was closed"
    return Unreachable(f"the connection to {host} failed: {why}")


def _new_connection_error(error: BaseException, host: str) -> OnefsError:
    return _socket_error(error.__cause__ or error, host)


def _connection_closed_error(error: BaseException, host: str) -> OnefsError:
    return Unreachable(f"the connection to {host} failed: it was closed")


def _invalid_request_error(error: BaseException, host: str) -> OnefsError:
    return UsageError(f"no request can be made for {host}: the address or a header is not valid")


def _mapping_rules() -> tuple[tuple[_ExceptionTypes, _ErrorFactory], ...]:
    """Looked through in order: the first kind that any of the causes is says what happened."""
    return (
        ((ssl.SSLCertVerificationError,), _certificate_error),
        (
            (
                u3.ProxyError,
                u3.ProxySchemeUnknown,
                u3.ProxySchemeUnsupported,
                *_requests_exceptions("ProxyError", "InvalidProxyURL"),
            ),
            _proxy_error,
        ),
        ((socket.gaierror, u3.NameResolutionError), _name_lookup_error),
        ((ConnectionError,), _socket_error),
        ((u3.NewConnectionError,), _new_connection_error),
        (
            (http.client.IncompleteRead, *_requests_exceptions("ChunkedEncodingError")),
            _truncated_answer_error,
        ),
        ((u3.ReadTimeoutError, *_requests_exceptions("ReadTimeout")), _read_timeout_error),
        (
            (TimeoutError, u3.TimeoutError, *_requests_exceptions("Timeout")),
            _connect_timeout_error,
        ),
        ((ssl.SSLError,), _tls_error),  # it has the reason, and the others wrap it
        ((u3.SSLError, *_requests_exceptions("SSLError")), _tls_error),
        (
            (
                http.client.InvalidURL,
                UnicodeError,
                u3.LocationValueError,
                *_requests_exceptions(
                    "InvalidURL", "InvalidSchema", "MissingSchema", "URLRequired"
                ),
            ),
            _invalid_request_error,
        ),
        (
            (
                http.client.HTTPException,
                u3.InvalidHeader,
                u3.HeaderParsingError,
                u3.DecodeError,
                u3.ResponseError,
                u3.ResponseNotChunked,
                *_requests_exceptions("InvalidHeader", "InvalidJSONError"),
                *_requests_exceptions("ContentDecodingError", "TooManyRedirects"),
            ),
            _malformed_answer_error,
        ),
        (
            (*_requests_exceptions("ConnectionError"), u3.ProtocolError, u3.PoolError),
            _connection_closed_error,
        ),
        (_requests_exceptions("RequestException"), _malformed_answer_error),
        ((OSError,), _socket_error),
        ((ValueError,), _invalid_request_error),
    )

"""Converts exceptions of requests, urllib3, ssl and sockets to errors of ``onefs.errors``.

The error messages are written here, because the messages of the libraries may contain URLs with
credentials.
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

#: OpenSSL's reasons for a response that is not TLS; the reason depends on the OpenSSL version
_NOT_TLS_REASONS = (
    *("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"),
    *("HTTP_REQUEST", "UNKNOWN_PROTOCOL"),
)
#: exceptions raised while a request is sent or its response is read; the exceptions of the
#: library requests are OSErrors
HTTP_EXCEPTIONS: _ExceptionTypes = (u3.HTTPError, http.client.HTTPException, OSError, ValueError)


def _requests_exceptions(*names: str) -> _ExceptionTypes:
    """Return exception types of the library requests, or () if that library is not loaded."""
    loaded = sys.modules.get("requests.exceptions")
    return () if loaded is None else tuple(getattr(loaded, name) for name in names)


def to_onefs_error(error: BaseException, host: str) -> OnefsError:
    """Return the error of ``onefs.errors`` for ``error``, which a request to ``host`` raised."""
    causes = list(causes_of(error))
    for kinds, to_error in _mapping_rules():
        for cause in causes:
            if isinstance(cause, kinds):
                return to_error(cause, host)
    return ServerError(f"the request to {host} failed ({type(error).__name__})")


def is_permanent(error: OnefsError) -> bool:
    """Whether a retry is useless, for example because of an invalid certificate."""
    return isinstance(error, WrongScheme) or any(
        isinstance(cause, ssl.SSLCertVerificationError)
        or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME)
        for cause in causes_of(error)
    )


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and all errors that ``error`` wraps, at any depth."""
    todo, seen = [error], set[int]()
    while todo:
        cause = todo.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        # not __context__, which may be an error that the caller was handling
        inner = (cause.__cause__, getattr(cause, "reason", None), *cause.args)
        todo.extend(item for item in inner if isinstance(item, BaseException))


def _certificate_error(error: BaseException, host: str) -> OnefsError:
    why = getattr(error, "verify_message", "") or "the certificate cannot be verified"
    return Unreachable(
        f"the certificate of {host} is not accepted: {why}; check the clock, or name your "
        "network's own certificates in REQUESTS_CA_BUNDLE"
    )


def _tls_error(error: BaseException, host: str) -> OnefsError:
    why = str(getattr(error, "reason", "") or "") if isinstance(error, ssl.SSLError) else ""
    if why in _NOT_TLS_REASONS:
        return WrongScheme(
            f"{host} does not answer in https: if the server uses http, write http:// in the URL"
        )
    return Unreachable(f"no https connection to {host} can be made" + (f": {why}" if why else ""))


def _malformed_response_error(error: BaseException, host: str) -> OnefsError:
    is_other_protocol = isinstance(error, http.client.BadStatusLine)
    advice = ": if the server uses https, write https:// in the URL" if is_other_protocol else ""
    return ServerError(f"{host} did not answer in HTTP ({type(error).__name__}){advice}")


def _socket_error(error: BaseException, host: str) -> OnefsError:
    number = getattr(error, "errno", None)
    why = (
        os.strerror(number)
        if isinstance(number, int) and number > 0
        else "the connection was closed"
    )
    return Unreachable(f"the connection to {host} failed: {why}")


def _new_connection_error(error: BaseException, host: str) -> OnefsError:
    return _socket_error(error.__cause__ or error, host)


def _fixed(kind: type[OnefsError], message: str) -> _ErrorFactory:
    """Return a factory of errors with the text ``message``. ``{host}`` is replaced by the host."""
    return lambda error, host: kind(message.format(host=host))


_proxy_error = _fixed(
    Unreachable, "the proxy on the way to {host} fails: check http_proxy, https_proxy and no_proxy"
)
_name_lookup_error = _fixed(
    Unreachable, "the name of {host} cannot be looked up: check the URL and the network"
)
_connect_timeout_error = _fixed(
    Unreachable, "{host} does not answer: check the URL and the network"
)
_read_timeout_error = _fixed(DeadlineExceeded, "{host} sent nothing for too long")
_truncated_response_error = _fixed(ServerError, "{host} stopped in the middle of its answer")
_connection_closed_error = _fixed(
    Unreachable, "the connection to {host} failed: the connection was closed"
)
_invalid_request_error = _fixed(
    UsageError, "no request can be made for {host}: the address or a header is not valid"
)


def _mapping_rules() -> tuple[tuple[_ExceptionTypes, _ErrorFactory], ...]:
    """Return the rules that convert exceptions: pairs of exception types and an error factory.

    The first rule that matches the exception, or an exception wrapped in it, is used.
    """
    of_requests = _requests_exceptions
    invalid_urls = of_requests("InvalidURL", "InvalidSchema", "MissingSchema", "URLRequired")
    malformed = of_requests(
        "InvalidHeader", "InvalidJSONError", "ContentDecodingError", "TooManyRedirects"
    )
    return (
        ((ssl.SSLCertVerificationError,), _certificate_error),
        ((u3.ProxyError, u3.ProxySchemeUnknown, u3.ProxySchemeUnsupported), _proxy_error),
        (of_requests("ProxyError", "InvalidProxyURL"), _proxy_error),
        ((socket.gaierror, u3.NameResolutionError), _name_lookup_error),
        ((ConnectionError,), _socket_error),
        ((u3.NewConnectionError,), _new_connection_error),
        ((http.client.IncompleteRead,), _truncated_response_error),
        (of_requests("ChunkedEncodingError"), _truncated_response_error),
        ((u3.ReadTimeoutError, *of_requests("ReadTimeout")), _read_timeout_error),
        ((TimeoutError, u3.TimeoutError, *of_requests("Timeout")), _connect_timeout_error),
        ((ssl.SSLError,), _tls_error),  # only ssl.SSLError has the reason
        ((u3.SSLError, *of_requests("SSLError")), _tls_error),
        ((http.client.InvalidURL, UnicodeError, u3.LocationValueError), _invalid_request_error),
        (invalid_urls, _invalid_request_error),
        ((http.client.HTTPException, u3.InvalidHeader), _malformed_response_error),
        ((u3.HeaderParsingError, u3.DecodeError, u3.ResponseError), _malformed_response_error),
        ((u3.ResponseNotChunked, *malformed), _malformed_response_error),
        ((u3.ProtocolError, u3.PoolError), _connection_closed_error),
        (of_requests("ConnectionError"), _connection_closed_error),
        (of_requests("RequestException"), _malformed_response_error),
        ((OSError,), _socket_error),
        ((ValueError,), _invalid_request_error),
    )

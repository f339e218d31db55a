"""URLs: one spelling for each server, origins, and what may be shown in a message or a log."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit, urlunsplit

from onefs.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: in the authority of a URL they mean one host to Python's parser and another to urllib3's
_AMBIGUOUS_AUTHORITY = re.compile(r"[^:/?#]*://[^/?#]*[\\\s\x00-\x20\x7f]")
#: parameters of signed and token URLs; everything else in a query helps whoever reads a message
_SECRET_PARAMETER = re.compile(
    # linear: a name ends at the next "?", and is looked through only where "=" follows it
    r"([?&;](?=[^?=&;]*=)[^?=&;]*?"
    r"(?:token|password|passwd|secret|sig|credential|key|auth|pwd|jwt)[^?=&;]*=)[^&;#]*",
    re.IGNORECASE,
)
_WHITESPACE = re.compile(r"\s")
_UNSAFE_IN_FOLDER_NAME = re.compile(r"[^\w.-]")
#: an origin over http on the default port
_HTTP_ORIGIN = re.compile(r"^http://([^:\[]+)$")
_MALFORMED_TEXT = "(a malformed URL)"
#: characters of a URL that a message may hold
_MAX_SHOWN_CHARACTERS = 1000
#: characters of the longest URL: ``urlsplit`` takes time as the square of some of them
MAX_URL_LENGTH = 16 * 1024


def normalise(text: str) -> str:
    """A server's URL in one spelling: scheme, lower-case host, no default port, no last slash.

    ``https://`` is added when the scheme is missing. Raises UsageError for anything else than
    an http(s) address, and for one with a user, a query or a fragment.
    """
    text = text.strip()
    url = text if "://" in text else f"https://{text}"
    base = origin(url)
    parts = _split_checked(url)
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{safe_url(url)}: give the user name apart, not inside the URL")
    if parts.query or parts.fragment or _WHITESPACE.search(text):
        raise UsageError(f"{safe_url(url)} is not a server's address: it has a query or a blank")
    return base + parts.path.rstrip("/")


def host_key(url: str) -> str:
    """``host`` or ``host_port``, for the names of folders."""
    return _UNSAFE_IN_FOLDER_NAME.sub("_", origin(url).partition("://")[2])


def origin(url: str) -> str:
    """``scheme://host[:port]`` in lower case, without a default port (RFC 6454).

    Raises UsageError for a URL that is not http or https or that has no host.
    """
    parts = _split_checked(url)
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in _DEFAULT_PORTS or not host:
        raise UsageError(f"{safe_url(url)} is not an http:// or https:// address")
    shown = f"[{host}]" if ":" in host else host
    port = parts.port or _DEFAULT_PORTS[scheme]
    return f"{scheme}://{shown}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


@lru_cache(maxsize=256)  # asked for several times in the course of each download
def host_of(url: str) -> str:
    """``host[:port]`` for a message; never raises."""
    try:
        server = split_url(url).netloc.rpartition("@")[2]
    except ValueError:
        return _MALFORMED_TEXT
    return _shorten(server) or safe_url(url)


def safe_url(url: str) -> str:
    """The URL without user, password, fragment and the values of secret parameters, on one line.

    Of a URL longer than 1,000 characters only the beginning.
    """
    try:
        parts = split_url(url)
    except ValueError:
        return _MALFORMED_TEXT
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    return _SECRET_PARAMETER.sub(r"\1***", _shorten(urlunsplit(bare)))


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."


def is_loopback(url: str) -> bool:
    """Whether the host is this machine: no proxy can reach it for us."""
    host = _split_checked(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def with_https(url: str) -> str:
    """``url`` by https: same host, path and port; http's default port becomes https's."""
    server = origin(url).partition("://")[2]
    return urlunsplit(_split_checked(url)._replace(scheme="https", netloc=server))


def can_keep_authorization(source: str, target: str) -> bool:
    """Whether a redirect from ``source`` to ``target`` may carry the Authorization header.

    Only to the same origin, or from http to https of the same host on the default ports.
    """
    before, after = origin(source), origin(target)
    return after in (before, _HTTP_ORIGIN.sub(r"https://\1", before))


def split_url(url: str) -> SplitResult:
    """``urlsplit`` of a URL of bounded length. Raises ValueError."""
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"it is longer than {MAX_URL_LENGTH} characters")
    return urlsplit(url)


def _split_checked(url: str) -> SplitResult:
    """:func:`split` with a checked port. Raises UsageError."""
    if _AMBIGUOUS_AUTHORITY.match(url):
        raise UsageError(f"{safe_url(url)} is not a URL: its host holds a backslash or a blank")
    try:
        parts = split_url(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{safe_url(url)} is not a URL: {error}") from None
    return parts

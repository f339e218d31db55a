"""URLs: one spelling for each server, origins, and what may be shown in a message or a log."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit, urlunsplit

from onefs.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: in the authority of a URL they mean one host to Python's parser and another to urllib3's
_AMBIGUOUS = re.compile(r"[^:/?#]*://[^/?#]*[\\\s\x00-\x20\x7f]")
#: parameters of signed and token URLs; everything else in a query helps whoever reads a message
_SECRET = re.compile(
    # linear: a name ends at the next "?", and is looked through only where "=" follows it
    r"([?&;](?=[^?=&;]*=)[^?=&;]*?"
    r"(?:token|password|passwd|secret|sig|credential|key|auth|pwd|jwt)[^?=&;]*=)[^&;#]*",
    re.IGNORECASE,
)
_BLANK = re.compile(r"\s")
_ODD = re.compile(r"[^\w.-]")
#: an origin over http on the default port
_PLAIN = re.compile(r"^http://([^:\[]+)$")
_MALFORMED = "(a malformed URL)"
#: characters of a URL that a message may hold
_SHOWN = 1000
#: characters of the longest URL: ``urlsplit`` takes time as the square of some of them
LONGEST = 16 * 1024


def normalise(text: str) -> str:
    """A server's URL in one spelling: scheme, lower-case host, no default port, no last slash.

    ``https://`` is added when the scheme is missing. Raises UsageError for anything else than
    an http(s) address, and for one with a user, a query or a fragment.
    """
    text = text.strip()
    url = text if "://" in text else f"https://{text}"
    base = origin(url)
    parts = _split(url)
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{safe_url(url)}: give the user name apart, not inside the URL")
    if parts.query or parts.fragment or _BLANK.search(text):
        raise UsageError(f"{safe_url(url)} is not a server's address: it has a query or a blank")
    return base + parts.path.rstrip("/")


def host_key(url: str) -> str:
    """``host`` or ``host_port``, for the names of folders."""
    return _ODD.sub("_", origin(url).partition("://")[2])


def origin(url: str) -> str:
    """``scheme://host[:port]`` in lower case, without a default port (RFC 6454).

    Raises UsageError for a URL that is not http or https or that has no host.
    """
    parts = _split(url)
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
        server = split(url).netloc.rpartition("@")[2]
    except ValueError:
        return _MALFORMED
    return _cut(server) or safe_url(url)


def safe_url(url: str) -> str:
    """The URL without user, password, fragment and the values of secret parameters, on one line.

    Of a URL longer than 1,000 characters only the beginning.
    """
    try:
        parts = split(url)
    except ValueError:
        return _MALFORMED
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    return _SECRET.sub(r"\1***", _cut(urlunsplit(bare)))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_loopback(url: str) -> bool:
    """Whether the host is this machine: no proxy can reach it for us."""
    host = _split(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def secured(url: str) -> str:
    """``url`` by https: same host, path and port; http's default port becomes https's."""
    server = origin(url).partition("://")[2]
    return urlunsplit(_split(url)._replace(scheme="https", netloc=server))


def keeps_authorization(source: str, target: str) -> bool:
    """Whether a redirect from ``source`` to ``target`` may carry the Authorization header.

    Only to the same origin, or from http to https of the same host on the default ports.
    """
    before, after = origin(source), origin(target)
    return after in (before, _PLAIN.sub(r"https://\1", before))


def split(url: str) -> SplitResult:
    """``urlsplit`` of a URL of bounded length. Raises ValueError."""
    if len(url) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    return urlsplit(url)


def _split(url: str) -> SplitResult:
    """:func:`split` with a checked port. Raises UsageError."""
    if _AMBIGUOUS.match(url):
        raise UsageError(f"{safe_url(url)} is not a URL: its host holds a backslash or a blank")
    try:
        parts = split(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{safe_url(url)} is not a URL: {error}") from None
    return parts

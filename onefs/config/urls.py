"""URLs: normal form, origin, and a safe form for messages and logs."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit, urlunsplit

from onefs.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: matches a URL whose authority (user, host and port) has characters that Python's parser and
#: urllib3 read differently
_AMBIGUOUS_AUTHORITY = re.compile(r"[^:/?#]*://[^/?#]*[\\\s\x00-\x20\x7f]")
#: matches a parameter that may hold a secret. Other parameters are shown in messages
_SECRET_PARAMETER = re.compile(
    # takes linear time, because a name ends at the next "?", and is searched only if "=" follows
    r"([?&;](?=[^?=&;]*=)[^?=&;]*?"
    r"(?:token|password|passwd|secret|sig|credential|key|auth|pwd|jwt)[^?=&;]*=)[^&;#]*",
    re.IGNORECASE,
)
_WHITESPACE = re.compile(r"\s")
_UNSAFE_IN_FOLDER_NAME = re.compile(r"[^\w.-]")
#: an origin over http on the default port
_HTTP_ORIGIN = re.compile(r"^http://([^:\[]+)$")
#: a URL that is sent as it is: its origin, and a path without percent signs and dot segments
PLAIN_URL = re.compile(
    r"(https?://[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*"
    r"(?::(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))?)"
    r"((?:/(?!\.)[A-Za-z0-9._~-]*)+)",
    re.ASCII,
)
_MALFORMED_TEXT = "(a malformed URL)"
#: the most characters of a URL in a message
_MAX_SHOWN_CHARACTERS = 1000
#: the number of characters of the longest URL that is accepted. The time for ``urlsplit`` can grow
#: as the square of the length
MAX_URL_LENGTH = 16 * 1024


def normalise(text: str) -> str:
    """Return a server's URL in normal form: lower-case host, no default port, no final slash.

    ``https://`` is added if the scheme is missing. Raises UsageError if ``text`` is not an http or
    https address, or has a user, a query or a fragment.
    """
    text = text.strip()
    url = text if "://" in text else f"https://{text}"
    base = origin(url)
    parts = _split_checked(url)
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{safe_url(url)}: give the user name separately, not in the URL")
    if parts.query or parts.fragment or _WHITESPACE.search(text):
        raise UsageError(
            f"{safe_url(url)} is not the address of a server: it must not contain ?, # or a space"
        )
    return base + parts.path.rstrip("/")


def host_key(url: str) -> str:
    """Return ``host`` or ``host_port`` of a URL, for names of folders.

    Raises UsageError for a URL that is not http or https, or has no host.
    """
    return _UNSAFE_IN_FOLDER_NAME.sub("_", origin(url).partition("://")[2])


@lru_cache(maxsize=256)  # used several times in each download
def origin(url: str) -> str:
    """Return ``scheme://host[:port]`` of a URL in lower case, without a default port (RFC 6454).

    Raises UsageError for a URL that is not http or https, or has no host.
    """
    plain = PLAIN_URL.fullmatch(url) if len(url) <= MAX_URL_LENGTH else None
    if plain is not None and not plain[1].endswith((":80", ":443")):
        return plain[1]
    parts = _split_checked(url)
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in _DEFAULT_PORTS or not host:
        raise UsageError(f"{safe_url(url)} is not an http:// or https:// address")
    shown = f"[{host}]" if ":" in host else host
    port = parts.port or _DEFAULT_PORTS[scheme]
    return f"{scheme}://{shown}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


@lru_cache(maxsize=256)  # used several times in each download
def host_of(url: str) -> str:
    """Return ``host[:port]`` of a URL, for a message. Never raises."""
    try:
        server = split_url(url).netloc.rpartition("@")[2]
    except ValueError:
        return _MALFORMED_TEXT
    return _shorten(server) or safe_url(url)


def safe_url(url: str) -> str:
    """Return the URL on one line, without user, password and fragment.

    The values of secret parameters become ``***``. A URL of more than 1,000 characters is cut.
    Never raises.
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
    """Whether the host of ``url`` is this machine. For such a URL no proxy is used.

    Raises UsageError for an invalid URL.
    """
    host = _split_checked(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def with_https(url: str) -> str:
    """Return ``url`` with the scheme https, and with the same host, path and port.

    A default port is replaced by the default port of https. Raises UsageError for a URL that is not
    http or https.
    """
    server = origin(url).partition("://")[2]
    return urlunsplit(_split_checked(url)._replace(scheme="https", netloc=server))


def can_keep_authorization(source: str, target: str) -> bool:
    """Whether a redirect from ``source`` to ``target`` may carry the Authorization header.

    The header may go to the same origin. The header may also go from http to https on the same
    host, if both URLs use the default ports.
    """
    before, after = origin(source), origin(target)
    return after in (before, _HTTP_ORIGIN.sub(r"https://\1", before))


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL, as ``urlsplit`` does.

    Raises ValueError if the URL is invalid or longer than MAX_URL_LENGTH.
    """
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"the URL is longer than {MAX_URL_LENGTH} characters")
    return urlsplit(url)


def _split_checked(url: str) -> SplitResult:
    """Return the parts of a URL. Raises UsageError if the URL or its port is invalid."""
    if _AMBIGUOUS_AUTHORITY.match(url):
        raise UsageError(f"{safe_url(url)} is not a URL: its host contains a backslash or a space")
    try:
        parts = split_url(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{safe_url(url)} is not a URL: {error}") from None
    return parts

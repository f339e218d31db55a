"""Secrets that do not show themselves, and texts without them."""

from __future__ import annotations

import re

#: every secret of this process, so that a log line can be cleaned of it
_known: set[str] = set()
_SHORTEST = 6

_HEADER = re.compile(
    r"\b((?:Proxy-)?Authorization['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+", re.IGNORECASE
)
_SCHEME = re.compile(r"\b(Token|Basic|Bearer) +[A-Za-z0-9+/=_.-]{8,}")
_USERINFO = re.compile(r"(\w+://)[^/\s@]+@")


class Secret(str):
    """A token or a password. Its ``repr`` is ``Secret('***')``; as a ``str`` it is itself.

    So it can go into a header, while dataclasses, tracebacks and debug output do not show it.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        if len(text) >= _SHORTEST:
            _known.add(text)
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return "Secret('***')"


def redact(text: str) -> str:
    """``text`` without any secret of this process, authorization header or URL user."""
    text = _HEADER.sub(r"\1***", text)
    text = _SCHEME.sub(r"\1 ***", text)
    text = _USERINFO.sub(r"\1***@", text)
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text

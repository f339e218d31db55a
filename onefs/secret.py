"""Secrets that do not show themselves, and texts without them."""

from __future__ import annotations

import logging
import re

from onefs.printable import printable

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


class RedactedFormatter(logging.Formatter):
    """Formats log records without secrets and control characters, each on one line.

    The lines of a traceback come indented below it, so that none looks like another record.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        first, *more = redact(super().format(record)).split("\n")
        return "\n".join([first, *(f"  {printable(line)}" for line in more)])

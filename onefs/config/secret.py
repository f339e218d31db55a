"""Secrets that do not show themselves, and texts without them."""

from __future__ import annotations

import logging
import re

from onefs.printable import printable

#: characters of the longest text that is cleaned: a traceback is far shorter
_MAX_REDACTED_CHARACTERS = 100_000
#: characters of a server's text that a message may hold
_MAX_EXCERPT_CHARACTERS = 500
#: characters that are left off the end of a text that was cut: they may be half of a secret
_CUT_MARGIN_CHARACTERS = 256

#: every secret of this process, so that a log line can be cleaned of it
_known_secrets: set[str] = set()
_MIN_SECRET_LENGTH = 6

_AUTHORIZATION_HEADER = re.compile(
    r"\b((?:Proxy-)?Authorization['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+", re.IGNORECASE
)
_AUTHORIZATION_VALUE = re.compile(r"\b(Token|Basic|Bearer) +[A-Za-z0-9+/=_.-]{8,}")
# begins at the slashes: a search for the scheme would begin anew at each letter of a long word
_URL_USERINFO = re.compile(r"(://)[^/\s]+@")


class Secret(str):
    """A token or a password. Its ``repr`` is ``Secret('***')``; as a ``str`` it is itself.

    So it can go into a header, while dataclasses, tracebacks and debug output do not show it.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        if len(text) >= _MIN_SECRET_LENGTH:
            _known_secrets.add(text)
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return "Secret('***')"


def redact(text: str) -> str:
    """``text`` without any secret of this process, authorization header or URL user.

    Of a text longer than 100,000 characters only the beginning.
    """
    return _redact_and_cut(text, _MAX_REDACTED_CHARACTERS)


def excerpt(text: str) -> str:
    """The beginning of a text that a server sent, on one line, as messages and logs hold it."""
    return " ".join(_redact_and_cut(text, _MAX_EXCERPT_CHARACTERS).split())


def _redact_and_cut(text: str, most: int) -> str:
    """``text`` without secrets, cut to ``most`` characters before any pattern is matched."""
    if len(text) > most:
        return (
            _replace_secrets(text[: most + _CUT_MARGIN_CHARACTERS])[:-_CUT_MARGIN_CHARACTERS]
            + "..."
        )
    return _replace_secrets(text)


def _replace_secrets(text: str) -> str:
    text = _AUTHORIZATION_HEADER.sub(r"\1***", text)
    text = _AUTHORIZATION_VALUE.sub(r"\1 ***", text)
    text = _URL_USERINFO.sub(r"\1***@", text)
    for secret in sorted(_known_secrets, key=len, reverse=True):
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

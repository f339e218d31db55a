"""Secrets that debug output does not show, and redaction: removal of secrets from texts."""

from __future__ import annotations

import logging
import re

from onefs.printable import printable

#: the most characters of a text that is redacted. A longer text is cut. No traceback is so long
_MAX_REDACTED_CHARACTERS = 100_000
#: the most characters of a server's text in a message
_MAX_EXCERPT_CHARACTERS = 500
#: characters that are removed at the end of a cut text, because they may be a part of a secret
_CUT_MARGIN_CHARACTERS = 256

#: every secret of this process, for the redaction of log lines
_known_secrets: set[str] = set()
_MIN_SECRET_LENGTH = 6

_AUTHORIZATION_HEADER = re.compile(
    r"\b((?:Proxy-)?Authorization['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+", re.IGNORECASE
)
_AUTHORIZATION_VALUE = re.compile(r"\b(Token|Basic|Bearer) +[A-Za-z0-9+/=_.-]{8,}")
# starts at the slashes, because a search for the scheme would start again at each letter of a word
_URL_USERINFO = re.compile(r"(://)[^/\s]+@")


class Secret(str):
    """A token or a password, as a ``str`` whose ``repr`` is ``Secret('***')``.

    A Secret can be sent in a header like any other text. Dataclasses, tracebacks and debug output
    do not show the text.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        if len(text) >= _MIN_SECRET_LENGTH:
            _known_secrets.add(text)
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return "Secret('***')"


def redact(text: str) -> str:
    """Return ``text`` with secrets replaced by ``***``.

    Secrets are the secrets of this process, the values of authorization headers, and users and
    passwords in URLs. A text of more than 100,000 characters is cut.
    """
    return _redact_and_cut(text, _MAX_REDACTED_CHARACTERS)


def excerpt(text: str) -> str:
    """Return the beginning of a server's text, redacted and on one line, for messages and logs."""
    return " ".join(_redact_and_cut(text, _MAX_EXCERPT_CHARACTERS).split())


def _redact_and_cut(text: str, max_characters: int) -> str:
    """Return ``text`` with secrets replaced by ``***``, and cut to about ``max_characters``.

    A cut text ends with ``...``.
    """
    if len(text) <= max_characters:
        return _replace_secrets(text)
    redacted = _replace_secrets(text[: max_characters + _CUT_MARGIN_CHARACTERS])
    return redacted[:-_CUT_MARGIN_CHARACTERS] + "..."


def _replace_secrets(text: str) -> str:
    text = _AUTHORIZATION_HEADER.sub(r"\1***", text)
    text = _AUTHORIZATION_VALUE.sub(r"\1 ***", text)
    text = _URL_USERINFO.sub(r"\1***@", text)
    for secret in sorted(_known_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


class RedactedFormatter(logging.Formatter):
    """Formats log records without secrets and without control characters.

    Each record is one line. The lines of a traceback follow and are indented.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        first, *more = redact(super().format(record)).split("\n")
        return "\n".join([first, *(f"  {printable(line)}" for line in more)])

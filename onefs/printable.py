"""Texts of servers, files and variables as they may be shown: one line, nothing to obey."""

from __future__ import annotations

import json
import re

#: what ends a line or leaves a column
_WHITESPACE = "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
#: control characters (ESC, BS, NUL, C1 ...), what changes the direction of writing or is not seen,
#: tags, and lone surrogates; not the joiners (U+200C, U+200D), which languages and emoji need
_UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    """``text`` on one line, without any character that a terminal or a log reader obeys.

    Blanks that are no space become one, a byte that is no UTF-8 its percent-code (``%FF``), every
    other such character ``?``.
    """
    return _UNSAFE_CHARACTERS.sub(_replacement, text)


def plural(count: int, noun: str) -> str:
    """Return ``noun``, in the plural unless there is exactly one."""
    return noun if count == 1 else f"{noun}s"


def printable_json(text: str) -> str:
    """JSON that means the same, with those characters in its strings written as ``\\u001b``."""
    return _UNSAFE_CHARACTERS.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    char = match.group()
    return char if char == "\n" else json.dumps(char)[1:-1]


def _replacement(match: re.Match[str]) -> str:
    char = match.group()
    if "\udc80" <= char <= "\udcff":
        return f"%{ord(char) - 0xDC00:02X}"
    return " " if char in _WHITESPACE else "?"

"""Make texts from servers, files and variables safe to print: one line, no control characters."""

from __future__ import annotations

import json
import re

#: characters that end a line or move the cursor to another column
_WHITESPACE = "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
#: control characters (ESC, BS, NUL, C1 ...), invisible characters, characters that change the
#: direction of writing, tags, and lone surrogates. The joiners (U+200C, U+200D) are not included,
#: because some languages need them
_UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    """Return ``text`` on one line, without characters that a terminal or log viewer interprets.

    A line end or a tab becomes a space. A byte that is not UTF-8 becomes its percent-code
    (``%FF``). Other such characters become ``?``.
    """
    return _UNSAFE_CHARACTERS.sub(_replacement, text)


def plural(count: int, noun: str) -> str:
    """Return ``noun`` if ``count`` is 1, otherwise its plural."""
    return noun if count == 1 else f"{noun}s"


def format_size(count: int) -> str:
    """Return a number of bytes in a form for people, like ``1.5 GiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def printable_json(text: str) -> str:
    """Return the JSON ``text`` with unsafe characters escaped, like ``\\u001b``.

    The value of the JSON stays the same. Newlines are kept.
    """
    return _UNSAFE_CHARACTERS.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    char = match.group()
    return char if char == "\n" else json.dumps(char)[1:-1]


def _replacement(match: re.Match[str]) -> str:
    char = match.group()
    if "\udc80" <= char <= "\udcff":
        return f"%{ord(char) - 0xDC00:02X}"
    return " " if char in _WHITESPACE else "?"

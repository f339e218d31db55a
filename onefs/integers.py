"""Whole numbers in texts of servers, files and users. No I/O."""

from __future__ import annotations

#: digits of the longest number that is read: any such number fits in SQLite's 64 bits
_MAX_DIGITS = 18


def parse_whole_number(text: str) -> int | None:
    """The number that ``text`` stands for; None unless it is 1 to 18 ASCII digits.

    ``str.isdigit`` and ``\\d`` alone do not do: ``²`` is a digit to the one and no number to
    ``int``, ``٣`` is 3 to the other, and ``int`` refuses more than 4,300 digits.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS:
        return None
    return int(text)

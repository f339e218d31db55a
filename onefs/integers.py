"""Parsing of whole numbers in texts of servers, files and users. No I/O."""

from __future__ import annotations

#: digits of the longest number; all of these numbers fit in SQLite's 64 bits
_MAX_DIGITS = 18


def parse_whole_number(text: str) -> int | None:
    """Return the number in ``text``; None unless it is 1 to 18 ASCII digits.

    ``str.isdigit`` and ``\\d`` are not enough: ``²`` is a digit to the first, but ``int`` refuses
    it; ``٣`` matches the second; and ``int`` refuses more than 4,300 digits.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS:
        return None
    return int(text)

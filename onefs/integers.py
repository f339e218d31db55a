"""Parsing of whole numbers in texts from servers, files and users. No I/O."""

from __future__ import annotations

#: most digits of a number, so that each number fits in the 64 bits of SQLite's integers
_MAX_DIGITS = 18


def parse_whole_number(text: str) -> int | None:
    """Return the number in ``text``. Return None if ``text`` is not 1 to 18 ASCII digits."""
    # ``isdigit`` alone accepts ``²``, which ``int`` refuses; ``\d`` matches ``٣``. ``int`` refuses
    # more than 4,300 digits
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS:
        return None
    return int(text)

"""Texts with control sequences for terminals, and a search for them in outputs."""

from __future__ import annotations

import unicodedata

#: one of each kind: a title, a link, colours, C1, overwriting, direction, lines
ESCAPES = (
    "\x1b]0;owned\x07\x1b]8;;http://evil/\x1b\\x\x1b[2J\x9b31m\x08\x7f"
    "a\rb\nINFO forged\u2028c\u2029d\x85e\u202e\u2066\u200f\u061cf\tg"
)


def control_characters_in(shown: str) -> list[str]:
    """Return the control characters of an output for terminals or line readers, except ``\\n``."""
    return sorted(
        {
            char
            for char in shown
            if char != "\n"
            and (
                unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")
                or unicodedata.bidirectional(char)
                in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
                or char in "\u200e\u200f\u061c"
            )
        }
    )

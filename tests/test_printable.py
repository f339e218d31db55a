"""Texts from outside in a form that is safe to show."""

from __future__ import annotations

import time

import pytest

from onefs.errors import NotFound, ServerError, Throttled
from onefs.printable import printable
from tests.terminal_escapes import control_characters_in

EVERY = [chr(code) for code in range(0x110000)]


def test_no_control_character_is_left() -> None:
    shown = "".join(map(printable, EVERY))
    assert control_characters_in(shown) == []
    assert all(len(printable(char).splitlines()) <= 1 for char in EVERY)


@pytest.mark.parametrize(
    "text", ["plain text", "Zürich µm 東京 שלום", "a\u200db", "👩\u200d🔬", "a\u00a0b", ""]
)
def test_ordinary_text_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\nc\td", "a b  c d"),
        ("\x1b]0;title\x07", "?]0;title?"),
        ("\udcff/\ud800", "%FF/?"),
        ("a\u202eb\u2028c\x9b2Jd", "a?b c?2Jd"),
    ],
)
def test_other_characters_are_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    began = time.monotonic()
    printable("\x1b" * 1_000_000)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("kind", [NotFound, ServerError, Throttled])
def test_an_error_is_one_line(kind: type[Exception]) -> None:
    assert str(kind("one\ntwo\x1b[2J")) == "one two?[2J"

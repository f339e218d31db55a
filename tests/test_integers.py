"""Numbers in texts from outside: at most 18 ASCII digits, parsed by one function everywhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from uuid import UUID

import pytest

import onefs
from onefs import alf
from onefs.alyx import parsing
from onefs.cache_tables import build
from onefs.errors import OnefsError, ServerError
from onefs.integers import parse_whole_number
from onefs.one import resolver
from tests.test_linear_time import PATTERNS

SOURCES = Path(onefs.__file__).parent
#: files in which another check makes sure that the text is ASCII and not too long
FILES_WITH_OWN_NUMBERS = {
    "cache/records.py",
    "integers.py",
    "http/retry.py",
    "demo/folder_scan.py",
    "demo/rest/query_values.py",
}
ODD = ["²", "٣", "①", "𝟏", "1²", "٣1", "", " 1", "1 ", "+1", "-1", "1.0", "1_0", "0x1", "１"]
EID = str(UUID(int=1))


@pytest.mark.parametrize("text", [*ODD, "9" * 19, "9" * 5000, "9" * 1_000_000])
def test_other_texts_are_not_whole_numbers(text: str) -> None:
    assert parse_whole_number(text) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_ascii_digits_are_a_whole_number(text: str, number: int) -> None:
    assert parse_whole_number(text) == number


def test_digits_are_recognised_in_one_place() -> None:
    """``isdigit`` accepts ``²``, which ``int`` refuses; ``isdecimal`` accepts ``٣``."""
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path in sorted(SOURCES.rglob("*.py"))
        if str(path.relative_to(SOURCES)) not in FILES_WITH_OWN_NUMBERS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("isdigit", "isdecimal", "isnumeric")
    ]
    assert found == []


def test_a_digit_of_a_pattern_is_ascii() -> None:
    found = [
        name
        for name, (pattern, _) in PATTERNS.items()
        if r"\d" in str(pattern.pattern) and not pattern.flags & re.ASCII
    ]
    assert found == []


@pytest.mark.parametrize("number", [each for each in ODD if each not in ("", "1_0")])
def test_an_invalid_number_in_a_path_is_not_found(number: str) -> None:
    parts = ("lab", "subject", "2020-01-01", number)
    assert resolver._session_folders(parts) is None
    assert alf.parse_ref(f"2020-01-01_{number}_subject") is None
    assert alf.padded_number_folder(number) is None
    place = f"lab/subject/2020-01-01/{number}"
    assert build._with_padded_number(place) == place


@pytest.mark.parametrize("number", [*ODD, "9" * 19, "9" * 5000, 2**70, 1.5, True, [1]])
def test_an_invalid_number_of_a_row_is_skipped(number: object) -> None:
    with pytest.raises(ServerError, match="invalid 'number'"):
        parsing.parse_session({"id": EID, "number": number})


@pytest.mark.parametrize("text", ["9" * 400 + "G", "٣G", "²", "1.²G", "9" * 5000])
def test_an_invalid_size_is_refused(text: str) -> None:
    from onefs.config.cache_options import parse_size

    with pytest.raises(OnefsError):
        parse_size(text)

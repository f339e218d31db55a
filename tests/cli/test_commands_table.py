"""Each row of the table of commands has a test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.cli.commands_table import commands, named

#: rows, counted from the first, that have their tests
TESTED = 12


def rows_of_tests() -> set[str]:
    """The rows that tests in this folder name."""
    found = set()
    for path in Path(__file__).parent.glob("test_commands_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "row":
                found.add(named(ast.literal_eval(node.args[0])))
    return found


@pytest.mark.parametrize("command", commands()[:TESTED])
def test_a_row_has_a_test(command: str) -> None:
    assert command in rows_of_tests()

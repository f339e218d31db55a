"""Each row of the table of commands has a test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.cli.commands_table import commands, row_named

TESTS = Path(__file__).parents[1]


def rows_of_tests() -> set[str]:
    """Return the rows of the table that tests name."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        if "commands_table import" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "row" and node.args:
                found.add(row_named(ast.literal_eval(node.args[0])))
    return found


@pytest.mark.parametrize("command", commands())
def test_a_row_has_a_test(command: str) -> None:
    assert command in rows_of_tests()

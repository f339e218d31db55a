"""``tests/data/commands.tsv``: commands, their output in version 0.1, and the expected output.

A test names its row with ``pytestmark`` or with a decorator: ``@row("onefs list REF --details")``.
The text is the beginning of the row's first column.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

TABLE = Path(__file__).parents[1] / "data" / "commands.tsv"


def commands() -> list[str]:
    """Return the first column of each row."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [fields[0] for fields in rows][1:]


def row_named(beginning: str) -> str:
    """Return the only row with this beginning. Fails if no row or more than one row has it."""
    (found,) = [command for command in commands() if command.startswith(beginning)]
    return found


def row(beginning: str) -> Callable[[F], F]:
    """Return a decorator that names the row that a test checks."""
    row_named(beginning)
    return lambda test: test

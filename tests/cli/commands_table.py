"""``tests/data/commands.tsv``: commands, their output in version 0.1, and the expected output.

A test names its row with ``pytestmark`` or a decorator: ``@row("onefs list REF --details")``, by
the beginning of the row's first column.
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
    """Return the only row that begins so. Fails if there is none, or more than one."""
    (found,) = [command for command in commands() if command.startswith(beginning)]
    return found


def row(beginning: str) -> Callable[[F], F]:
    """Name the row that a test checks."""
    row_named(beginning)
    return lambda test: test

"""The ONE tutorial's own text (``tests/data/tutorial.txt``), cut into blocks of code and output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TEXT = Path(__file__).parents[1] / "data" / "tutorial.txt"

#: what begins a line of code
_CODE = re.compile(
    r"(from |one = |one\.|ONE\.|eid\b.*=|d = |print\(|pprint\(|dataset_types = |wf, |my_data = |t, "
    r"|         +(password|base_url)=)"
)


@dataclass(frozen=True)
class Block:
    """Successive lines of code, and the output below them in the tutorial ('' for none)."""

    code: str
    printed: str


def blocks() -> list[Block]:
    """Return all blocks of the tutorial, in order."""
    found: list[tuple[list[str], list[str]]] = []
    into: list[str] | None = None
    for line in TEXT.read_text("utf-8").splitlines():
        if _CODE.match(line):
            if into is None or into is not found[-1][0]:
                found.append(([], []))
                into = found[-1][0]
            into.append(line)
        elif found and line.startswith(("[", "]", '    "', " '")):
            into = found[-1][1]
            into.append(line)
        else:
            into = None
    return [Block("\n".join(code), "\n".join(printed)) for code, printed in found]

"""The fenced blocks of README.md, docs/*.md and docs/recipes/*.md, and the commands in them.

What a block is, by its language:

- ``console``: lines that begin with ``$`` are commands, the others are their output;
- ``python``, ``octave`` and ``r``: a program; a ``text`` block that follows it has its output;
- ``mermaid``, ``text``, or none: no commands.

Any other block is a program that cannot be run here. The line above it is a comment that says why:
``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
#: those of IBL's packages, which `scripts/test --full recipes` installs and runs
RECIPES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted((ROOT / "docs" / "recipes").glob("*.md"))
}
PROGRAMS = {"python", "octave", "r"}
WITHOUT_COMMANDS = {"", "text", "mermaid"}
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``reason`` says why it is not run."""

    language: str
    text: str
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """A command or program, and the output that its page shows."""

    language: str
    code: str
    output: str


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page."""
    return [
        Block(each["language"], each["text"], each["reason"] or "")
        for each in _FENCE.finditer(page)
    ]


def steps(page: str) -> list[Step]:
    """Return what is to be run of a page, in order."""
    result: list[Step] = []
    all_blocks = [*blocks(page), Block("", "")]
    for block, following in pairwise(all_blocks):
        if block.reason:
            continue
        if block.language == "console":
            for command in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                code, _, output = command.partition("\n")
                result.append(Step("console", code, output))
        elif block.language in PROGRAMS:
            output = following.text if following.language == "text" else ""
            result.append(Step(block.language, block.text, output))
    return result


def inline_commands(page: str) -> list[str]:
    """Return the commands of onefs in the text and tables of a page: ``onefs ...`` in backticks."""
    return re.findall(r"`(onefs [^`]+)`", _FENCE.sub("", page))

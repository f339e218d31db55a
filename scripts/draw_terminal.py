"""Draw the output of scripts/demo as a terminal.

usage: draw_terminal.py OUTPUT PICTURE
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

#: lines shown of each command's output
LINES = 7
COLUMNS = 84
#: the commands to show, in this order
SHOWN = ("onefs mount", "cd", "ls .", "ls -l", "readlink", "python", "onefs umount")
#: the owner and group in a line of `ls -l`
OWNERS = re.compile(r"^(-\S{9} +\d+) +\S+ +\S+", re.MULTILINE)
#: rich's drawing loads fonts from a web server; without this it takes those of the machine
WEB_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def steps(output: str) -> list[list[str]]:
    """Return the lines of each command, the command first, with the paths of a user."""
    output = re.sub(r"\S+/\.venv/bin/onefs", "onefs", output)
    output = re.sub(r"\S+/ibl\b", "~/ibl", output)
    output = OWNERS.sub(r"\1 ada ada", output)
    return [step.splitlines() for step in output.strip().split("\n\n") if step.startswith("$")]


def main(output: Path, picture: Path) -> None:
    """Write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for command, *lines in steps(output.read_text("utf-8")):
        if not command.removeprefix("$ ").startswith(SHOWN):
            continue
        console.print(Text(command, style="bold green"))
        shown = lines if len(lines) <= LINES else [*lines[: LINES - 1], "..."]
        for line in shown:
            console.print(Text(line))
    drawing = console.export_svg(title="onefs", unique_id="onefs")
    picture.write_text(WEB_FONTS.sub("", drawing), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Coverage of each folder of onefs, in Markdown, from the figures of ``coverage json``.

``scripts/full/coverage`` runs it: ``python scripts/coverage_report.py JSON HEAD``. The functions
that no test reaches are listed at the end.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def report(figures: Mapping[str, Any], head: str) -> str:
    """Return the page for ``figures``, which ``coverage json`` has written."""
    lines: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    for path, file in figures["files"].items():
        for name in (_folder_of(path), "total"):
            lines[name] += file["summary"]["num_statements"]
            reached[name] += file["summary"]["covered_lines"]
    table = [
        f"| {name} | {count} | {count - reached[name]} | {100 * reached[name] / count:.1f} % |"
        for name, count in sorted(lines.items(), key=lambda item: (item[0] == "total", item[0]))
        if count
    ]
    unreached = unreached_functions(figures)
    return "\n".join(
        [
            "# Coverage",
            "",
            head,
            "A line counts as reached if a test runs it in any process: in pytest, a command, a",
            "daemon of a mount, or a server. Processes that are ended by SIGKILL report nothing.",
            "",
            "| folder | lines | not reached | reached |",
            "|---|---|---|---|",
            *table,
            "",
            "## Functions that no test reaches",
            "",
            *(f"- `{function}`" for function in unreached),
            *(["None."] if not unreached else []),
            "",
        ]
    )


def unreached_functions(figures: Mapping[str, Any]) -> list[str]:
    """Return the functions of which no line was run, as ``path::name``."""
    return sorted(
        f"{path}::{name}"
        for path, file in figures["files"].items()
        for name, function in file["functions"].items()
        if name and function["missing_lines"] and not function["executed_lines"]
    )


def _folder_of(path: str) -> str:
    """Return the folder of a file; files at the top of the package are one folder."""
    parts = PurePath(path).parts
    return "/".join(parts[:2]) if len(parts) > 2 else f"{parts[0]} (top level)"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as written:
        print(report(json.load(written), sys.argv[2]), end="")

"""A run that holds or does not, as JSON and as Markdown: one table of what was found."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scripts.benchmarks.machine import describe
from scripts.benchmarks.processes import ROOT


def write(
    folder: Path, name: str, title: str, how: str, found: Mapping[str, Any], loads: list[float]
) -> None:
    """``name.json`` and ``name.md`` in ``folder``, the latter printed too.

    ``how`` says what was done, ``loads`` the load average meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe(loads)
    whole = {"machine": machine, **found}
    (folder / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    load = machine["load_average"]
    made = (
        f"Made by `scripts/bench {name}` on {machine['date']}, onefs at {machine['onefs']}, "
        f"{machine['processors']} x {machine['processor']}, load average {load['lowest']:.1f} to "
        f"{load['highest']:.1f}. {how}"
    )
    rows = [f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in found.items()]
    text = "\n".join([f"# {title}", "", made, "", "| | |", "|---|---|", *rows, ""])
    (folder / f"{name}.md").write_text(text, "utf-8")
    print(text)


def run(
    parser: argparse.ArgumentParser,
    arguments: list[str],
    work: Callable[[Path, argparse.Namespace], bool],
) -> int:
    """Parse the arguments, do ``work`` in an empty folder; the exit code: 0 when all was good."""
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="onefs-bench-") as folder:
        return 0 if work(Path(folder), given) else 1


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)

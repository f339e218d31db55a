"""A run that holds or does not, as JSON and as Markdown: one table of what was found."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from scripts.benchmarks.machine import describe
from scripts.benchmarks.processes import ROOT
from scripts.benchmarks.results import write_page


class Outcome(Protocol):
    """What a run came to: a dataclass with the load averages meanwhile."""

    loads: list[float]
    #: what makes it a dataclass for ``asdict``
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def good(self) -> bool:
        """Whether all went as promised."""


@dataclass(frozen=True)
class Report:
    """How the outcomes of one benchmark are told."""

    #: of the benchmark and its files
    name: str
    title: str
    #: what was done
    how: str
    #: properties of the outcome that are told beside its fields
    derived: tuple[str, ...]

    def parser(self, description: str | None) -> argparse.ArgumentParser:
        """A parser of what all such benchmarks take."""
        made = argparse.ArgumentParser(prog=f"scripts/bench {self.name}", description=description)
        made.add_argument("--seed", type=int, default=1)
        made.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
        return made

    def run(self, out: Path, work: Callable[[Path], Outcome]) -> int:
        """Do ``work`` in an empty folder and tell of it in ``out``; the exit code: 0 when good."""
        with tempfile.TemporaryDirectory(prefix="onefs-bench-") as folder:
            outcome = work(Path(folder))
        found = {name: value for name, value in asdict(outcome).items() if name != "loads"}
        found |= {name: getattr(outcome, name) for name in self.derived}
        self._write(out, found, outcome.loads)
        return 0 if outcome.good else 1

    def _write(self, folder: Path, found: Mapping[str, Any], loads: list[float]) -> None:
        """``name.json`` and ``name.md``, the latter printed too."""
        machine = describe(loads)
        load = machine["load_average"]
        made = (
            f"Made by `scripts/bench {self.name}` on {machine['date']}, onefs at "
            f"{machine['onefs']}, {machine['processors']} x {machine['processor']}, load average "
            f"{load['lowest']:.1f} to {load['highest']:.1f}. {self.how}"
        )
        rows = [f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in found.items()]
        lines = [f"# {self.title}", "", made, "", "| | |", "|---|---|", *rows]
        write_page(self.name, {"machine": machine, **found}, lines, folder)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)

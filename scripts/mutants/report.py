"""The score of each module, and the mutants that need no test."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPORT = Path("docs/measured/mutants.md")
#: mutants that behave like the code without a fault. Four columns, with a tab between two: module,
#: changed lines before and after, reason
EXPLAINED = Path("scripts/mutants/explained.tsv")
_COLUMNS = (
    "module",
    "mutants",
    "killed",
    "timed out",
    "explained",
    "survived",
    "minutes",
    "commit",
    "date",
)

#: the changed lines of a mutant, before and after the change
Change = tuple[str, str]


@dataclass(frozen=True)
class ModuleScore:
    """What the tests of a module found."""

    module: str
    mutants: int
    #: mutants for which a test failed
    killed: int
    #: mutants whose tests did not end in time; these count as found
    timed_out: int
    #: mutants that no test found, and that EXPLAINED lists
    explained: int
    #: other mutants that no test found
    survivors: list[Change]
    #: mutants that were not tested, because the time was over
    not_run: int
    #: explanations whose lines no mutant has any more
    outdated: list[Change]
    minutes: float

    def passes(self, max_share: float) -> bool:
        """Whether all mutants were tested, and few enough of them were not found."""
        not_found = self.explained + len(self.survivors)
        return not self.not_run and not self.outdated and not_found <= max_share * self.mutants


def load_explanations(module: str) -> dict[Change, str]:
    """Return the reason for each explained mutant of a module."""
    rows = [line.split("\t") for line in EXPLAINED.read_text(encoding="utf-8").splitlines()]
    return {(before, after): reason for name, before, after, reason in rows if name == module}


def print_survivors(score: ModuleScore) -> None:
    """Print the score of a module, and each mutant that needs a test or an explanation."""
    print("\t".join(f"{name}: {value}" for name, value in zip(_COLUMNS, _row(score), strict=False)))
    for before, after in score.survivors:
        print(f"{score.module}: survived\n    {before}\n    {after}")
    for before, after in score.outdated:
        print(
            f"{score.module}: no mutant has these lines of {EXPLAINED}\n    {before}\n    {after}"
        )
    if score.not_run:
        print(f"{score.module}: the time was over before {score.not_run} mutants were tested")
    sys.stdout.flush()


def write_report(scores: list[ModuleScore]) -> None:
    """Write the scores to REPORT. Rows of modules without a new score stay as they are."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], check=True, capture_output=True, text=True
    ).stdout.strip()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    rows = _recorded_rows()
    for score in scores:
        rows[score.module] = f"| {' | '.join([*_row(score), commit, date])} |"
    text = [
        "# Mutation testing",
        "",
        "Made by `scripts/test --full mutants`. A mutant is the code with one small fault, made by",
        "cosmic-ray. It is killed if a test fails. A mutant is explained if it behaves like the",
        "code without the fault: [explained.tsv](../../scripts/mutants/explained.tsv) says why. At",
        "most 300 mutants of a module are tested, and at most 5 % of them may be explained or",
        "survive.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *rows.values(),
    ]
    REPORT.write_text("\n".join(text) + "\n", encoding="utf-8")


def _row(score: ModuleScore) -> list[str]:
    counts = (score.mutants, score.killed, score.timed_out, score.explained, len(score.survivors))
    return [score.module, *map(str, counts), f"{score.minutes:.1f}"]


def _recorded_rows() -> dict[str, str]:
    if not REPORT.exists():
        return {}
    lines = [line for line in REPORT.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    return {line.split(" | ")[0][2:]: line for line in lines[1:]}

"""Run the tests of each mutant, and write the score to ``docs/measured/mutants.md``.

usage: python -m scripts.mutants.run WORK_FOLDER

``WORK_FOLDER/mutants.json`` is the output of :mod:`scripts.mutants.generate`. Each of two workers
has a copy of the tree in WORK_FOLDER, and changes only the copy. A mutant is tested in a forked
process, which has the libraries of the tests already imported.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import hypothesis

from scripts.mutants.report import ModuleScore, load_explanations, print_survivors, write_report
from scripts.mutants.worker import Worker

WORKERS = 2
#: most mutants of a module that are tested
MAX_MUTANTS = 300
#: seconds for all modules together
TOTAL_SECONDS = 42 * 60.0
#: a mutant is stopped after this many seconds, and this many times the time of the unchanged code
EXTRA_SECONDS, TIMES_BASELINE = 10.0, 4.0
#: largest share of a module's mutants that no test finds, with those that are explained
MAX_SURVIVING_SHARE = 0.05
#: libraries that the tests use, imported once and not again for each mutant
PRELOADED = ("cachetools", "click", "flask", "numpy", "requests", "sqlite3", "urllib3", "werkzeug")


@dataclass(frozen=True)
class Mutant:
    """One fault in a module, and the whole source with this fault."""

    operator: str
    before: str
    after: str
    source: str


def main() -> int:
    [work] = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is stopped
    mutants = json.loads((Path(work) / "mutants.json").read_text(encoding="utf-8"))
    workers = [Worker(Path(work) / f"worker-{number}") for number in range(WORKERS)]
    prepare_process()
    end = time.monotonic() + TOTAL_SECONDS
    scores = []
    for module in mutants:
        generated = [Mutant(**fields) for fields in mutants[module]]
        scores.append(score_module(module, generated, workers, end))
        print_survivors(scores[-1])
    write_report(scores)
    return 0 if all(score.passes(MAX_SURVIVING_SHARE) for score in scores) else 1


def prepare_process() -> None:
    """Import the libraries, and make hypothesis try the same examples for each mutant."""
    for name in PRELOADED:
        importlib.import_module(name)
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=phases
    )
    hypothesis.settings.load_profile("mutants")


def sample(module: str, mutants: list[Mutant]) -> list[Mutant]:
    """Return at most MAX_MUTANTS mutants.

    The sample is the same each time. If a line of the module changes, only mutants of this line are
    replaced.
    """

    def rank(mutant: Mutant) -> str:
        return hashlib.sha256(f"{module} {mutant.before} {mutant.after}".encode()).hexdigest()

    return sorted(mutants, key=rank)[:MAX_MUTANTS]


def score_module(
    module: str, generated: list[Mutant], workers: list[Worker], end: float
) -> ModuleScore:
    """Test a sample of the mutants of a module, and return how many of them were found."""
    mutants = sample(module, generated)
    began = time.monotonic()
    unchanged = max(worker.time_unchanged(module) for worker in workers)
    timeout = unchanged * TIMES_BASELINE + EXTRA_SECONDS
    outcomes = test_mutants(module, mutants, workers, timeout, end)
    explanations = load_explanations(module)
    survivors = [
        (mutant.before, mutant.after)
        for mutant, outcome in zip(mutants, outcomes, strict=True)
        if outcome == "survived"
    ]
    changes = {(mutant.before, mutant.after) for mutant in generated}
    counts = Counter(outcomes)
    return ModuleScore(
        module=module,
        mutants=len(mutants),
        killed=counts["killed"],
        timed_out=counts["timed out"],
        explained=sum(change in explanations for change in survivors),
        survivors=[change for change in survivors if change not in explanations],
        not_run=counts["not run"],
        outdated=[change for change in explanations if change not in changes],
        minutes=(time.monotonic() - began) / 60,
    )


def test_mutants(
    module: str, mutants: list[Mutant], workers: list[Worker], timeout: float, end: float
) -> list[str]:
    """Return the outcome of each mutant: killed, timed out, survived or not run."""
    outcomes = ["not run"] * len(mutants)
    waiting = list(range(len(mutants)))
    try:
        while waiting or any(worker.mutant is not None for worker in workers):
            for worker in workers:
                number = worker.mutant
                if number is not None and (outcome := worker.outcome()):
                    outcomes[number] = outcome
                if worker.mutant is None and waiting:
                    number = waiting.pop()
                    worker.start(module, number, mutants[number].source, timeout)
            if time.monotonic() > end:
                waiting.clear()
            time.sleep(0.01)
    finally:
        for worker in workers:
            worker.stop()
    return outcomes


if __name__ == "__main__":
    sys.exit(main())

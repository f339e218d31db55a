"""``scripts/bench walks``: walks of laboratories of many sizes, beside trees in memory.

Writes ``walks.json``, ``walks.md`` and ``walks.png`` into ``--out``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onefs.demo.servers import Servers
from scripts.benchmarks import contenders, metadata
from scripts.benchmarks.case_report import Page
from scripts.benchmarks.case_runner import CaseBenchmark
from scripts.benchmarks.contenders import Contender, Onefs
from scripts.benchmarks.generate_tables import write
from scripts.benchmarks.laboratory import BenchLaboratory
from scripts.benchmarks.measuring import drop_caches
from scripts.benchmarks.processes import Command, started, timed
from scripts.benchmarks.results import Results
from scripts.benchmarks.walks_criteria import BARE, LARGE_LAB, ONCE, PLUS, SMALL_LAB, judge

_DATASETS = 40
_WALKS: dict[str, Command] = {"find": ["find"], "ls": ["ls", "-lR"]}
_TITLES = {"find": "`find`", "ls": "`ls -lR`"}
#: for ``bare_mounts.py``: the type, the size and the path
_SHAPE_FORMAT = "%y %s %P\\n"
#: milliseconds that the database takes for an answer
_ANSWER_MS = 500


@dataclass
class WalkRun:
    """One run: a home folder that is filled from cache tables, of which each lab has its size."""

    work: Path
    home: Onefs
    results: Results
    #: sessions of each lab
    labs: tuple[int, int, int]
    repeats: int
    #: sessions of the embedded laboratory
    embedded: int
    _mounts: int = 0

    def mount(self) -> AbstractContextManager[Contender]:
        """onefs on what the tables said; nothing is in the memory of its daemon."""
        # offline: the server does not have the labs of the tables, and its list has priority
        return contenders.mounted(self.home, "--offline")

    def bare(self, kind: str, shape: Path, name: str) -> AbstractContextManager[Contender]:
        """A tree in memory."""
        self._mounts += 1
        return contenders.bare(self.work / f"bare{self._mounts}", kind, shape, name)

    def folder(self, mount: Path, lab: int) -> Path:
        """Where a lab is."""
        return mount / f"lab{lab:03d}"


def growth(run: WalkRun) -> None:
    """A lab that is known, and one of four times its size; the kernel knows no names."""
    small, large = (count * _DATASETS for count in run.labs[:2])
    with run.mount() as ours:
        for key, command in _WALKS.items():
            title = f"{_TITLES[key]} of a known lab of {small:,} files, and of {large:,}"
            case = run.results.case(f"growth-{key}", title, "s", SMALL_LAB)
            folders = {
                name: run.folder(ours.mount, lab) for lab, name in enumerate((SMALL_LAB, LARGE_LAB))
            }
            for folder in folders.values():
                timed([*command, folder])
            runs = {name: partial(_cold, command, folder) for name, folder in folders.items()}
            case.measure(runs, run.repeats + 2)


def _cold(command: Command, folder: Path, _repetition: int) -> float:
    drop_caches()
    return timed([*command, folder])


def large_lab(run: WalkRun, key: str) -> None:
    """The largest lab: the first walk after ``sync``, and the one after it."""
    files = run.labs[2] * _DATASETS
    title = f"{_TITLES[key]} of a lab of {run.labs[2]:,} sessions and {files:,} files"
    once = run.results.case(f"{ONCE}-{key}", f"{title}, first after sync and mounting", "s", BARE)
    again = run.results.case(f"again-{key}", f"{title}, again", "s", BARE)
    shape = _shape(run)
    makes: dict[str, Callable[[], AbstractContextManager[Contender]]] = {
        BARE: lambda: run.bare("tree", shape, BARE),
        "onefs": run.mount,
        PLUS: lambda: run.bare("plus", shape, PLUS),
    }
    for repetition in range(run.repeats):
        names = list(makes)
        for name in names[repetition % 3 :] + names[: repetition % 3]:
            with makes[name]() as contender:
                root = run.folder(contender.mount, 2) if name == "onefs" else contender.mount
                walk = partial(timed, [*_WALKS[key], root])
                once.attempt(name, walk)
                again.attempt(name, walk)


def _shape(run: WalkRun) -> Path:
    """A file with all that onefs shows of the largest lab."""
    shape = run.work / "shape"
    if not shape.exists():
        with run.mount() as ours, shape.open("wb") as file:
            find: Command = ["find", run.folder(ours.mount, 2), "-printf", _SHAPE_FORMAT]
            with started(find, stdout=file) as process:
                process.wait()
    return shape


def slow_database(run: WalkRun) -> None:
    """``find`` of labs of which nothing is known, over a database that answers slowly."""
    title = f"`find` of a lab of which nothing is known, {_ANSWER_MS} ms an answer"
    case = run.results.case("alyx", f"{title}: time, times the sum of its answers'", "times")
    asked = run.results.case("alyx-requests", f"{title}: requests", "requests")
    work = run.work / "slow"
    work.mkdir()
    options = ("--latency", str(_ANSWER_MS))
    with (
        metadata.demo(work, run.embedded, *options) as (ready, log),
        metadata.onefs(work, ready, log) as mounted,
    ):
        for lab in (metadata.LAB, metadata.OTHER):
            before: Counter[str] = mounted.requests()
            seconds = timed(["find", mounted.place / lab])
            count = sum((mounted.requests() - before).values())
            asked.add("onefs", count)
            case.add("onefs", seconds / (count * _ANSWER_MS / 1000))


@contextmanager
def prepare(work: Path, quick: bool) -> Iterator[WalkRun]:
    """Tables, and a catalogue that is made of them."""
    work.chmod(0o755)
    labs = (50, 200, 100) if quick else (250, 1000, 6721)
    write(work / "tables", sum(labs), _DATASETS, labs=labs)
    with Servers(BenchLaboratory(work, {})) as servers:
        (work / "home").mkdir()
        home = Onefs(work / "home", servers)
        print(json.dumps({"sessions": sum(labs)}), home.run("sync", "--tables", work / "tables"))
        yield WalkRun(work, home, Results(), labs, 2 if quick else 3, 1100 if quick else 2000)


CASES: dict[str, Callable[[WalkRun], None]] = {
    "growth": growth,
    "large-find": lambda run: large_lab(run, "find"),
    "large-ls": lambda run: large_lab(run, "ls"),
    "alyx": slow_database,
}
_HOW = """\
Made by `scripts/bench walks`: one machine, one run, the contenders in turn within each repetition.
A ratio is taken within a repetition; what is given is the median, with the lowest and the highest
value. onefs shows what `onefs sync` made of cache tables. Beside it are mounts by mfusepy programs
of the same files in the memory of Python: one without any care, and one that gives the kernel the
attributes with the names, as onefs does. The kernel may keep names for as long as it may those of
onefs. Each repetition mounts each of them anew, and walks it twice; before the walks that compare
sizes the kernel's names are dropped.
"""
BENCHMARK = CaseBenchmark(Page("walks", "Walks, measured", _HOW, judge), CASES, prepare)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main(__doc__, sys.argv[1:]))

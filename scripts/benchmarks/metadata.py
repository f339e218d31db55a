"""What listing costs: onefs over the embedded server and over cache tables, bindfs, and HTTP mounts
over nginx listings, and ONE-api for searches.

usage: scripts/bench metadata [--quick] [--sessions N] [--repeats N] [--patience S]
                              [--find-patience S] [--part PART] [--out FOLDER]

Rows of one table were measured in one run, in turns; compare them with one another only. "kernel
cold": the kernel's own caches were dropped (root only). "hung": not ended after --patience seconds;
that program takes no further part. --quick takes small numbers, to see that all of it works, in a
minute; else it takes a quarter of an hour. A ``find`` of everything is ended after --find-patience
seconds. The results go to metadata.json and metadata.md in --out, again after each step, so that a
run that is broken off has what it measured. --part measures one part, and keeps what metadata.json
has of the others; "load" is the first of the tables' once more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scripts.benchmarks import (
    measuring,
    search_times,
    tables,
    walk_times,
)
from scripts.benchmarks.interruption import end_cleanly, held
from scripts.benchmarks.listing_criteria import judge
from scripts.benchmarks.machine import describe
from scripts.benchmarks.metadata_report import to_markdown
from scripts.benchmarks.processes import ROOT, BenchmarkFailed, embedded_servers, run
from scripts.benchmarks.read_criteria import to_json

LAB = "lab00"
#: another one, of which nothing is known when it is walked beside the HTTP mounts
OTHER = "lab01"
#: subjects of 50 sessions of 40 datasets: 10,000 files
SUBJECTS = 5
PARTS = ("embedded", "tables", "load")
ONEFS = [sys.executable, "-c", "from onefs.cli import main; main()"]
_AS_WRITTEN = argparse.RawDescriptionHelpFormatter


class ResultsFile:
    """The results, written anew after each step."""

    def __init__(self, out: Path, part: str | None) -> None:
        self._out = out
        self._part = part or "all"
        self._loads = [os.getloadavg()[0]]
        self.results: dict[str, Any] = {}
        if part is not None and (out / "metadata.json").exists():
            self.results = json.loads((out / "metadata.json").read_text("utf-8"))
        self.results |= {"machine": {}, "complete_run": False}
        self.results.setdefault("steps, s", {})
        self.failed = False

    def step(self, name: str, work: Callable[[], Any]) -> None:
        """Do ``work`` and keep what it gives under ``name``; what fails is told and left out."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            self.results[name] = work()
        except (BenchmarkFailed, OSError, subprocess.CalledProcessError) as error:
            self.failed = True
            print(f"{name} failed: {error}", file=sys.stderr, flush=True)
        seconds = round(time.monotonic() - began, 1)
        self.results["steps, s"][name] = seconds
        print(f"{name}: {seconds} s", file=sys.stderr, flush=True)
        self._loads.append(os.getloadavg()[0])
        self.save()

    def save(self) -> None:
        """``metadata.json`` and ``metadata.md``."""
        judgements = judge(self.results)
        machine = self.results["machine"] = describe(self._loads)
        when = f"{machine['date']}, onefs at {machine['onefs']}"
        self.results.setdefault("parts", {})[self._part] = when
        self.results["criteria"] = to_json(judgements)
        self._out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.results, indent=1)
        (self._out / "metadata.json").write_text(text + "\n", "utf-8")
        (self._out / "metadata.md").write_text(to_markdown(self.results, judgements), "utf-8")


@dataclass(frozen=True, slots=True)
class MeasuredMount:
    """A mount of onefs over the embedded server, and that server's access log."""

    place: Path
    pid: int
    log: Path
    #: that mounting took
    seconds: float

    def requests(self) -> Counter[str]:
        """How often each list was asked for so far."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return Counter(line["path"].partition("?")[0] for line in lines)


@contextmanager
def demo(folder: Path, sessions: int, *more: str) -> Iterator[tuple[dict[str, str], Path]]:
    """The embedded servers in a process of their own: where they are, and their access log.

    ``more`` are further options of theirs.
    """
    log = folder / "access.log"
    options = "--sessions", str(sessions), "--datasets", "40", *more
    with embedded_servers(*options, "--access-log", log) as ready:
        yield ready, log


def environment(folder: Path, ready: dict[str, str]) -> dict[str, str]:
    """Of everything of onefs that is run here."""
    return {
        **os.environ,
        "ONEFS_URL": ready["alyx_url"],
        "ONEFS_USERNAME": ready["username"],
        "ONEFS_PASSWORD": ready["password"],
        "HOME": str(folder),
        **{f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "CACHE", "CONFIG")},
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }


@contextmanager
def onefs(folder: Path, ready: dict[str, str], log: Path) -> Iterator[MeasuredMount]:
    """A mount that knows nothing yet."""
    place = folder / "onefs"
    own = environment(folder, ready)
    with ExitStack() as stack:
        began = time.perf_counter()
        with held():  # the daemon would go on if its start was broken off
            run([*ONEFS, "mount", place], environment=own)
            stack.callback(run, [*ONEFS, "umount", place], environment=own)
        seconds = time.perf_counter() - began
        status = json.loads(run([*ONEFS, "status", "--json"], environment=own))
        pid = next(m["pid"] for m in status["mounts"] if m["mountpoint"] == str(place))
        yield MeasuredMount(place, pid, log, seconds)


def embedded(given: argparse.Namespace, run: ResultsFile) -> None:
    """All that is measured over the embedded server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onefs-bench-")))
        folder.chmod(0o755)
        ready, log = stack.enter_context(demo(folder, given.sessions))
        mounted = stack.enter_context(onefs(folder, ready, log))
        place = mounted.place
        lab = place / LAB
        run.step("start-up", lambda: {"mount": mounted.seconds, **search_times.start_up()})
        run.step("first walks", lambda: walk_times.first_walks(mounted, LAB, given.repeats))
        run.step("stat", lambda: walk_times.stat_rates(lab / f"{LAB}_000"))
        run.step(
            "searches", lambda: search_times.searches(ready, folder, place, LAB, given.repeats)
        )
        subjects = range(given.subjects)
        trees = walk_times.ComparedTrees(
            stack, folder, place, LAB, [f"{LAB}_{n:03d}" for n in subjects]
        )
        run.step("a real tree of the same shape", trees.make)
        for cold in (True, False):
            name = f"kernel {'cold' if cold else 'warm'}"
            run.step(name, partial(trees.compare, given.repeats, cold=cold))
        others = [place / OTHER / f"{OTHER}_{n:03d}" for n in subjects]
        run.step("over nginx listings", lambda: trees.over_http(others, given.patience))
        if not given.quick:
            run.step("find of everything", lambda: everything(mounted, given.find_patience))


def everything(mounted: MeasuredMount, patience: float) -> dict[str, Any]:
    """A ``find`` of the whole mount, of which one lab is known."""
    before = mounted.requests()
    seconds, ended, curve = measuring.curve_of(["find", mounted.place], mounted.pid, patience)
    asked = sum((mounted.requests() - before).values())
    return {"seconds": seconds, "ended": ended, "requests": asked, "curve": curve}


def main() -> int:
    """The exit code: 1 when something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AS_WRITTEN)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sessions", type=int, help="of the embedded server (20000)")
    parser.add_argument("--repeats", type=int, help="of each walk (5)")
    parser.add_argument("--patience", type=float, default=40.0)
    parser.add_argument("--find-patience", type=float, default=180.0)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    given = parser.parse_args()
    end_cleanly()
    small = given.quick
    whole = not small and given.sessions is None
    given.sessions = given.sessions or (1100 if small else 20_000)
    given.repeats = given.repeats or (2 if small else 5)
    given.subjects = 1 if small else SUBJECTS
    run = ResultsFile(given.out, given.part)
    try:
        if given.part in (None, "embedded"):
            embedded(given, run)
        if given.part != "embedded":
            sizes = (300, 50) if small else (100_000, 50)
            alone = given.part == "load"
            found = run.results["tables"] = run.results.get("tables", {}) if alone else {}
            measure = partial(
                tables.measure, *sizes, found, patience=given.find_patience, only_load=alone
            )
            run.step("loading tables" if alone else "tables", measure)
            run.results["tables"] = found
            run.results.pop("loading tables", None)
    finally:
        run.save()
    there = {"find of everything", "tables"} <= run.results.keys()
    run.results["complete_run"] = whole and there and not run.failed
    run.save()
    print((given.out / "metadata.md").read_text("utf-8"))
    return int(run.failed)


if __name__ == "__main__":
    sys.exit(main())

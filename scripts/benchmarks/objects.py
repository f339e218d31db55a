"""What load_object costs with onefs's ONE beside ONE-api, cold and warm.

usage: scripts/bench objects [--quick] [--only JOB,...] [--repeats N] [--latency MS] [--out FOLDER]

The jobs are objects that analyses load: trials, spikes and clusters of a probe, the wheel, a
camera. Each has a session of its own, so that a cold one is that of a session of which the client
knows nothing; its cache folder is empty before each repetition. "In a process" is a call in one
that has loaded another session before; "new process" is a whole process, from its start to its end.
The server is the embedded one, which waits 20 ms before each answer. The two clients take turns;
all are medians of one run; the ratio is the thing. Round trips are how much longer a call takes
when the server waits 10 times as long, in these waits. The results go to objects.json and
objects.md in --out; --only keeps what objects.json has of the other jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onefs.demo.synthetic import SyntheticLaboratory
from scripts.benchmarks.interruption import end_cleanly
from scripts.benchmarks.machine import describe
from scripts.benchmarks.machine import lines as machine_lines
from scripts.benchmarks.patterns import ONE_API, ONEFS, Client, one_api, onefs
from scripts.benchmarks.processes import ROOT, BenchmarkFailed, embedded_servers, started
from scripts.benchmarks.read_criteria import Criterion, at_least, to_json, to_markdown
from scripts.benchmarks.results import Spread, write_page

#: the objects of each job, with their collections
JOBS: dict[str, list[tuple[str, str]]] = {
    "trials": [("trials", "alf")],
    "spikes, clusters": [("spikes", "alf/probe00"), ("clusters", "alf/probe00")],
    "wheel": [("wheel", "alf")],
    "camera": [("leftCamera", "alf")],
}
#: what is measured, and how many times as fast as ONE-api it has to be
STATES = {
    "cold, in a process": 2.0,
    "cold, new process": 2.0,
    "warm, in a process": 10.0,
    "warm, new process": 10.0,
}
COLD, COLD_NEW, WARM, WARM_NEW = STATES
#: an object by its eid, its name and its collection
Wanted = tuple[str, str, str]
#: times as long as usual that the server waits while round trips are counted
_SLOWER = 10
_CLIENT = ROOT / "scripts" / "benchmarks" / "objects_client.py"
_HOW = """\
Made by `scripts/bench objects`: one machine, one run, the clients in turns; medians, seconds. The
server waits {latency:g} ms before each answer. Cold: nothing of the session is known, and the cache
folder is empty. Warm: it has been loaded before. In a process: one call in a process that has
loaded another session. New process: from its start to its end. A ratio is ONE-api's time divided by
that of onefs.
"""


@dataclass
class Runs:
    """What one client took for one job."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STATES})
    requests: int = 0
    round_trips: float = 0.0
    arrays: int = 0


class Program:
    """A client in a process of its own, which loads what it is told."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self.requests = self.arrays = 0

    def load(self, wanted: Sequence[Wanted]) -> float:
        """The seconds of one step; :attr:`requests` is what the servers were asked for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = _count_lines(self._log)
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkFailed(f"{self._process.args!r} could not load {wanted}")
        found = json.loads(line)
        self.requests = _count_lines(self._log) - before
        self.arrays = found["arrays"]
        return float(found["seconds"])

    def end(self) -> None:
        """Wait for the end of the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(60):
            raise BenchmarkFailed(f"{self._process.args!r} failed")


@contextmanager
def opened(client: Client, log: Path) -> Iterator[Program]:
    """A new process with a client."""
    command: list[str | Path] = [sys.executable, "-W", "ignore", _CLIENT, client.name]
    own = {**client.environment, "PYTHONPATH": str(ROOT)}
    pipe, devnull = subprocess.PIPE, subprocess.DEVNULL
    with started(command, env=own, stdin=pipe, stdout=pipe, stderr=devnull) as process:
        yield Program(process, log)


def sessions_of_jobs() -> list[dict[str, list[Wanted]]]:
    """The objects of each job in sessions that have them, in several ways; no session twice."""
    laboratory = SyntheticLaboratory()
    having: dict[str, list[str]] = {name: [] for name in JOBS}
    for session in laboratory.sessions():
        names = {(each.name, each.collection) for each in laboratory.datasets(session.eid)}
        objects = {(name.split(".")[0].split("_")[-1], folder) for name, folder in names}
        for job, wanted in JOBS.items():
            if objects.issuperset(wanted):
                having[job].append(session.eid)
    ways: list[dict[str, list[Wanted]]] = []
    used: set[str] = set()
    scarcest = sorted(JOBS, key=lambda job: len(having[job]))
    while all(any(eid not in used for eid in having[job]) for job in JOBS):
        chosen = {}
        for job in scarcest:
            eid = next((each for each in having[job] if each not in used), None)
            if eid is None:
                return ways
            used.add(eid)
            chosen[job] = [(eid, *each) for each in JOBS[job]]
        ways.append(chosen)
    return ways


def measure_processes(
    client: Client, log: Path, jobs: Mapping[str, list[Wanted]], first: Sequence[Wanted],
    runs: Mapping[str, Runs],
) -> None:  # fmt: skip
    """Load each job, cold and then warm, in one process that has loaded something else."""
    client.forget()
    with opened(client, log) as program:
        program.load(first)
        for job, wanted in jobs.items():
            runs[job].seconds[COLD].append(program.load(wanted))
            runs[job].requests = program.requests
            runs[job].arrays = program.arrays
            runs[job].seconds[WARM].append(program.load(wanted))
        program.end()


def measure_new(client: Client, log: Path, wanted: list[Wanted], runs: Runs) -> None:
    """Load one job in a new process that knows nothing, then in another."""
    client.forget()
    for state in (COLD_NEW, WARM_NEW):
        began = time.perf_counter()
        with opened(client, log) as program:
            program.load(wanted)
            program.end()
            runs.seconds[state].append(time.perf_counter() - began)


def measure(latency: float, wanted: Sequence[str], repeats: int, folder: Path) -> dict[str, Any]:
    """The times of each job with each client."""
    ways = [{job: each[job] for job in wanted} for each in sessions_of_jobs()]
    runs = {name: {job: Runs() for job in wanted} for name in (ONE_API, ONEFS)}
    with _clients(latency, folder) as (log, clients):
        # the server computes a session's files when they are first asked for, Python compiles
        # modules: the first turn is not counted
        for number in range(-1, repeats):
            chosen, other = ways[number % len(ways)], ways[(number + 1) % len(ways)]
            first = next(iter(other.values()))
            print(f"repetition {number + 1} of {repeats} ...", file=sys.stderr, flush=True)
            turns = clients if number % 2 else clients[::-1]
            for client in turns:
                kept = runs[client.name] if number >= 0 else {job: Runs() for job in wanted}
                measure_processes(client, log, chosen, first, kept)
            for job in wanted:
                for client in turns:
                    kept = runs[client.name] if number >= 0 else {job: Runs()}
                    measure_new(client, log, chosen[job], kept[job])
            if number < 0 and repeats > 1:
                _compute_files(clients[0], log, ways)
    return runs


def count_round_trips(
    latency: float, wanted: Sequence[str], runs: Mapping[str, Mapping[str, Runs]], folder: Path
) -> None:
    """How many waits for the server follow one another in a cold call in a process."""
    ways = [{job: each[job] for job in wanted} for each in sessions_of_jobs()]
    times: list[dict[str, dict[str, Runs]]] = []
    for wait in (latency, latency * _SLOWER):
        found = {name: {job: Runs() for job in wanted} for name in (ONE_API, ONEFS)}
        with _clients(wait, folder / f"{wait:g}") as (log, clients):
            for client in clients:
                for kept in ({job: Runs() for job in wanted}, found[client.name]):
                    measure_processes(client, log, ways[0], next(iter(ways[1].values())), kept)
        times.append(found)
    for name, jobs in runs.items():
        for job, counted in jobs.items():
            short, long = (each[name][job].seconds[COLD][0] for each in times)
            counted.round_trips = (long - short) * 1000 / (latency * (_SLOWER - 1))


@contextmanager
def _clients(latency: float, folder: Path) -> Iterator[tuple[Path, list[Client]]]:
    """The embedded servers' log, and the clients that have them."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "access.log"
    with embedded_servers("--latency", str(latency), "--access-log", log) as ready:
        clients = []
        for name, make in ((ONE_API, one_api), (ONEFS, onefs)):
            (home := folder / name).mkdir()
            clients.append(make(home, ready, Path(sys.executable)))
        yield log, clients


def _compute_files(client: Client, log: Path, ways: Sequence[Mapping[str, list[Wanted]]]) -> None:
    """Let the server compute the files of all sessions."""
    with opened(client, log) as program:
        for each in ways:
            for wanted in each.values():
                program.load(wanted)
        program.end()


def _count_lines(log: Path) -> int:
    return log.read_bytes().count(b"\n")


def rows(runs: Mapping[str, Mapping[str, Runs]], wanted: Sequence[str]) -> dict[str, Any]:
    """The results of each job: medians, ratios, requests."""
    found: dict[str, Any] = {}
    for job in wanted:
        mine, theirs = runs[ONEFS][job], runs[ONE_API][job]
        row: dict[str, Any] = {"same arrays": mine.arrays == theirs.arrays}
        for state in STATES:
            pairs = zip(theirs.seconds[state], mine.seconds[state], strict=True)
            row[state] = {
                ONE_API: Spread.of(theirs.seconds[state]).to_json(),
                ONEFS: Spread.of(mine.seconds[state]).to_json(),
                "ratio": Spread.of([slow / fast for slow, fast in pairs]).to_json(),
            }
        row["requests"] = {name: runs[name][job].requests for name in runs}
        row["round trips"] = {name: round(runs[name][job].round_trips, 1) for name in runs}
        found[job] = row
    return found


def judge(found: Mapping[str, Mapping[str, Any]]) -> list[Criterion]:
    """Each ratio against its limit."""
    return [
        at_least(
            f"{job}, {state}: ONE-api's time by that of onefs", limit, Spread(**row[state]["ratio"])
        )
        for job, row in found.items()
        for state, limit in STATES.items()
    ]


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The results in Markdown."""
    lines = ["| | ONE-api, s | onefs, s | ratio |", "|---|---|---|---|"]
    for job, row in found.items():
        for state in STATES:
            cells = [f"{row[state][key]['median']:.3g}" for key in (ONE_API, ONEFS, "ratio")]
            lines.append(f"| {job}: {state} | {' | '.join(cells)} |")
    lines += ["", "Of one cold call in a process:", ""]
    lines += ["| | ONE-api | onefs |", "|---|---|---|"]
    for job, row in found.items():
        for what in ("requests", "round trips"):
            cells = [f"{row[what][name]:g}" for name in (ONE_API, ONEFS)]
            lines.append(f"| {job}: {what} | {' | '.join(cells)} |")
    return lines


def write(found: dict[str, Any], out: Path) -> None:
    """``objects.json`` and ``objects.md``, the latter printed too."""
    judgements = judge(found["objects"])
    found["criteria"] = to_json(judgements)
    lines = ["# Loading objects, measured", "", _HOW.format(latency=found["latency, ms"])]
    lines += machine_lines(found["machine"])
    lines += [*to_markdown(judgements), "", *table(found["objects"])]
    write_page("objects", found, lines, out)


def main() -> int:
    """The exit code: 1 when the two clients have loaded different numbers of arrays."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one of each, no round trips")
    parser.add_argument("--only", help="the jobs, joined by ;: " + "; ".join(JOBS))
    parser.add_argument("--repeats", type=int, help="of each (5)")
    parser.add_argument("--latency", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    given = parser.parse_args()
    end_cleanly()
    wanted = [each.strip() for each in given.only.split(";")] if given.only else list(JOBS)
    if unknown := set(wanted) - set(JOBS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(prefix="onefs-bench-") as name:
        repeats = given.repeats or (1 if given.quick else 5)
        runs = measure(given.latency, wanted, repeats, Path(name) / "times")
        if not given.quick:
            count_round_trips(given.latency, wanted, runs, Path(name) / "trips")
    loads.append(os.getloadavg()[0])
    found = {"machine": describe(loads), "latency, ms": given.latency}
    measured = rows(runs, wanted)
    found["objects"] = {**(_kept(given.out) if given.only else {}), **measured}
    write(found, given.out)
    return int(not all(each["same arrays"] for each in measured.values()))


def _kept(out: Path) -> dict[str, Any]:
    """What an earlier run has measured."""
    file = out / "objects.json"
    kept: dict[str, Any] = json.loads(file.read_text("utf-8"))["objects"] if file.exists() else {}
    return kept


if __name__ == "__main__":
    sys.exit(main())

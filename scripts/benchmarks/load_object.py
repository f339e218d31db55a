"""What ``load_object`` costs with onefs's ONE beside ONE-api: cold, warm, and repeated.

usage: scripts/bench load_object [--quick] [--only CASE,...] [--repeats N] [--latency MS]
                                 [--out FOLDER]

Each run is a new process, in turns with the other client. Cold: the client knows nothing but its
settings and its token; its cache folder is empty. Warm: it has loaded the object before, in another
process. Repeated: it has loaded it before in the same process; the time is the median of its calls.
The time of a call leaves out Python's start and the imports, which are in that of the process. The
server is the embedded one, which waits 20 ms before each answer. All are medians of one run; the
ratio is the thing. The results go to load_object.json and load_object.md in --out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.interruption import end_cleanly
from scripts.benchmarks.machine import describe
from scripts.benchmarks.machine import lines as machine_lines
from scripts.benchmarks.patterns import ONE_API, ONEFS, Client, one_api, onefs
from scripts.benchmarks.processes import ROOT, embedded_servers, started
from scripts.benchmarks.read_criteria import Criterion, at_least, to_json, to_markdown
from scripts.benchmarks.results import Spread

#: eid, object and collection of each case
CASES = {
    "trials": ("59832991-e2c0-485d-a614-685638968a88", "trials", "alf"),
    "spikes of a probe": ("59832991-e2c0-485d-a614-685638968a88", "spikes", "alf/probe00"),
    "wheel": ("8efc47ff-6a66-4219-a18b-c43845b63a10", "wheel", "alf"),
}
TIMES = ("cold, process", "cold, call", "warm, process", "warm, call", "repeated call")
#: the least ratio of ONE-api's time to that of onefs
LEAST_RATIOS = {"cold, process": 2.0, "warm, process": 1.0, "repeated call": 10.0}
REPEATED_CALLS = 20
TIMEOUT_SECONDS = 120
_PROGRAM = """
import json, statistics, sys, time
import numpy as np
{import_line}
one = ONE(silent=True)
def seconds():
    began = time.perf_counter()
    loaded = one.load_object(*sys.argv[1:3], collection=sys.argv[3], check_hash=False)
    assert len(loaded)
    return time.perf_counter() - began
first = seconds()
print(json.dumps([first, statistics.median(seconds() for _ in range(int(sys.argv[4])))]))
"""
_HOW = """\
Made by `scripts/bench load_object`: one machine, one run, new processes in turns; medians,
milliseconds. The server waits {latency:g} ms before each answer. Cold: the client's cache is empty.
Warm: another process has loaded the object before. Repeated: the same process has loaded it before.
"Process" is a whole process with one call, "call" the call alone. A ratio is ONE-api's time divided
by that of onefs. ONE-api hashes no file here (`check_hash=False`); by default it hashes each file
at each call, which takes it longer than all else. Times of a call leave out the imports that the
line `import ONE` makes: those of ONE-api (pandas, requests) take seconds, those of onefs come with
the first call. Both programs import numpy, as scripts do.
"""
Times = dict[str, list[float]]


def measure(case: Sequence[str], clients: Sequence[Client], repeats: int) -> dict[str, Times]:
    """Return the times of each client, from processes in turns."""
    times: dict[str, Times] = {client.name: {name: [] for name in TIMES} for client in clients}
    # the server computes a session's files when they are first asked for, Python compiles modules
    for client in clients:
        _run(client, case, 0)
    for _ in range(repeats):
        for client in clients:
            client.forget()
            own = times[client.name]
            for state in ("cold", "warm"):
                process, first, _ = _run(client, case, 0)
                own[f"{state}, process"].append(process)
                own[f"{state}, call"].append(first)
            own["repeated call"].append(_run(client, case, REPEATED_CALLS)[2])
    return times


def _run(client: Client, case: Sequence[str], calls: int) -> tuple[float, float, float]:
    """Return the milliseconds of a process, of its first call, and of the calls after it."""
    program = _PROGRAM.format(import_line=client.import_line)
    command: list[str | Path] = [
        client.python,
        "-W",
        "ignore",
        "-c",
        program,
        *case,
        str(calls or 1),
    ]
    began = time.perf_counter()
    pipe = subprocess.PIPE
    with started(command, env=dict(client.environment), stdout=pipe, stderr=pipe) as process:
        output, complaint = process.communicate(timeout=TIMEOUT_SECONDS)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{client.name}: {complaint.decode(errors='replace')[-2000:]}")
    first, repeated = json.loads(output.splitlines()[-1])
    return seconds * 1000, first * 1000, repeated * 1000


def row(times: Mapping[str, Times]) -> dict[str, Any]:
    """Return the medians and ratios of one case."""
    return {
        name: {
            **{client: Spread.of(own[name]).to_json() for client, own in times.items()},
            "ratio": Spread.of(
                [
                    slow / fast
                    for slow, fast in zip(times[ONE_API][name], times[ONEFS][name], strict=True)
                ]
            ).to_json(),
        }
        for name in TIMES
    }


def judge(rows: Mapping[str, Mapping[str, Any]]) -> list[Criterion]:
    """Return the criterion of each ratio."""
    return [
        at_least(
            f"{case}, {name}: ONE-api's time by that of onefs", least, Spread(**found["ratio"])
        )
        for case, found_of_case in rows.items()
        for name, least in LEAST_RATIOS.items()
        if (found := found_of_case[name])
    ]


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the results in Markdown."""
    lines = [f"| | | {ONE_API}, ms | {ONEFS}, ms | ratio |", "|---|---|---|---|---|"]
    for case, found in rows.items():
        for name in TIMES:
            medians = [found[name][key]["median"] for key in (ONE_API, ONEFS, "ratio")]
            lines.append("| {} | {} | {:.1f} | {:.1f} | {:.1f} |".format(case, name, *medians))
    return lines


def write(found: dict[str, Any], out: Path) -> None:
    """Write ``load_object.json`` and ``load_object.md``, and print the latter."""
    judgements = judge(found["cases"])
    found["criteria"] = to_json(judgements)
    how = _HOW.format(latency=found["latency, ms"])
    lines = ["# `load_object`, measured", "", how, *machine_lines(found["machine"])]
    lines += [*to_markdown(judgements), "", *table(found["cases"]), ""]
    out.mkdir(parents=True, exist_ok=True)
    (out / "load_object.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (out / "load_object.md").write_text("\n".join(lines), "utf-8")
    print((out / "load_object.md").read_text("utf-8"))


def main() -> int:
    """Measure, write the results, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one of each")
    parser.add_argument("--only", default=",".join(CASES), help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, help="of each (5)")
    parser.add_argument("--latency", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    given = parser.parse_args()
    end_cleanly()
    wanted = given.only.split(",")
    if unknown := set(wanted) - set(CASES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    loads, rows = [os.getloadavg()[0]], {}
    with (
        tempfile.TemporaryDirectory(prefix="onefs-bench-") as name,
        embedded_servers("--latency", str(given.latency)) as ready,
    ):
        clients = []
        for client, make in ((ONE_API, one_api), (ONEFS, onefs)):
            (home := Path(name) / client).mkdir()
            clients.append(make(home, ready, Path(sys.executable)))
        for each in wanted:
            print(f"{each} ...", file=sys.stderr, flush=True)
            repeats = given.repeats or (1 if given.quick else 5)
            rows[each] = row(measure(CASES[each], clients, repeats))
            loads.append(os.getloadavg()[0])
    write({"machine": describe(loads), "latency, ms": given.latency, "cases": rows}, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

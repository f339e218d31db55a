"""What scientists' scripts cost with onefs's ONE beside ONE-api: whole processes, cold and warm.

usage: scripts/bench patterns [--quick] [--only PATTERN,...] [--client ONE-api|onefs] [--repeats N]
                              [--latency MS] [--out FOLDER]

The scripts are docs/recipes/patterns/*.py; for ONE-api only the line that imports ONE differs. Each
runs in a new process, in turns with the other client. Cold: the client knows nothing but its
settings and its token; its cache folder is empty. Warm: it has run the script before. The server is
the embedded one, which waits 20 ms before each answer. All are medians of one run; the ratio is the
thing. A script that fails with a client, or prints something else than with the other, is told so.
The results go to patterns.json and patterns.md in --out.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.benchmarks.interruption import end_cleanly
from scripts.benchmarks.machine import describe
from scripts.benchmarks.machine import lines as machine_lines
from scripts.benchmarks.processes import ROOT, embedded_servers, started
from scripts.benchmarks.read_criteria import Criterion, at_least, to_json, to_markdown
from scripts.benchmarks.results import Spread, write_page
from scripts.benchmarks.starting import environment, log_in

PATTERNS = ROOT / "docs" / "recipes" / "patterns"
#: the environment of ``scripts/install_recipes``
PYTHON = ROOT / "build" / "recipes" / "bin" / "python"
IMPORT = "from onefs import ONE"
ONE_API, ONEFS = "ONE-api", "onefs"
STATES = ("cold", "warm")
#: seconds for one script
PATIENCE_SECONDS = 120
_SET_UP = """
import sys, one.params
url, data, user, password, data_user, data_password, folder = sys.argv[1:]
one.params.setup(client=url, silent=True, make_default=True, username=user, cache_dir=folder)
settings = one.params.get(client=url)
for name, value in (("", data + "/public"), ("_LOGIN", data_user), ("_PWD", data_password)):
    settings = settings.set("HTTP_DATA_SERVER" + name, value)
one.params.save(settings, url)
from one.webclient import AlyxClient
AlyxClient(base_url=url, username=user, password=password, silent=True)
"""
_HOW = """\
Made by `scripts/bench patterns`: one machine, one run, whole processes in turns; medians, seconds.
The server waits {latency:g} ms before each answer. Cold: the client's cache is empty. Warm: it has
run the script before. A ratio is ONE-api's time divided by that of onefs. The scripts are
docs/recipes/patterns/*.py, with another line of import for ONE-api.
"""


@dataclass(frozen=True)
class Client:
    """One of the two classes ``ONE``, with the settings and the cache of a user of its own."""

    name: str
    #: the line of the scripts that imports its ``ONE``
    import_line: str
    environment: Mapping[str, str]
    #: folders with what it knows
    caches: Sequence[Path]
    python: Path = PYTHON

    def forget(self) -> None:
        """Empty its caches."""
        for folder in self.caches:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)


@dataclass
class Runs:
    """What one client did with one script."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STATES})
    output: str = ""
    error: str = ""


def one_api(folder: Path, ready: Mapping[str, str], python: Path = PYTHON) -> Client:
    """ONE-api of a user who has set it up and is logged in."""
    cache = folder / "downloads"
    own = dict(os.environ) | {"HOME": str(folder)}
    arguments = [ready["alyx_url"], ready["data_url"], ready["username"], ready["password"]]
    arguments += [ready["data_username"], ready["data_password"], str(cache)]
    subprocess.run(
        [python, "-c", _SET_UP, *arguments], env=own, check=True, timeout=60,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return Client(ONE_API, "from one.api import ONE", own, [cache], python)


def onefs(folder: Path, ready: Mapping[str, str], python: Path = PYTHON) -> Client:
    """The class of onefs, of a user who is logged in."""
    connection = http.client.HTTPConnection(urlsplit(ready["alyx_url"]).netloc)
    own = environment(folder, ready, log_in(connection, ready))
    connection.close()
    return Client(ONEFS, IMPORT, own, [folder / name for name in ("STATE", "CACHE")], python)


def measure(script: Path, clients: Sequence[Client], repeats: int) -> dict[str, Runs]:
    """Run a script ``repeats`` times with each client in each state, in turns."""
    runs = {client.name: Runs() for client in clients}
    # the server computes a session's files when they are first asked for, Python compiles modules
    for client in clients:
        _run(script, client, runs[client.name], "")
    for _ in range(repeats):
        for client in clients:
            client.forget()
            for state in STATES:
                _run(script, client, runs[client.name], state)
    return runs


def _run(script: Path, client: Client, runs: Runs, state: str) -> None:
    """Run a script once, if it has not failed before. Its time is kept if it has a ``state``."""
    if runs.error:
        return
    program = script.read_text("utf-8").replace(IMPORT, client.import_line)
    pipe = subprocess.PIPE
    began = time.perf_counter()
    command: list[str | Path] = [client.python, "-W", "ignore", "-c", program]
    with started(command, env=dict(client.environment), stdout=pipe, stderr=pipe) as process:
        output, complaint = process.communicate(timeout=PATIENCE_SECONDS)
        seconds = time.perf_counter() - began
    if process.returncode:
        said = complaint.decode(errors="replace").strip().splitlines()
        runs.error = said[-1] if said else f"ended with {process.returncode}"
    else:
        # ONE-api also prints what it downloads: what is compared is the output of a warm run
        runs.output = output.decode()
        if state:
            runs.seconds[state].append(seconds)


def row(runs: Mapping[str, Runs]) -> dict[str, Any]:
    """The results of one script: medians, ratios, and what went wrong."""
    found: dict[str, Any] = {}
    for state in STATES:
        times = {name: each.seconds[state] for name, each in runs.items() if each.seconds[state]}
        found[state] = {name: Spread.of(values).to_json() for name, values in times.items()}
        if len(times) == 2:
            pairs = zip(times[ONE_API], times[ONEFS], strict=True)
            found[state]["ratio"] = Spread.of([slow / fast for slow, fast in pairs]).to_json()
    found["errors"] = {name: each.error for name, each in runs.items() if each.error}
    outputs = {each.output for each in runs.values() if not each.error}
    found["same output"] = len(outputs) == 1 if len(runs) == 2 and not found["errors"] else None
    return found


def judge(rows: Mapping[str, Mapping[str, Any]]) -> list[Criterion]:
    """Each ratio, which must be at least 1."""
    return [
        at_least(f"{name}, {state}: ONE-api's time by that of onefs", 1.0, Spread(**ratio))
        for name, found in rows.items()
        for state in STATES
        if (ratio := found[state].get("ratio"))
    ]


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The results in Markdown."""
    columns = [f"{client}, {state}, s" for state in STATES for client in (ONE_API, ONEFS)]
    columns[2:2], columns[5:] = ["ratio, cold"], ["ratio, warm", "output"]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, found in rows.items():
        cells = [
            f"{found[state][key]['median']:.2f}" if key in found[state] else "-"
            for state in STATES
            for key in (ONE_API, ONEFS, "ratio")
        ]
        same = found["same output"]
        told = [
            f"{client}: {error}".replace("|", "\\|") for client, error in found["errors"].items()
        ]
        told += [{True: "the same", False: "differs", None: ""}[same]] if not told else []
        lines.append(f"| {name} | " + " | ".join([*cells, "; ".join(told)]) + " |")
    return lines


def write(found: dict[str, Any], out: Path) -> None:
    """``patterns.json`` and ``patterns.md``, the latter printed too."""
    judgements = judge(found["patterns"])
    found["criteria"] = to_json(judgements)
    lines = ["# Scripts of scientists, measured", "", _HOW.format(latency=found["latency, ms"])]
    lines += machine_lines(found["machine"])
    if judgements:
        lines += [*to_markdown(judgements), ""]
    lines += table(found["patterns"])
    write_page("patterns", found, lines, out)


def main() -> int:
    """The exit code: 1 when a script failed, or printed something else with the other client."""
    scripts = {path.stem: path for path in sorted(PATTERNS.glob("*.py"))}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one of each")
    parser.add_argument("--only", default=",".join(scripts), help=", ".join(scripts))
    parser.add_argument("--client", choices=[ONE_API, ONEFS], help="one of them alone")
    parser.add_argument("--repeats", type=int, help="of each (5)")
    parser.add_argument("--latency", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    given = parser.parse_args()
    end_cleanly()
    wanted = given.only.split(",")
    if unknown := set(wanted) - set(scripts):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    makers: dict[str, Callable[..., Client]] = {
        ONE_API: one_api,
        ONEFS: onefs,
    }
    loads, rows = [os.getloadavg()[0]], {}
    with (
        tempfile.TemporaryDirectory(prefix="onefs-bench-") as name,
        embedded_servers("--latency", str(given.latency)) as ready,
    ):
        clients = []
        for client in [given.client] if given.client else makers:
            (home := Path(name) / client).mkdir()
            clients.append(makers[client](home, ready))
        for each in wanted:
            print(f"{each} ...", file=sys.stderr, flush=True)
            repeats = given.repeats or (1 if given.quick else 5)
            rows[each] = row(measure(scripts[each], clients, repeats))
            loads.append(os.getloadavg()[0])
    found = {"machine": describe(loads), "latency, ms": given.latency, "patterns": rows}
    write(found, given.out)
    return int(any(each["errors"] or each["same output"] is False for each in rows.values()))


if __name__ == "__main__":
    sys.exit(main())

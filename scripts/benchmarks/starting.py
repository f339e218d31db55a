"""What it costs to start: commands of onefs as whole processes, and a cold search against the
server's own time for the query.

usage: scripts/bench starting [--quick] [--only searches|commands|search-request] [--repeats N]
                              [--out FOLDER]

A cold search is a new process that knows nothing but its token: its catalogue is removed before
each. The server is the embedded one, which waits before it answers; its own time is what the same
request takes on a bare connection, asked in turns with the searches. All are medians of one run;
the ratio is the thing. "Beyond python" is the time less that of ``python -c pass`` in the same
turn. The results go to starting.json and starting.md in --out.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import Any
from urllib.parse import urlsplit

from scripts.benchmarks.interruption import end_cleanly, held
from scripts.benchmarks.machine import describe
from scripts.benchmarks.machine import lines as machine_lines
from scripts.benchmarks.processes import ROOT, BenchmarkFailed, embedded_servers, started
from scripts.benchmarks.read_criteria import Criterion, at_most, to_json, to_markdown
from scripts.benchmarks.results import Spread, write_page

#: seconds that the server takes for a query
DELAYS_SECONDS = (0.5, 1.0, 2.0)
ONEFS = str(Path(sys.executable).with_name("onefs"))
_QUERY = "/sessions?users=olivier&date_range=2018-08-24,2018-08-24&limit=1000&offset=0"
SEARCH = [ONEFS, "search", "--user", "olivier", "--date", "2018-08-24"]
Row = dict[str, float]
PYTHON = "python -c pass"
FIRST_REQUEST = "onefs search, to its first request"
_EID = "cf264653-2deb-44cb-aa84-89b82507028a"
#: of ``--only``: what each part is called on the page
PARTS = {
    "searches": "cold searches",
    "commands": "commands",
    "search-request": "first request",
}
#: seconds that a command may take beyond the start of Python
LIMITS_SECONDS = {"onefs status": 0.120, "onefs show": 0.120, FIRST_REQUEST: 0.200}
_HOW = """\
Made by `scripts/bench starting`: one machine, one run, whole processes in turns; medians, seconds.
"Beyond python" is the time less that of `python -c pass` in the same turn. One database is mounted;
`show` is of a file that is cached. "Beside it" is what a cold search takes beyond the server's own
time for the query.
"""


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def environment(folder: Path, ready: Mapping[str, str], token: str) -> dict[str, str]:
    """Of a user who is logged in, where onefs is installed: its modules are compiled."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ONEFS_")}
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    return own | {
        "HOME": str(folder),
        **{f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "CACHE", "CONFIG")},
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "ONEFS_URL": ready["alyx_url"],
        "ONEFS_USERNAME": ready["username"],
        "ONEFS_TOKEN": token,
        "ONEFS_DATA_USERNAME": ready.get("data_username", ""),
        "ONEFS_DATA_PASSWORD": ready.get("data_password", ""),
        "ONEFS_DATA_HOSTS": ready.get("data_url", ""),
    }


def ask(connection: http.client.HTTPConnection, token: str) -> bytes:
    """The query of the search, without onefs."""
    connection.request("GET", _QUERY, headers={"Authorization": f"Token {token}"})
    return connection.getresponse().read()


def log_in(connection: http.client.HTTPConnection, ready: Mapping[str, str]) -> str:
    """The token of the server's user."""
    body = json.dumps({name: ready[name] for name in ("username", "password")})
    connection.request("POST", "/auth-token", body, {"Content-Type": "application/json"})
    token: str = json.loads(connection.getresponse().read())["token"]
    return token


def cold_search(folder: Path, delay: float, repeats: int) -> Row:
    """A cold search as a whole process, beside the bare request."""
    with embedded_servers("--latency", str(delay * 1000)) as ready:
        connection = http.client.HTTPConnection(urlsplit(ready["alyx_url"]).netloc)
        token = log_in(connection, ready)
        own = environment(folder, ready, token)
        bare, whole = [], []
        for number in range(repeats + 1):
            shutil.rmtree(folder / "STATE", ignore_errors=True)
            search = seconds_of(lambda: run(SEARCH, own))
            asked = seconds_of(lambda: ask(connection, token))
            if number:  # the first compiles the modules
                whole.append(search)
                bare.append(asked)
        connection.close()
    times = statistics.median(bare), statistics.median(whole)
    return {
        "the server's own, s": times[0],
        "onefs search, s": times[1],
        "beside it, s": times[1] - times[0],
        "ratio": times[1] / times[0],
    }


def commands(folder: Path, repeats: int) -> dict[str, Row]:
    """Commands over a server that answers at once, warm and as whole processes, in turns."""
    with ExitStack() as stack:
        ready = stack.enter_context(embedded_servers())
        connection = http.client.HTTPConnection(urlsplit(ready["alyx_url"]).netloc)
        own = environment(folder, ready, log_in(connection, ready))
        connection.close()
        other = str(folder / "other")
        for mountpoint in (other, str(folder / "mount")):
            stack.callback(_undo_mount, mountpoint, own)
        _mount(str(folder / "mount"), own)
        dataset = next((folder / "mount").glob("mainenlab/*/*/001/alf/*.npy"))
        dataset.read_bytes()
        wanted: dict[str, Callable[[], object]] = {
            PYTHON: partial(run, [sys.executable, "-c", "pass"], own),
            "onefs --help": partial(run, [ONEFS, "--help"], own),
            "onefs status": partial(run, [ONEFS, "status"], own),
            "onefs show": partial(run, [ONEFS, "show", str(dataset)], own),
            "onefs search": partial(run, SEARCH, own),
            "onefs list EID": partial(run, [ONEFS, "list", _EID], own),
            "onefs list --labs": partial(run, [ONEFS, "list", "--labs"], own),
        }
        times = _in_turns(wanted, repeats)
        mounting = _in_turns(
            {
                PYTHON: wanted[PYTHON],
                "onefs mount": partial(_mount, other, own),
                "onefs umount": partial(run, [ONEFS, "umount", other], own),
            },
            repeats,
        )
    return {**_rows(mounting), **_rows(times)}


def _mount(mountpoint: str, own: Mapping[str, str]) -> None:
    with held():  # the daemon would go on if its start was broken off
        run([ONEFS, "mount", mountpoint], own)


def _undo_mount(mountpoint: str, own: Mapping[str, str]) -> None:
    if os.path.ismount(mountpoint):
        run([ONEFS, "umount", mountpoint], own)


def first_request(folder: Path, repeats: int) -> dict[str, Row]:
    """From the start of ``onefs search`` to its first request, of a user who has a token."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        ready = {"alyx_url": f"http://127.0.0.1:{listener.getsockname()[1]}", "username": "user"}
        own = environment(folder, ready, "0" * 40)

        def search() -> float:
            began = time.perf_counter()
            with started(SEARCH, env=own, stdout=DEVNULL, stderr=DEVNULL) as process:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(60)
                    connection.recv(1)
                    seconds = time.perf_counter() - began
                process.kill()
            return seconds

        times: dict[str, list[float]] = {PYTHON: [], FIRST_REQUEST: []}
        for number in range(repeats + 1):
            python = seconds_of(partial(run, [sys.executable, "-c", "pass"], own))
            request = search()
            if number:  # the first compiles the modules
                times[PYTHON].append(python)
                times[FIRST_REQUEST].append(request)
    return _rows(times)


def _in_turns(wanted: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in wanted}
    for number in range(repeats + 1):
        for name, call in wanted.items():
            seconds = seconds_of(call)
            if number:
                times[name].append(seconds)
    return times


def _rows(times: Mapping[str, list[float]]) -> dict[str, Row]:
    rows = {}
    for name, own in times.items():
        beyond = [one - python for one, python in zip(own, times[PYTHON], strict=True)]
        spread = Spread.of(beyond)
        rows[name] = {
            "median, s": statistics.median(own),
            "least, s": min(own),
            "beyond python, s": spread.median,
            "least of it, s": spread.low,
            "most of it, s": spread.high,
        }
    return rows


def judge(found: Mapping[str, Any]) -> list[Criterion]:
    """Every promise for which there are measurements."""
    judged = []
    rows = {**found.get("commands", {}), **found.get("first request", {})}
    for name, limit in LIMITS_SECONDS.items():
        if name in rows:
            columns = ("beyond python, s", "least of it, s", "most of it, s")
            spread = Spread(*(rows[name][column] for column in columns))
            judged.append(at_most(f"`{name}`, s beyond the start of Python", limit, spread))
    return judged


def run(command: list[str], own: Mapping[str, str]) -> None:
    """Run a command to its end. Raises BenchmarkFailed."""
    with started(command, env=own, stdout=DEVNULL) as process:
        code = process.wait()  # with a time limit, Python looks every 50 ms whether it has ended
    if code:
        raise BenchmarkFailed(f"{' '.join(command)}: {code}")


def table(rows: Mapping[str, Row]) -> Iterator[str]:
    """Rows in Markdown."""
    columns = list(next(iter(rows.values())))
    yield "| | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        yield f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |"


def write(found: dict[str, Any], out: Path) -> None:
    """``starting.json`` and ``starting.md``, the latter printed too."""
    judgements = judge(found)
    lines = ["# Starting, measured", "", _HOW, *machine_lines(found["machine"])]
    lines += to_markdown(judgements)
    for part in PARTS.values():
        if part in found:
            lines += ["", f"## {part.capitalize()}", "", *table(found[part])]
    found["criteria"] = to_json(judgements)
    write_page("starting", found, lines, out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two of each")
    parser.add_argument("--only", choices=PARTS, help="one part; the others are kept")
    parser.add_argument("--repeats", type=int, help="of each (20)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    given = parser.parse_args()
    end_cleanly()
    repeats = given.repeats or (2 if given.quick else 20)
    kept = given.out / "starting.json"
    found = json.loads(kept.read_text("utf-8")) if given.only and kept.exists() else {}
    found["machine"] = describe([os.getloadavg()[0]])
    with tempfile.TemporaryDirectory(prefix="onefs-bench-") as name:
        work = Path(name)
        measure: dict[str, Callable[[], dict[str, Row]]] = {
            "searches": lambda: {
                f"{delay:g} s": cold_search(work, delay, repeats) for delay in DELAYS_SECONDS
            },
            "commands": lambda: commands(work, repeats),
            "search-request": lambda: first_request(work, repeats),
        }
        for part in [given.only] if given.only else PARTS:
            found[PARTS[part]] = measure[part]()
    write(found, given.out)


if __name__ == "__main__":
    main()

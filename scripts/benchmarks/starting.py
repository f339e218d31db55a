"""What it costs to start: commands of onefs as whole processes, and a cold search against the
server's own time for the query.

usage: starting.py [--quick] [--repeats N] [--out FOLDER]

A cold search is a new process that knows nothing but its token: its catalogue is removed before
each. The server is the embedded one, which waits before it answers; its own time is what the same
request takes on a bare connection, asked in turns with the searches. All are medians of one run;
the ratio is the thing. With --out the results go to starting.json there.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from scripts.benchmarks.machine import describe
from scripts.benchmarks.processes import embedded_servers

#: seconds that the server takes for a query
DELAYS_SECONDS = (0.5, 1.0, 2.0)
ONEFS = str(Path(sys.executable).with_name("onefs"))
_QUERY = "/sessions?users=olivier&date_range=2018-08-24,2018-08-24&limit=1000&offset=0"
SEARCH = [ONEFS, "search", "--user", "olivier", "--date", "2018-08-24"]
Row = dict[str, float]


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
    with embedded_servers() as ready:
        connection = http.client.HTTPConnection(urlsplit(ready["alyx_url"]).netloc)
        own = environment(folder, ready, log_in(connection, ready))
        connection.close()
        mount = folder / "mount"
        wanted: dict[str, list[str]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "onefs --help": [ONEFS, "--help"],
            "onefs search": SEARCH,
            "onefs list EID": [ONEFS, "list", "cf264653-2deb-44cb-aa84-89b82507028a"],
            "onefs list --labs": [ONEFS, "list", "--labs"],
            "onefs mount": [ONEFS, "mount", str(mount)],
        }
        times: dict[str, list[float]] = {name: [] for name in wanted}
        for number in range(repeats + 1):
            for name, command in wanted.items():
                seconds = seconds_of(lambda command=command: run(command, own))  # type: ignore[misc]
                if name == "onefs mount":
                    run([ONEFS, "umount", str(mount)], own)
                if number:
                    times[name].append(seconds)
    return {
        name: {"median, s": statistics.median(t), "least, s": min(t)} for name, t in times.items()
    }


def run(command: list[str], own: Mapping[str, str]) -> None:
    """Run a command to its end. Raises CalledProcessError."""
    # no time limit: with one, subprocess looks every 50 ms whether it has ended
    subprocess.run(command, env=own, check=True, stdout=subprocess.DEVNULL)


def table(rows: Mapping[str, Row]) -> Iterator[str]:
    """Rows in Markdown."""
    columns = list(next(iter(rows.values())))
    yield "| | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        yield f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two of each")
    parser.add_argument("--repeats", type=int, help="of each (20)")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    repeats = given.repeats or (2 if given.quick else 20)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "machine": describe([os.getloadavg()[0]]),
            "cold searches": {f"{d:g} s": cold_search(folder, d, repeats) for d in DELAYS_SECONDS},
            "commands": commands(folder, repeats),
        }
    print("\n".join([*table(found["cold searches"]), "", *table(found["commands"])]))
    if given.out is not None:
        (given.out / "starting.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

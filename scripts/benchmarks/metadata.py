"""What listing costs: onefs over the embedded server and over cache tables, bindfs, and HTTP mounts
over nginx listings, and ONE-api for searches.

usage: metadata.py [--quick] [--sessions N] [--repeats N] [--patience S] [--out FOLDER]

Rows of one table were measured in one run, in turns; compare them with one another only. Times are
seconds, medians where there are repeats. "kernel cold": the kernel's own caches were dropped (root
only). "hung": not ended after --patience seconds. --quick takes small numbers, to see that all of
it works, in a minute; else it takes a quarter of an hour. With --out the results go to
metadata.json and metadata.md there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks import contenders, listing, searching
from scripts.benchmarks.contenders import Contender, installed
from scripts.benchmarks.machine import describe
from scripts.benchmarks.origin import serve
from scripts.benchmarks.processes import ROOT, Failed
from scripts.benchmarks.telling import tell

LAB = "lab00"
#: subjects of 50 sessions of 40 datasets: 10,000 files
SUBJECTS = 5
ONEFS = [sys.executable, "-c", "from onefs.cli import main; main()"]
WALKS: dict[str, tuple[list[str | Path], list[str | Path]]] = {
    "ls -lR": (["ls", "-lR"], []),
    "find": (["find"], []),
    "find -printf %s": (["find"], ["-printf", "%s\\n"]),
}
_AS_WRITTEN = argparse.RawDescriptionHelpFormatter
Table = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount of onefs over the embedded server, and that server's access log."""

    place: Path
    pid: int
    log: Path

    def requests(self) -> Counter[str]:
        """How often each list was asked for so far."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return Counter(line["path"].partition("?")[0] for line in lines)


@contextmanager
def demo(folder: Path, sessions: int) -> Iterator[tuple[dict[str, str], Path]]:
    """The embedded servers in a process of their own: where they are, and their access log."""
    log = folder / "access.log"
    command = [sys.executable, "-m", "onefs.demo", "--sessions", str(sessions), "--datasets", "40"]
    with subprocess.Popen(
        [*command, "--access-log", str(log), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield json.loads(process.stdout.readline()), log
        process.stdin.close()


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
def onefs(folder: Path, ready: dict[str, str], log: Path) -> Iterator[tuple[Mounted, float]]:
    """A mount that knows nothing yet, and the seconds that mounting took."""
    place = folder / "onefs"
    own = environment(folder, ready)
    began = time.perf_counter()
    subprocess.run([*ONEFS, "mount", str(place)], env=own, check=True)
    seconds = time.perf_counter() - began
    status = subprocess.run(
        [*ONEFS, "status", "--json"], env=own, check=True, capture_output=True
    ).stdout
    pid = next(m["pid"] for m in json.loads(status)["mounts"] if m["mountpoint"] == str(place))
    try:
        yield Mounted(place, pid, log), seconds
    finally:
        subprocess.run([*ONEFS, "umount", str(place)], env=own, check=True)


def first_walks(mounted: Mounted, repeats: int) -> Table:
    """Each folder of a lab of 1,000 sessions: with nothing known, and then with all known."""
    lab = mounted.place / LAB
    subject = lab / f"{LAB}_000"
    found: Table = {}

    def measure(name: str, command: list[str | Path]) -> None:
        before = mounted.requests()
        first = listing.took(command)
        asked = mounted.requests() - before
        warm = [listing.took(command) for _ in range(repeats)]
        cold = [listing.took(command) for _ in range(repeats) if listing.drop_caches()]
        again = mounted.requests() - before - asked
        found[name] = {
            "nothing known": first,
            "requests": sum(asked.values()),
            "kernel cold": _median(cold),
            "kernel warm": _median(warm),
            "requests again": sum(again.values()),
        }

    measure("ls of the mount", ["ls", mounted.place])
    measure("ls of a lab", ["ls", lab])
    measure("ls of a subject", ["ls", subject])
    date = min(subject.iterdir())
    measure("ls of a date", ["ls", date])
    measure("ls of a session", ["ls", date / "001"])
    measure("ls -lR of a session", ["ls", "-lR", date / "001"])
    measure("find of a lab", ["find", lab])
    measure("ls -lR of a lab", ["ls", "-lR", lab])
    return found


def contest(mounts: dict[str, Path], subjects: list[str], repeats: int, *, cold: bool) -> Table:
    """Medians of each walk over the same subjects of each mount, in turns."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for name, (before, after) in WALKS.items():
        for _ in range(repeats):
            for mount, root in mounts.items():
                if cold and not listing.drop_caches():
                    return {}
                folders = [root / LAB / subject for subject in subjects]
                seconds = listing.took([*before, *folders, *after])
                found.setdefault(name, {}).setdefault(mount, []).append(seconds)
    return {name: {m: _median(t) for m, t in row.items()} for name, row in found.items()}


def over_http(mounts: dict[str, Contender], subjects: list[str], patience: float) -> Table:
    """Each walk over nginx's listings, kernel cold: with nothing known, and once more."""
    found: Table = {}
    hung: set[str] = set()
    for when in ("first", "again"):
        for walk, (before, after) in WALKS.items():
            for name, mount in mounts.items():
                seconds = None
                if name not in hung:
                    listing.drop_caches()
                    folders = [mount.mount / LAB / subject for subject in subjects]
                    seconds = listing.took([*before, *folders, *after], patience, mount.pid)
                if seconds is None:
                    hung.add(name)
                found.setdefault(f"{walk}, {when}", {})[name] = seconds or "hung"
    return found


def peers(stack: ExitStack, folder: Path, real: Path) -> dict[str, Contender]:
    """The other programs' mounts of the real tree, and of its listings over HTTP."""
    found: dict[str, Contender] = {}
    if installed("bindfs"):
        found["bindfs"] = stack.enter_context(contenders.bindfs(folder / "bindfs", real))
    if installed("nginx"):
        source = stack.enter_context(serve(folder / "nginx"))
        (source.root / LAB).symlink_to(real / LAB)
        for name, make in {
            "rclone": lambda: contenders.rclone(folder / "rclone", source.url, "off"),
            "httpdirfs": lambda: contenders.httpdirfs(folder / "httpdirfs", source.url),
        }.items():
            if installed(name):
                try:
                    found[name] = stack.enter_context(make())
                except Failed as error:
                    print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def tables(sessions: int, datasets: int) -> dict[str, Any]:
    """The same from cache tables; see ``tables.py``."""
    command = [sys.executable, ROOT / "scripts/benchmarks/tables.py"]
    sizes = ["--sessions", str(sessions), "--datasets", str(datasets)]
    done = subprocess.run([*command, *sizes], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _median(times: list[float | None]) -> float | None:
    known = [each for each in times if each is not None]
    return statistics.median(known) if known else None


def embedded(given: argparse.Namespace, results: dict[str, Any]) -> None:
    """All that is measured over the embedded server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        ready, log = stack.enter_context(demo(folder, given.sessions))
        mounted, seconds = stack.enter_context(onefs(folder, ready, log))
        results["onefs mount, nothing known, s"] = seconds
        results |= {f"import {name}, s": took for name, took in searching.start_up().items()}
        results["first walks"] = first_walks(mounted, given.repeats)
        lab = mounted.place / LAB
        session = min((lab / f"{LAB}_000").iterdir()) / "001"
        results["stat, kernel warm, a second"] = listing.stat_rate(session / "alf")
        folders = [date / "001/alf" for date in (lab / f"{LAB}_000").iterdir()]
        results["stat, kernel cold, a second"] = listing.first_stat_rate(folders)
        results["searches"] = searching.searches(ready, folder, mounted.place, LAB, given.repeats)
        subjects = [f"{LAB}_{number:03d}" for number in range(given.subjects)]
        real = folder / "real"
        results["files of the contests"] = sum(
            listing.copy_shape(lab / name, real / LAB / name) for name in subjects
        )
        others = peers(stack, folder, real)
        both = {"onefs": mounted.place}
        if "bindfs" in others:
            both["bindfs"] = others.pop("bindfs").mount
        results["kernel cold"] = contest(both, subjects, given.repeats, cold=True)
        results["kernel warm"] = contest(both, subjects, given.repeats, cold=False)
        results["over nginx listings"] = over_http(others, subjects, given.patience)
        results["own memory, MiB"] = round(listing.own_memory(mounted.pid))
        if not given.quick:
            before = mounted.requests()
            seconds, curve = listing.curve_of(["find", mounted.place], mounted.pid)
            asked = sum((mounted.requests() - before).values())
            results["find of everything"] = {"seconds": seconds, "requests": asked, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AS_WRITTEN)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sessions", type=int, help="of the embedded server (20000)")
    parser.add_argument("--repeats", type=int, help="of each walk (5)")
    parser.add_argument("--patience", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    small = given.quick
    given.sessions = given.sessions or (300 if small else 20_000)
    given.repeats = given.repeats or (2 if small else 5)
    given.subjects = 1 if small else SUBJECTS
    results: dict[str, Any] = {"machine": describe([os.getloadavg()[0]])}
    embedded(given, results)
    results["tables"] = tables(*((300, 50) if small else (100_000, 50)))
    text = tell(results)
    print(text)
    if given.out is not None:
        (given.out / "metadata.json").write_text(json.dumps(results, indent=1) + "\n")
        (given.out / "metadata.md").write_text(text)


if __name__ == "__main__":
    main()

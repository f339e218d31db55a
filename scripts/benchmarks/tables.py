"""What cache tables cost: loading them, mounting on them, walking them.

usage: scripts/bench tables [--sessions N] [--datasets M] [--work FOLDER] [--part-of-find LABS]

Makes tables of N sessions with M datasets each, loads them, and mounts the catalogue that came of
it and a small one, each over an embedded server of 20 sessions. Prints one JSON object:

    load    rows a second, and the peak resident memory of the process in MB
    ready   seconds for `onefs mount` to return, small and big, the best of three
    find    seconds of a whole `find`, entries, and the curve of the daemon's memory
    ls_lR   the same of `ls -lR` of one lab
    listings  seconds of `ls`, first (nothing in the daemon's memory) and again, kernel cold; and
            calls of stat a second

A point of a curve is [seconds, RSS of the daemon, 300 B for each fuse_inode of the kernel], in MB:
libfuse keeps that much for each inode which the kernel holds, and the rest is ours.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from scripts.benchmarks import measuring
from scripts.benchmarks.generate_tables import write
from scripts.benchmarks.measuring import INODE_BYTES

SIZES = ("small", "big")
#: as its last line; ``ru_maxrss`` would count what the process was forked from
_PRINT_PEAK_MEMORY = (
    "import atexit; atexit.register(lambda: print(next("
    "line for line in open('/proc/self/status') if line.startswith('VmHWM'))))"
)
_RUN = "from onefs.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--datasets", type=int, default=50)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--part-of-find", type=int, metavar="LABS")
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    try:
        measure(asked.sessions, asked.datasets, found, asked.work, asked.part_of_find)
    finally:
        print(json.dumps(found, indent=1))


def measure(
    sessions: int,
    datasets: int,
    found: dict[str, Any],
    work: Path | None = None,
    part_of_find: int | None = None,
    patience: float = math.inf,
    only_load: bool = False,
) -> dict[str, Any]:
    """Put all of it into ``found``, as it is measured. Tables that are in ``work`` are taken; a
    ``find`` is ended after ``patience`` seconds.

    Changes the environment of this process.
    """
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="onefs-bench-")
        work = work or Path(stack.enter_context(temporary))
        shutil.rmtree(work / "cache", ignore_errors=True)
        _isolate(work / "home")
        if not (work / "big" / "datasets.pqt").exists():
            _report_progress(f"making tables of {sessions:,} sessions")
            write(work / "big", sessions, datasets)
        write(work / "small", 20, 40)
        os.environ["ONEFS_URL"] = stack.enter_context(_server())
        _report_progress("loading")
        _load(work / "small", work / "state-small", work)
        found["load"] = _load(work / "big", work / "state-big", work)
        _report_progress(f"{found['load']}")
        if only_load:
            return found
        # turns, so that both meet the same moods of the machine
        pairs = [[_ready(work / f"state-{name}", work) for name in SIZES] for _ in range(3)]
        found["ready"] = dict(zip(SIZES, map(min, zip(*pairs, strict=True)), strict=True))
        _report_progress(f"{found['ready']}")
        _walks(found, work, part_of_find, patience)
    return found


def _walks(found: dict[str, Any], work: Path, part_of_find: int | None, patience: float) -> None:
    measuring.drop_caches()
    others = _inodes()
    with _mounted(work / "state-big", work) as (mountpoint, pid):
        time.sleep(1)
        found["listings"] = _listings(mountpoint)
        _report_progress("walking a lab")
        labs = [str(lab) for lab in sorted(mountpoint.glob("lab[0-9]*"))]
        found["ls_lR"] = _walk(["ls", "-lR", labs[-1]], pid, others, patience)
        _report_progress("walking all of it")
        found["find"] = _walk(["find", *labs[:part_of_find]], pid, others, patience)


def _report_progress(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def _isolate(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    for name in [name for name in os.environ if name.startswith(("XDG_", "ONEFS_"))]:
        del os.environ[name]
    os.environ["HOME"] = str(home)


def _onefs(*arguments: str) -> list[str]:
    return [sys.executable, "-c", _RUN, *arguments]


@contextmanager
def _server() -> Iterator[str]:
    command = _onefs("demo", "serve", "--sessions", "20", "--datasets", "40")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        os.environ["ONEFS_USERNAME"] = ready["username"]
        os.environ["ONEFS_PASSWORD"] = ready["password"]
        try:
            yield ready["alyx_url"]
        finally:
            process.terminate()


def _load(tables: Path, state: Path, work: Path) -> dict[str, float]:
    shutil.rmtree(state, ignore_errors=True)
    folders = ["--state-dir", str(state), "--cache-dir", str(work / "cache")]
    arguments = ["sync", "--tables", str(tables), *folders]
    command = [sys.executable, "-c", f"{_PRINT_PEAK_MEMORY}; {_RUN}", *arguments]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    code = process.wait()
    seconds = time.monotonic() - began
    assert code == 0, said
    peak_kib = int(said.split()[-2])
    datasets = int(said.split(" datasets")[0].split()[-1].replace(",", ""))
    return {
        "datasets": datasets,
        "seconds": round(seconds, 1),
        "rows_a_second": round(datasets / seconds),
        "peak_MB": round(peak_kib * 1024 / 1e6),
        "file_MB": round((state / "tables.sqlite").stat().st_size / 1e6),
    }


def _mount(state: Path, work: Path) -> tuple[float, Path]:
    mountpoint = work / "mnt"
    folders = ["--state-dir", str(state), "--cache-dir", str(work / "cache")]
    began = time.monotonic()
    # offline: the server does not have the labs of the tables, and its list of labs has priority
    subprocess.run(_onefs("mount", "--offline", str(mountpoint), *folders), check=True)
    return time.monotonic() - began, mountpoint


def _umount(mountpoint: Path) -> None:
    subprocess.run(_onefs("umount", str(mountpoint)), check=True)


def _ready(state: Path, work: Path) -> float:
    seconds, mountpoint = _mount(state, work)
    _umount(mountpoint)
    return round(seconds, 2)


@contextmanager
def _mounted(state: Path, work: Path) -> Iterator[tuple[Path, int]]:
    _, mountpoint = _mount(state, work)
    try:
        text = subprocess.run(_onefs("status", "--json"), capture_output=True, check=True).stdout
        (mount,) = [
            one for one in json.loads(text)["mounts"] if one["mountpoint"] == str(mountpoint)
        ]
        yield mountpoint, int(mount["pid"])
    finally:
        _umount(mountpoint)


def _listings(mountpoint: Path) -> dict[str, float | None]:
    lab = min(mountpoint.glob("lab[0-9]*"))
    subject = min(lab.iterdir())
    date = min(subject.iterdir())
    found: dict[str, float | None] = {}
    folders = {"the mount": mountpoint, "a lab": lab, "a subject": subject, "a date": date}
    for name, folder in {**folders, "a session": min(date.iterdir())}.items():
        for when in ("first", "again"):
            measuring.drop_caches()
            found[f"ls of {name}, {when}, s"] = measuring.seconds_of(["ls", folder])
    session = min(date.iterdir())
    found["ls -lR of a session, s"] = measuring.seconds_of(["ls", "-lR", session])
    files = [Path(folder) for folder, _, names in os.walk(session) if names]
    found["stat, kernel warm, a second"] = measuring.stat_rate(files[0])
    found["stat, kernel cold, a second"] = measuring.first_stat_rate(files)
    return found


def _walk(command: list[str], pid: int, others: float, patience: float) -> dict[str, Any]:
    """``others`` is the memory for inodes of other mounts, in MB."""
    curve: list[list[float]] = []
    done = threading.Event()
    began = time.monotonic()

    def sample() -> None:
        every = 0.5
        while True:
            curve.append(
                [round(time.monotonic() - began, 1), _rss(pid), max(_inodes() - others, 0.0)]
            )
            if done.wait(every):
                return
            every = min(every * 1.3, 20)

    watcher = threading.Thread(target=sample)
    watcher.start()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = 0
        while time.monotonic() - began < patience and (chunk := process.stdout.read(1 << 16)):
            lines += chunk.count(b"\n")
        ended = time.monotonic() - began < patience
        process.kill()
    seconds = time.monotonic() - began
    done.set()
    watcher.join()
    curve.append([round(seconds, 1), _rss(pid), max(_inodes() - others, 0.0)])
    return {
        "seconds": round(seconds, 1),
        "lines": lines,
        "ended": ended,
        "ours_at_most_MB": round(max(rss - inodes for _, rss, inodes in curve)),
        "curve": curve,
    }


def _rss(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return round(int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6, 1)


def _inodes() -> float:
    """Memory for the kernel's inodes; 0 where /proc/slabinfo may not be read."""
    try:
        with open("/proc/slabinfo") as file:
            for line in file:
                if line.startswith("fuse_inode"):
                    return round(int(line.split()[1]) * INODE_BYTES / 1e6, 1)
    except PermissionError:
        pass
    return 0.0


if __name__ == "__main__":
    main()

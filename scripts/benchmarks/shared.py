"""``scripts/bench shared``: mounts and Python processes on one cache folder that is too small.

Two mounts, each with a process that reads in it, and two Python processes that read through onefs
themselves; one of each pair keeps its databases in another folder than the other, as another host
would. All read here and there, and one thread of each reads a file that is larger than the cache
from end to end. Each byte is compared, and the disk that the cache folder takes is looked at ten
times a second. Writes ``shared.json`` and ``shared.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onefs.blocks.cursor import PIN_GROUP_BYTES
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from scripts.benchmarks.contenders import Onefs
from scripts.benchmarks.outcome import Report
from scripts.benchmarks.processes import ROOT, BenchmarkFailed

MIB = 1 << 20
#: of the cache, in bytes; the first file is larger
LIMIT = 32 * MIB
#: (the embedded server hashes files of 64 MiB and more behind, which would change their records)
LARGE = (63 * MIB, 24 * MIB, 24 * MIB, 20 * MIB)
#: files that come whole: how many, and their least and greatest size, at most a group of blocks
SMALL, SMALLEST, GREATEST = 60, 20_000, PIN_GROUP_BYTES
#: readers of each process
THREADS = 3
#: bytes of the folder's own small files: records, maps, locks
OWN_FILES = MIB
#: seconds between two looks at the disk
LOOK_EVERY_SECONDS = 0.1
_SESSION = "lab/Subjects/mouse/2021-03-04/001/alf"


@dataclass
class SharedOutcome:
    """What a run came to."""

    seconds: float
    seed: int
    limit: int = LIMIT
    data: int = 0
    #: reading threads in all, and what they wait for at the most: a block each, in bytes
    readers: int = 0
    in_flight: int = 0
    #: the most bytes of disk that were seen: of files with a name, and with those that were
    #: evicted while somebody had them open
    highest: int = 0
    highest_with_open: int = 0
    looks: int = 0
    #: at the end: the bytes that the processes have counted together, and those that are there
    counted: int = 0
    there: int = 0
    reads: list[int] = field(default_factory=list)
    bytes_read: int = 0
    #: how often each process read the file that is larger than the cache to its end
    end_to_end: list[int] = field(default_factory=list)
    bytes_fetched: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    @property
    def allowed(self) -> int:
        """Bytes of disk that named files may take."""
        return self.limit + self.in_flight + OWN_FILES

    @property
    def good(self) -> bool:
        """Whether all that was promised held, and enough was done to tell."""
        tried = all(self.reads) and all(self.end_to_end) and self.looks > 2 * self.seconds
        held = not self.wrong and not self.errors and self.highest <= self.allowed
        return tried and held and abs(self.there - self.counted) <= OWN_FILES


def make_files(folder: Path, seed: int) -> dict[str, str]:
    """Random files in ONE's order: where each stands in a mount, and its original."""
    chance = np.random.default_rng(seed)
    sizes = {f"large.c{n}.npy": size for n, size in enumerate(LARGE)}
    for number in range(SMALL):
        sizes[f"small.c{number:02}.npy"] = int(chance.integers(SMALLEST, GREATEST))
    (folder / _SESSION).mkdir(parents=True)
    found = {}
    for name, size in sizes.items():
        path = folder / _SESSION / name
        path.write_bytes(chance.bytes(size))
        found[f"{_SESSION.replace('/Subjects', '')}/{name}"] = str(path)
    return found


def share(
    work: Path,
    seconds: float,
    seed: int,
    second: Path = ROOT,
    afterwards: Callable[[Sequence[Onefs]], None] = lambda homes: None,
) -> SharedOutcome:
    """The whole run, in the empty folder ``work``.

    ``second`` is the checkout whose code one mount of the two, and one Python process, run.
    ``afterwards`` is called with both mounts before they end.
    """
    outcome = SharedOutcome(seconds, seed)
    files = make_files(work / "data", seed)
    outcome.data = sum(os.path.getsize(original) for original in files.values())
    cache = work / "cache"
    with ExitStack() as stack:
        servers = stack.enter_context(Servers(FolderLaboratory(work / "data")))
        homes = [
            stack.enter_context(home(work / f"host{n}", servers, cache, root))
            for n, root in ((1, ROOT), (2, second))
        ]
        servers.clear_requests()
        jobs = [(each, str(mount)) for each in homes for mount in (each.mount, "")]
        readers = [
            stack.enter_context(
                reader(each, mount, files, threads=THREADS, seconds=seconds, seed=seed + number)
            )
            for number, (each, mount) in enumerate(jobs)
        ]
        looking = stack.enter_context(
            _watching_disk(cache, [each.pid() for each in homes], outcome)
        )
        looking.pids += [process.pid for process in readers]
        found = results(readers, seconds + 120)
        outcome.bytes_fetched = sum(r.bytes for r in servers.requests if r.server == "data")
        afterwards(homes)
    outcome.there = disk_bytes(cache)
    outcome.counted = int.from_bytes((cache / ".onefs" / "usage").read_bytes()[:8], "little")
    outcome.readers = len(jobs) * THREADS
    outcome.in_flight = outcome.readers * PIN_GROUP_BYTES
    first = next(iter(files))
    for each in found:
        outcome.reads.append(each["reads"])
        outcome.bytes_read += each["bytes_read"]
        outcome.end_to_end.append(each["whole"].get(first, 0))
        outcome.wrong += each["wrong"]
        outcome.errors += each["errors"]
    return outcome


@contextmanager
def home(work: Path, servers: Servers, cache: Path, root: Path = ROOT) -> Iterator[Onefs]:
    """A mount of a checkout's code, with databases of its own on the shared cache folder."""
    work.mkdir()
    login = servers.login
    made = Onefs(
        work,
        servers,
        cache,
        ONEFS_DATA_USERNAME=login.data_username,
        ONEFS_DATA_PASSWORD=login.data_password,
        ONEFS_DATA_HOSTS=servers.data_url,
        ONEFS_CACHE_SIZE=str(LIMIT),
        ONEFS_SMALL_FILE=str(PIN_GROUP_BYTES),
        PYTHONPATH=str(root),
    )
    made.run("mount", made.mount)
    try:
        yield made
    finally:
        with suppress(BenchmarkFailed):
            made.run("umount", made.mount)


@contextmanager
def reader(
    home: Onefs, mount: str, files: dict[str, str], **job: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process of ``cache_reader`` that waits for its beginning; ``mount`` '' for Python."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.cache_reader"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=home.environment["PYTHONPATH"],
        env={**os.environ, **home.environment},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({"mount": mount, "files": files, **job}) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "ready\n":
            raise BenchmarkFailed("a reader did not get ready")
        yield process
    finally:
        process.kill()
        process.wait(15)
        process.stdin.close()
        process.stdout.close()


def results(readers: list[subprocess.Popen[str]], within: float) -> list[dict[str, Any]]:
    """What readers that begin now have found at their end. Raises TimeoutExpired."""
    for process in readers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    end = time.monotonic() + within
    return [
        json.loads(process.communicate(timeout=max(1.0, end - time.monotonic()))[0])
        for process in readers
    ]


class _DiskWatch:
    """Looks at the disk until it is stopped."""

    def __init__(self, cache: Path, pids: list[int], outcome: SharedOutcome) -> None:
        #: processes that may have files open that have no name any more
        self.pids = pids
        self._cache = cache
        self._outcome = outcome
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(LOOK_EVERY_SECONDS):
            named = disk_bytes(self._cache)
            self._outcome.looks += 1
            self._outcome.highest = max(self._outcome.highest, named)
            whole = named + self._nameless()
            self._outcome.highest_with_open = max(self._outcome.highest_with_open, whole)
            if self._outcome.looks % 10 == 0:
                self._outcome.loads.append(os.getloadavg()[0])

    def _nameless(self) -> int:
        found = {}
        for pid in self.pids:
            with suppress(OSError):
                for link in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        about = link.stat()
                        if not about.st_nlink and os.readlink(link).startswith(str(self._cache)):
                            found[about.st_ino] = about.st_blocks * 512
        return sum(found.values())


@contextmanager
def _watching_disk(cache: Path, pids: list[int], outcome: SharedOutcome) -> Iterator[_DiskWatch]:
    looking = _DiskWatch(cache, pids, outcome)
    thread = threading.Thread(target=looking.run)
    thread.start()
    try:
        yield looking
    finally:
        looking.stop.set()
        thread.join()


def disk_bytes(folder: Path) -> int:
    """Bytes of disk of all files below a folder, what vanishes meanwhile left out."""
    found = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found += os.lstat(os.path.join(root, name)).st_blocks * 512
    return found


_REPORT = Report(
    "shared",
    "A small cache that is shared, measured",
    "Two mounts with a reading process each and two Python processes, "
    f"{THREADS} threads in each of the four, on one cache folder; sizes in bytes.",
    ("allowed", "good"),
)


def main(arguments: list[str]) -> int:
    """The exit code: 0 when all went as promised."""
    parser = _REPORT.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args(arguments)
    return _REPORT.run(given.out, lambda at: share(at, given.seconds, given.seed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``scripts/bench kills``: the daemon is killed again and again while it downloads for readers.

After each remount every byte that is read is compared with the original, and in the end what the
file server has sent is compared with the sizes of the files: each kill may cost what was under way
(:data:`LOST_BYTES` for each connection), and no more. Writes ``kills.json`` and
``kills.md``.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from onefs.blocks.request_fetch import CHUNK_BYTES
from onefs.blocks.scheduler import MAX_CONNECTIONS_PER_SERVER
from onefs.demo.servers import Servers
from scripts.benchmarks import origin
from scripts.benchmarks.contenders import Onefs
from scripts.benchmarks.laboratory import (
    BenchLaboratory,
    Original,
    Served,
    make_original,
    md5_of,
)
from scripts.benchmarks.outcome import Report
from scripts.benchmarks.processes import BenchmarkFailed, wait_until

#: bytes that a kill may cost for each connection: under way, or not yet recorded
LOST_BYTES = 2 * CHUNK_BYTES
#: of one file, in bytes, and of each connection to the file server, in bytes a second
_SIZE = 384 << 20
_RATE = 1_000_000
#: seconds between a mount that answers and its end
_LEAST, _MOST = 0.05, 1.2
_PIECE = 256 << 10


@dataclass
class KillsOutcome:
    """What a run came to."""

    seed: int
    kills: int = 0
    #: downloads that were finished before the last kill, and after it
    files: int = 0
    file_size: int = _SIZE
    reads: int = 0
    bytes_read: int = 0
    #: where the bytes of a read were not those of the original
    wrong: list[str] = field(default_factory=list)
    #: errors of reads while the daemon lived
    errors: list[str] = field(default_factory=list)
    bytes_fetched: int = 0
    seconds: float = 0.0
    loads: list[float] = field(default_factory=list)

    @property
    def surplus(self) -> int:
        """Bytes that were fetched more than once."""
        return self.bytes_fetched - self.files * self.file_size

    @property
    def allowed(self) -> int:
        """The surplus that the kills explain."""
        return self.kills * MAX_CONNECTIONS_PER_SERVER * LOST_BYTES

    @property
    def good(self) -> bool:
        return not self.wrong and not self.errors and self.surplus <= self.allowed


class _Readers:
    """Four readers of one file, two in order and two here and there, until the mount dies."""

    def __init__(self, path: Path, original: Original, outcome: KillsOutcome, seed: int) -> None:
        self._path = path
        self._outcome = outcome
        self._lock = threading.Lock()
        self._ending = threading.Event()
        with original.path.open("rb") as file:
            self._true = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = original.size
        works = (
            lambda: self._in_order(0, size),
            lambda: self._in_order(size // 2, size),
            lambda: self._scattered(random.Random(seed), size),
            lambda: self._scattered(random.Random(seed + 1), size),
        )
        self._threads = [threading.Thread(target=self._until_the_end, args=(w,)) for w in works]
        for thread in self._threads:
            thread.start()

    def ending(self) -> None:
        """From now on an error is no surprise."""
        self._ending.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                raise BenchmarkFailed("a reader hangs though its daemon is dead")

    def _until_the_end(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except OSError as error:
            if not self._ending.is_set():
                with self._lock:
                    self._outcome.errors.append(repr(error))

    def _in_order(self, start: int, end: int) -> None:
        with self._path.open("rb", buffering=0) as file:
            for offset in range(start, end, _PIECE):
                if self._ending.is_set():
                    return
                self._check(file.fileno(), offset, min(_PIECE, end - offset))

    def _scattered(self, chance: random.Random, size: int) -> None:
        with self._path.open("rb", buffering=0) as file:
            while not self._ending.is_set():
                offset = chance.randrange(size)
                self._check(file.fileno(), offset, min(chance.choice((100, _PIECE)), size - offset))

    def _check(self, descriptor: int, offset: int, length: int) -> None:
        found = os.pread(descriptor, length, offset)
        with self._lock:
            self._outcome.reads += 1
            self._outcome.bytes_read += len(found)
            # a read that the daemon's death cut short gives the bytes that had come
            whole = len(found) == length or self._ending.is_set()
            if not whole or found != self._true[offset : offset + len(found)]:
                self._outcome.wrong.append(f"{len(found)} of {length} bytes at {offset}")


def kill_again_and_again(work: Path, kills: int, seed: int) -> KillsOutcome:
    """The whole run, in the empty folder ``work``."""
    outcome = KillsOutcome(seed)
    chance = random.Random(seed)
    began = time.monotonic()
    with ExitStack() as stack:
        source = stack.enter_context(origin.serve(work / "nginx", _RATE))
        laboratory = BenchLaboratory(source.root, {"plain": source.url})
        original = make_original(work, "original", _SIZE, seed)
        files = laboratory.add_session("plain", [original] * 20)
        servers = stack.enter_context(Servers(laboratory))
        home = Onefs(work / "home", servers)
        home.home.mkdir()
        stack.callback(_unmount, home)
        while outcome.kills < kills:
            outcome.loads.append(os.getloadavg()[0])
            home.run("mount", home.mount)
            if _is_complete(home, files[outcome.files]):
                outcome.files += 1
            path = home.mount / files[outcome.files].in_mount
            _read_until_killed(home, path, original, outcome, chance)
        home.run("mount", home.mount)
        for file in files[: outcome.files + 1]:
            if md5_of(home.mount / file.in_mount) != original.md5:
                outcome.wrong.append(f"the whole of {file.in_mount}")
        last = files[outcome.files]
        wait_until(lambda: _is_complete(home, last), 120, "the last file is verified")
        outcome.files += 1
        paths = {"/" + file.on_server for file in files}
        sent = [request.sent for request in source.requests(0) if request.path in paths]
        outcome.bytes_fetched = sum(sent)
    outcome.seconds = time.monotonic() - began
    return outcome


def _read_until_killed(
    home: Onefs, path: Path, original: Original, outcome: KillsOutcome, chance: random.Random
) -> None:
    """Readers on a mount until its daemon is killed at a moment of its own."""
    pid = home.pid()
    readers = _Readers(path, original, outcome, chance.randrange(1 << 30))
    try:
        time.sleep(chance.uniform(_LEAST, _MOST))
    finally:
        readers.ending()
        os.kill(pid, signal.SIGKILL)
        outcome.kills += 1
        readers.join()


def _is_complete(home: Onefs, file: Served) -> bool:
    return home.complete(home.mount / file.in_mount)


def _unmount(home: Onefs) -> None:
    with suppress(BenchmarkFailed):
        home.run("umount", home.mount)


_REPORT = Report(
    "kills",
    "Killed while downloading, measured",
    f"Four readers, {_RATE / 1e6:g} MB/s a connection; the daemon gets SIGKILL {_LEAST:g} to "
    f"{_MOST:g} s after each mount.",
    ("surplus", "allowed", "good"),
)


def main(arguments: list[str]) -> int:
    """The exit code: 0 when all went as promised."""
    parser = _REPORT.parser(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args(arguments)
    return _REPORT.run(given.out, lambda at: kill_again_and_again(at, given.kills, given.seed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

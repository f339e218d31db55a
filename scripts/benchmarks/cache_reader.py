"""A process that reads files and compares each byte: ``python -m scripts.benchmarks.cache_reader``.

Its job is a line of JSON on stdin; it says ``ready``, begins at the next line, and prints what it
found as JSON. ``mount`` is where the files stand; '' for a process that reads through onefs in
Python, on the cache folder that its environment names.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onefs.cli.open_database import open_database
from onefs.cli.targets import resolve_arguments
from onefs.errors import OnefsError
from onefs.mount.file_handle import FileHandle
from onefs.mount.request_limits import WaitingReads

#: bytes of one read
STEP_BYTES = 128 << 10
#: lengths of the stretches that are read somewhere
_LENGTHS = (10, 5000, 1 << 20)


@dataclass
class ReadResult:
    """What came of it."""

    reads: int = 0
    bytes_read: int = 0
    #: files that were read from their beginning to their end
    whole: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class _Mount:
    """Reads as any program does, but not what the kernel still has from before."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    @contextmanager
    def open(self, path: str) -> Iterator[Callable[[int, int], bytes]]:
        descriptor = os.open(self._folder / path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            yield lambda offset, length: os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)


class _Python:
    """Reads through onefs in this process."""

    def __init__(self, path: str) -> None:
        site, _ = resolve_arguments([path], {})
        self._access = open_database(site, offline=False)
        self._waiting = WaitingReads(1 << 10)

    @contextmanager
    def open(self, path: str) -> Iterator[Callable[[int, int], bytes]]:
        node, handle = self._access.tree.open("/" + path)
        try:
            yield FileHandle(path, node, handle, self._waiting).read
        finally:
            handle.close()

    def close(self) -> None:
        self._access.close()


class _Job:
    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._paths: list[str] = list(job["files"])
        self._true = {path: _mapped(original) for path, original in job["files"].items()}
        self._way = _Mount(job["mount"]) if job["mount"] else _Python(self._paths[0])
        self._lock = threading.Lock()
        self._found = ReadResult()

    def run(self) -> dict[str, Any]:
        threads = [
            threading.Thread(target=self._thread, args=(number,))
            for number in range(self._job["threads"])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if isinstance(self._way, _Python):
            self._way.close()
        return asdict(self._found)

    def _thread(self, number: int) -> None:
        if "seconds" not in self._job:
            for path in self._paths:
                self._read(path, [(0, len(self._true[path]))])
            return
        chance = random.Random(self._job["seed"] * 1000 + number)
        end = time.monotonic() + self._job["seconds"]
        while number == 0 and time.monotonic() < end:  # the first one reads in order
            self._read(self._paths[0], [(0, len(self._true[self._paths[0]]))])
        while time.monotonic() < end:
            path = chance.choice(self._paths)
            self._read(path, self._stretches(chance, len(self._true[path])))

    def _stretches(self, chance: random.Random, size: int) -> list[tuple[int, int]]:
        starts = [chance.randrange(size) for _ in range(chance.randrange(1, 6))]
        return [(start, min(size, start + chance.choice(_LENGTHS))) for start in starts]

    def _read(self, path: str, stretches: list[tuple[int, int]]) -> None:
        try:
            with self._way.open(path) as read:
                for start, end in stretches:
                    for at in range(start, end, STEP_BYTES):
                        self._check(path, at, min(STEP_BYTES, end - at), read)
        except (OSError, OnefsError) as error:
            with self._lock:
                self._found.errors.append(f"{path}: {error!r}")
            return
        if stretches == [(0, len(self._true[path]))]:
            with self._lock:
                self._found.whole[path] = self._found.whole.get(path, 0) + 1

    def _check(
        self, path: str, offset: int, length: int, read: Callable[[int, int], bytes]
    ) -> None:
        found = read(offset, length)
        with self._lock:
            self._found.reads += 1
            self._found.bytes_read += len(found)
            if found != self._true[path][offset : offset + length]:
                self._found.wrong.append(f"{path}: {length} bytes at {offset}")


def _mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def main() -> None:
    job = _Job(json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    if sys.stdin.readline():
        with suppress(BrokenPipeError):
            print(json.dumps(job.run()), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

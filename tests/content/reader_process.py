"""Separate processes that read through a store: ``python -m tests.content.reader_process``.

Such a process first prints ``ready``. It reads a job as JSON from stdin, and prints its result as a
line of JSON. If the process is killed during the job, the cache folder is left as after a crash.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onefs.cache.reservations import CacheLimits
from onefs.content.content import Content
from onefs.download.sources.http import HttpSource
from onefs.errors import OnefsError
from onefs.http import HostAuth, Transport
from onefs.model import Dataset, Replica
from tests.content.conftest import place_of

ROOT = Path(__file__).parents[2]


class ReaderProcess:
    """A process that was started to do a job. ``result`` is the result of the job."""

    def __init__(self, cache: Path, datasets: list[Dataset], **job: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.content.reader_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self._process.stdin is not None
        rows = [asdict(dataset) for dataset in datasets]
        job = {"cache": str(cache), "datasets": rows, **job}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> ReaderProcess:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start_reading(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self, within: float = 60.0) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=within)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def kill(self) -> None:
        """Kill the process with SIGKILL, so that the process cannot clean up."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _dataset(row: dict[str, Any]) -> Dataset:
    copies = tuple(Replica(**copy) for copy in row["replicas"])
    return Dataset(**{**row, "replicas": copies})


class _Job:
    def __init__(self, job: dict[str, Any]) -> None:
        self.datasets = [_dataset(row) for row in job["datasets"]]
        self.origins = [Path(path) for path in job.get("origins", [])]
        self.job = job
        self.content = Content(
            Path(job["cache"]),
            "lab.org",
            lambda: HttpSource(Transport(), HostAuth(None)),
            stall=job.get("stall", 20.0),
            small_file=job.get("small_file", 0),
            limits=CacheLimits(job.get("cache_size"), job.get("min_free", 0)),
        )
        self.errors: list[str] = []
        self.wrong = 0
        self.reads = 0

    def run(self) -> dict[str, Any]:
        work = self._random if "seconds" in self.job else self._in_order
        threads = [
            threading.Thread(target=work, args=(number,))
            for number in range(self.job.get("threads", 1))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.content.close()
        self.content.close_store()
        return {"errors": self.errors, "wrong": self.wrong, "reads": self.reads}

    def _in_order(self, number: int) -> None:
        for dataset, origin in zip(self.datasets, self.origins, strict=True):
            self._check(dataset, origin, [(0, dataset.size or 0)])

    def _random(self, number: int) -> None:
        chance = random.Random(self.job.get("seed", 0) * 1000 + number)
        end = time.monotonic() + self.job["seconds"]
        while time.monotonic() < end:
            index = chance.randrange(len(self.datasets))
            dataset = self.datasets[index]
            size = dataset.size or 0
            spans = []
            for _ in range(chance.randrange(1, 6)):
                start = chance.randrange(size)
                spans.append((start, min(size, start + chance.choice((10, 5000, 3_000_000)))))
            self._check(dataset, self.origins[index], spans)

    def _check(self, dataset: Dataset, origin: Path, spans: list[tuple[int, int]]) -> None:
        step = 128 * 1024
        try:
            handle = self.content.open(dataset, place_of(dataset))
        except OnefsError as error:
            self.errors.append(str(error))
            return
        try:
            with origin.open("rb") as true:
                for start, end in spans:
                    for at in range(start, end, step):
                        length = min(step, end - at)
                        found = os.pread(handle.wait_fd(at, length), length, at)
                        self.wrong += found != os.pread(true.fileno(), length, at)
                        self.reads += 1
        except OnefsError as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            handle.close()


def main() -> None:
    job = _Job(json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    if sys.stdin.readline() == "go\n":
        print(json.dumps(job.run()), flush=True)
        os._exit(0)


if __name__ == "__main__":
    main()

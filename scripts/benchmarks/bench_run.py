"""What all cases share: servers, originals, contenders, and how much is to be measured."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onefs.demo.servers import Servers
from scripts.benchmarks import contenders, origin, proxy
from scripts.benchmarks.contenders import Contender, installed
from scripts.benchmarks.laboratory import (
    BUCKET,
    BenchLaboratory,
    Original,
    Served,
    make_array,
    make_original,
)
from scripts.benchmarks.memory import MIB, Filler
from scripts.benchmarks.origin import Origin
from scripts.benchmarks.results import Results

#: what the slow proxy adds: seconds, and bytes a second for each connection
LATENCY_SECONDS = 0.020
RATE_BYTES_PER_SECOND = 50e6
#: what the proxy of a server far away adds, in seconds
FAR_LATENCY_SECONDS = 0.100
#: bytes that a run may write to memory: of what fetches a large file, and of small files
LARGE_RUN_BYTES = 1536 * MIB
SMALL_RUN_BYTES = 512 * MIB

Make = Callable[[Path], AbstractContextManager[Contender]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; sizes in bytes."""

    large: int = 1 << 30
    #: the same through the slow proxy, where one connection needs 20 s for a GiB
    slow_large: int = 384 * MIB
    array: int = 500_000_000
    #: just above ``small_file``, 16 MiB
    medium: int = 17 * MIB
    #: of eight files that eight readers read
    eighth: int = 256 * MIB
    #: small files, and their least and greatest size
    small: int = 200
    small_sizes: tuple[int, int] = (20_000, 5_000_000)
    #: cached files that are opened, and their size
    opened: int = 500
    opened_size: int = 10_000
    #: files of a session that is copied, and their least and greatest size
    session: int = 60
    session_sizes: tuple[int, int] = (10_000, 2_000_000)
    #: sessions of which two files each are read, and the sizes of these
    sessions: int = 100
    sparse_sizes: tuple[int, int] = (100_000, 1_000_000)
    #: of the files of which programs read a part
    programs: int = 200_000_000
    pairs: int = 9
    #: of the cases that fetch a large file
    transfers: int = 5
    slow_transfers: int = 3
    small_runs: int = 7
    #: of contenders that need a minute for it
    few: int = 1
    #: seconds after which a case begins no further repetition, once it has three
    case_seconds: float = 40.0
    #: whether a file fills the memory before each run of what writes much
    fill: bool = True


QUICK = Plan(
    large=128 * MIB,
    slow_large=64 * MIB,
    array=100_000_000,
    eighth=64 * MIB,
    small=50,
    opened=50,
    session=12,
    sessions=4,
    programs=40_000_000,
    pairs=3,
    transfers=3,
    slow_transfers=2,
    small_runs=3,
    fill=False,
)


@dataclass
class Bench:
    """One run."""

    work: Path
    plan: Plan
    origin: Origin
    #: the address of each lab's file server
    urls: Mapping[str, str]
    laboratory: BenchLaboratory
    servers: Servers
    results: Results
    filler: Filler
    _originals: dict[str, Original]
    _mounts: int = 0

    def original(self, name: str, size: int, *, array: bool = False) -> Original:
        """Bytes to serve, made when they are first asked for."""
        if name not in self._originals:
            folder = self.work / "originals"
            folder.mkdir(exist_ok=True)
            make = make_array if array else make_original
            self._originals[name] = make(folder, name, size, seed=len(self._originals))
        return self._originals[name]

    def originals_of(self, name: str, count: int, sizes: tuple[int, int]) -> list[Original]:
        """Files whose sizes are spread evenly on a logarithmic scale, in no order."""
        least, most = sizes
        wanted = [int(least * (most / least) ** (n / (count - 1))) for n in range(count)]
        random.Random(1).shuffle(wanted)
        return [self.original(f"{name}{n}", size) for n, size in enumerate(wanted)]

    def url(self, file: Served) -> str:
        """Where a file is on the file server of its lab."""
        return f"{self.urls[file.lab]}/{file.on_server}"

    def rivals(self, lab: str, *, cached: bool = True) -> dict[str, Make]:
        """The other mounts of a lab's file server that are installed here."""
        url = self.urls[lab]
        found: dict[str, Make] = {}
        if installed("rclone"):
            for mode in contenders.RCLONE_MODES:
                found[f"rclone {mode}"] = partial(_rclone, url, mode)
        if cached and installed("httpdirfs"):
            found["httpdirfs"] = lambda work: contenders.httpdirfs(work, url)
        return found

    def onefs(self, work: Path) -> AbstractContextManager[Contender]:
        """onefs over the whole laboratory."""
        return contenders.onefs(work, self.servers)

    def settle(self, run_bytes: int = LARGE_RUN_BYTES) -> None:
        """Sync what earlier runs wrote, and fill the memory, except for ``run_bytes``."""
        os.sync()
        if self.plan.fill:
            self.filler.fill(run_bytes)

    def settle_small(self) -> None:
        """The same for a run that fetches small files."""
        self.settle(SMALL_RUN_BYTES)

    def mount(self, stack: ExitStack, make: Make) -> Contender:
        """A contender that knows nothing yet, in a folder of its own."""
        self._mounts += 1
        return stack.enter_context(make(self.work / f"mount{self._mounts}"))


def _rclone(url: str, mode: str, work: Path) -> AbstractContextManager[Contender]:
    return contenders.rclone(work, contenders.http_options(url), mode)


@contextmanager
def prepare_bench(work: Path, quick: bool, *, bucket: bool = False) -> Iterator[Bench]:
    """Servers and everything, until the block is left. ``work`` is an empty folder.

    ``bucket``: the laboratory has a lab with files in a bucket, for which the case starts a server.
    """
    plan = QUICK if quick else Plan()
    with ExitStack() as stack:
        source = stack.enter_context(origin.serve(work / "nginx"))
        urls = {"plain": source.url}
        for lab, seconds in (("slow", LATENCY_SECONDS), ("far", FAR_LATENCY_SECONDS)):
            port = stack.enter_context(
                proxy.slow(source.port, work, seconds, RATE_BYTES_PER_SECOND)
            )
            urls[lab] = f"http://127.0.0.1:{port}"
        if bucket:
            urls[BUCKET] = source.url
        laboratory = BenchLaboratory(source.root, urls)
        servers = stack.enter_context(Servers(laboratory))
        results = Results(plan.case_seconds)
        yield Bench(work, plan, source, urls, laboratory, servers, results, Filler(work), {})

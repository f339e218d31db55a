"""What all cases share: servers, originals, contenders, and how much is to be measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from onefs.demo.servers import Servers
from scripts.benchmarks import contenders, origin, proxy
from scripts.benchmarks.contenders import Contender, installed
from scripts.benchmarks.laboratory import (
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

Make = Callable[[Path], AbstractContextManager[Contender]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; sizes in bytes."""

    large: int = 1 << 30
    array: int = 500_000_000
    #: just above ``small_file``, 16 MiB
    medium: int = 17 * MIB
    #: of eight files that eight readers read
    eighth: int = 256 * MIB
    #: small files, and their least and greatest size
    small: int = 200
    small_sizes: tuple[int, int] = (20_000, 5_000_000)
    pairs: int = 9
    #: of the cases that fetch a large file
    transfers: int = 5
    slow_transfers: int = 3
    small_runs: int = 7
    #: of contenders that need a minute for it
    few: int = 1
    #: whether a file fills the memory before each run of what writes much
    fill: bool = True


QUICK = Plan(
    large=128 * MIB,
    eighth=64 * MIB,
    small=50,
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

    def url(self, file: Served) -> str:
        """Where a file is on the file server of its lab."""
        return f"{self.urls[file.lab]}/{file.on_server}"

    def rivals(self, lab: str, *, cached: bool = True) -> dict[str, Make]:
        """The other mounts of a lab's file server that are installed here."""
        url = self.urls[lab]
        found: dict[str, Make] = {}
        if installed("rclone"):
            found["rclone off"] = lambda work: contenders.rclone(work, url, "off")
            found["rclone full"] = lambda work: contenders.rclone(work, url, "full")
        if cached and installed("httpdirfs"):
            found["httpdirfs"] = lambda work: contenders.httpdirfs(work, url)
        return found

    def onefs(self, work: Path) -> AbstractContextManager[Contender]:
        """onefs over the whole laboratory."""
        return contenders.onefs(work, self.servers)

    def settle(self) -> None:
        """What earlier runs wrote is on the disk, and no memory is free, unless for little."""
        os.sync()
        if self.plan.fill:
            self.filler.fill()

    def mount(self, stack: ExitStack, make: Make) -> Contender:
        """A contender that knows nothing yet, in a folder of its own."""
        self._mounts += 1
        return stack.enter_context(make(self.work / f"mount{self._mounts}"))


@contextmanager
def prepare_bench(work: Path, plan: Plan) -> Iterator[Bench]:
    """Servers and everything, until the block is left. ``work`` is an empty folder."""
    with ExitStack() as stack:
        source = stack.enter_context(origin.serve(work / "nginx"))
        port = stack.enter_context(
            proxy.slow(source.port, work, LATENCY_SECONDS, RATE_BYTES_PER_SECOND)
        )
        urls = {"plain": source.url, "slow": f"http://127.0.0.1:{port}"}
        laboratory = BenchLaboratory(source.root, urls)
        servers = stack.enter_context(Servers(laboratory))
        yield Bench(work, plan, source, urls, laboratory, servers, Results(), Filler(work), {})

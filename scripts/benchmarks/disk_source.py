"""Files of a disk (``--source``), read in place: onefs against bindfs over the same folder."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from scripts.benchmarks import contenders, memory
from scripts.benchmarks.bench_run import Bench, Make
from scripts.benchmarks.contenders import Contender, Onefs, installed
from scripts.benchmarks.laboratory import Served
from scripts.benchmarks.processes import BenchmarkFailed, timed_together

BASELINE = "bindfs multithreaded"
_READERS = 8


def disk_large(bench: Bench) -> None:
    """A large file and eight of them, with cold pages of both mounts."""
    plan = bench.plan
    large = bench.original("large", plan.large)
    eighths = [bench.original(f"eighth{n}", plan.eighth) for n in range(_READERS)]
    [one, *eight] = bench.laboratory.add_session("plain", [large, *eighths])
    with ExitStack() as stack:
        shown = _contenders(bench, stack)
        for files in ([one], eight):
            readers = f"{len(files)} reader{'s' if len(files) > 1 else ''}"
            _measure(
                bench, f"disk-{len(files)}", f"File of a disk, cold pages, {readers}", shown, files
            )
        _check_no_copy(shown[0])


def disk_small(bench: Bench) -> None:
    """Small files that were verified before, one after another."""
    plan = bench.plan
    originals = bench.originals_of("small", plan.small, plan.small_sizes)
    files = bench.laboratory.add_session("plain", originals)
    with ExitStack() as stack:
        shown = _contenders(bench, stack)
        _read(shown[0], files)  # verified, so that all of them only read
        title = f"{plan.small} small files of a disk, verified before, cold pages"
        _measure(bench, "disk-small", title, shown, files, together=False)
        _check_no_copy(shown[0])


def _contenders(bench: Bench, stack: ExitStack) -> list[Contender]:
    """Return onefs with the file server's folder as its disk, and bindfs of that folder."""
    root = bench.origin.root
    ours = bench.mount(stack, partial(_onefs, bench, root))
    shown = [ours]
    if installed("bindfs"):
        for options in ((), ("--multithreaded",)):
            shown.append(bench.mount(stack, _bindfs(root, *options)))
    return shown


def _onefs(bench: Bench, root: Path, work: Path) -> AbstractContextManager[Contender]:
    work.mkdir(parents=True)
    return contenders.mounted(Onefs(work, bench.servers), "--source", str(root))


def _bindfs(root: Path, *options: str) -> Make:
    return lambda work: contenders.bindfs(work, root, *options)


def _measure(
    bench: Bench,
    key: str,
    title: str,
    shown: list[Contender],
    files: list[Served],
    *,
    together: bool = True,
) -> None:
    size = sum(file.original.size for file in files)
    case = bench.results.case(key, title, "s", BASELINE if len(shown) > 1 else "", size)
    runs = {each.name: partial(_cold, each, files, together) for each in shown}
    case.measure(runs, bench.plan.pairs)


def _cold(contender: Contender, files: list[Served], together: bool, _repetition: int) -> float:
    for file in files:
        memory.drop_pages(contender.path(file))
    return _read(contender, files, together=together)


def _read(contender: Contender, files: list[Served], *, together: bool = False) -> float:
    paths = [contender.path(file) for file in files]
    if together:
        return timed_together(
            [["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"] for path in paths]
        )
    return timed_together([["sh", "-c", 'cat "$@" > /dev/null', "sh", *paths]])


def _check_no_copy(ours: Contender) -> None:
    """Raise BenchmarkFailed if onefs has a byte of the files in its cache folder."""
    assert ours.cache is not None
    for top, _, names in os.walk(ours.cache):
        copies = [name for name in names if name.endswith((".npy", ".data", ".whole"))]
        if copies:
            raise BenchmarkFailed(f"{top} has a copy of a file of the disk: {copies[0]}")

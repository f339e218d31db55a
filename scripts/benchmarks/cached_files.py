"""Files that are there whole: onefs against bindfs (the same way through FUSE, in C) and the disk.

Cold means that the kernel has no page of the mount's file, and those of the file behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from scripts.benchmarks import contenders, memory
from scripts.benchmarks.bench_run import Bench, Make
from scripts.benchmarks.contenders import Contender, installed
from scripts.benchmarks.laboratory import Served
from scripts.benchmarks.processes import timed_together, wait_until

_READERS = 8


def measure_cached_files(bench: Bench) -> None:
    """One reader and eight with cold pages, one with warm ones."""
    plan = bench.plan
    large = bench.original("large", plan.large)
    eighths = [bench.original(f"eighth{n}", plan.eighth) for n in range(_READERS)]
    [one, *eight] = bench.laboratory.add_session("plain", [large, *eighths])
    with ExitStack() as stack:
        ours = bench.mount(stack, bench.onefs)
        assert ours.cache is not None
        for file in (one, *eight):
            timed_together([_read(ours.path(file))])
            wait_until(partial(is_verified, ours.path(file)), 120, "the file is verified")
        shown = [ours]
        if installed("bindfs"):
            for options in ((), ("--multithreaded",)):
                shown.append(bench.mount(stack, _bindfs(ours.cache, *options)))
        for readers, files in ((1, [one]), (_READERS, eight)):
            _cold(bench, readers, files, shown)
        warm = [ours]
        if installed("bindfs"):
            # the kernel keeps its pages, as it does onefs's: what FUSE itself costs then
            warm.append(bench.mount(stack, _bindfs(ours.cache, "-o", "kernel_cache")))
        _warm(bench, one, warm)


def _cold(bench: Bench, readers: int, files: list[Served], shown: list[Contender]) -> None:
    size = sum(file.original.size for file in files)
    case = bench.results.case(
        f"complete-{readers}",
        f"Complete file, cold pages, {readers} reader{'s' if readers > 1 else ''}",
        "s",
        "bindfs" if len(shown) > 1 else "",
        size,
    )
    runs: dict[str, Callable[[int], float]] = {}
    for contender in shown:
        paths = [place_in(contender, shown[0], file) for file in files]
        runs[contender.name] = partial(_without_pages, paths)
    natives = [native_path(shown[0], file) for file in files]
    for path in natives:
        timed_together([_read(path)])
    runs["native, warm"] = lambda n: timed_together([_read(path) for path in natives])
    case.measure(runs, bench.plan.pairs)


def _warm(bench: Bench, file: Served, shown: list[Contender]) -> None:
    """All of it in the kernel: no daemon is asked.

    FUSE's pages are single ones, where a disk's are had by the megabyte. So what counts is whether
    the memory that they are read into lies in one piece.
    """
    paths = {"native": native_path(shown[0], file)}
    paths |= {each.name: place_in(each, shown[0], file) for each in shown}
    memory.compact_free_memory()
    _measure_repeats(bench, "complete-warm", "", paths)
    for path in paths.values():
        memory.drop_pages(path)
    # each of them is read into pieces, and some are left over
    with memory.fragmented((len(paths) + 1) * bench.plan.large):
        _measure_repeats(bench, "complete-warm-pieces", ", memory in pieces", paths)


def _measure_repeats(bench: Bench, key: str, where: str, paths: dict[str, Path]) -> None:
    title = f"Complete file, warm pages, one reader{where}"
    case = bench.results.case(key, title, "s", "native", bench.plan.large)
    for path in paths.values():
        timed_together([_read(path)])
    runs = {name: partial(_read_again, path) for name, path in paths.items()}
    case.measure(runs, bench.plan.pairs)


def _bindfs(source: Path, *options: str) -> Make:
    return lambda work: contenders.bindfs(work, source, *options)


def native_path(ours: Contender, file: Served) -> Path:
    """Return the path of a file in the cache folder of onefs."""
    assert ours.cache is not None
    return ours.cache / file.lab / "Subjects" / file.inside


def place_in(contender: Contender, ours: Contender, file: Served) -> Path:
    """Return the path of a file in a mount of onefs, or of its cache folder."""
    if contender is ours:
        return ours.path(file)
    assert ours.cache is not None
    return contender.mount / native_path(ours, file).relative_to(ours.cache)


def is_verified(path: Path) -> bool:
    """Whether a file of onefs is there whole, with the right md5."""
    return os.getxattr(path, "user.onefs.state") == b"cached"


def _without_pages(paths: list[Path], _repetition: int) -> float:
    for path in paths:
        memory.drop_pages(path)
    return timed_together([_read(path) for path in paths])


def _read_again(path: Path, _repetition: int) -> float:
    return timed_together([_read(path)])


def _read(path: Path) -> list[str | Path]:
    return ["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"]

"""Open, read and close small files that are there: onefs, bindfs, a bare mfusepy loop, the disk."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from scripts.benchmarks import contenders
from scripts.benchmarks.bench_run import Bench
from scripts.benchmarks.cached_files import is_verified, native_path, place_in
from scripts.benchmarks.contenders import installed
from scripts.benchmarks.measuring import drop_caches
from scripts.benchmarks.processes import BenchmarkFailed, run, timed, wait_until

BARE = "a bare mfusepy loop"
#: opens, reads and closes the files on standard input's lines; prints microseconds for each. With
#: "known" it has done so once before
_PROGRAM = """
import os, sys, time
with open(sys.argv[1]) as file:
    paths = [os.fsencode(line.rstrip("\\n")) for line in file]
def read_all():
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        if not os.read(descriptor, 1 << 20):
            sys.exit("nothing was read")
        os.close(descriptor)
if sys.argv[2] == "known":
    read_all()
began = time.perf_counter()
read_all()
print((time.perf_counter() - began) * 1e6 / len(paths))
"""


def measure_opens(bench: Bench) -> None:
    """Names known to the kernel, and names dropped before each pass."""
    plan = bench.plan
    names = [f"opened{n}" for n in range(plan.opened)]
    originals = [bench.original(name, plan.opened_size) for name in names]
    files = bench.laboratory.add_session("plain", originals)
    with ExitStack() as stack:
        ours = bench.mount(stack, bench.onefs)
        assert ours.cache is not None
        timed(["xargs", "cat"], given="\n".join(str(ours.path(file)) for file in files))
        wait_until(partial(is_verified, ours.path(files[-1])), 120, "the files are verified")
        cache = ours.cache
        shown = [
            ours,
            bench.mount(stack, lambda work: contenders.bare(work, "loop", cache, BARE)),
        ]
        if installed("bindfs"):
            shown.append(bench.mount(stack, lambda work: contenders.bindfs(work, cache)))
        paths = {each.name: [place_in(each, ours, file) for file in files] for each in shown}
        paths["native"] = [native_path(ours, file) for file in files]
        lists = {name: _write_list(bench.work, name, found) for name, found in paths.items()}
        for known in (True, False):
            _measure(bench, lists, known=known)


def _write_list(work: Path, name: str, paths: list[Path]) -> Path:
    listed = work / f"{name.replace(' ', '-')}.list"
    listed.write_text("".join(f"{path}\n" for path in paths))
    return listed


def _measure(bench: Bench, lists: dict[str, Path], *, known: bool) -> None:
    how = "known" if known else "dropped"
    title = f"Open, read and close cached files of {bench.plan.opened_size:,} bytes, names {how}"
    baseline = BARE if known or "bindfs" not in lists else "bindfs"
    case = bench.results.case(f"open-{how}", title, "us", baseline)
    runs = {name: partial(_pass, listed, how) for name, listed in lists.items()}
    case.measure(runs, bench.plan.pairs)


def _pass(listed: Path, how: str, _repetition: int) -> float:
    if how == "dropped" and not drop_caches():
        raise BenchmarkFailed("the kernel's names cannot be dropped: be root")
    return float(run([sys.executable, "-c", _PROGRAM, listed, how]))

"""``scripts/bench read``: how fast bytes come, and how many of them, against other programs.

Writes ``read.json``, ``read.md`` and ``read.png`` into ``--out``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from scripts.benchmarks.bench_run import Bench, prepare_bench
from scripts.benchmarks.cached_files import measure_cached_files
from scripts.benchmarks.case_report import Page
from scripts.benchmarks.case_runner import CaseBenchmark
from scripts.benchmarks.network import connections, first_byte, sequential, slices, small_files
from scripts.benchmarks.open_times import measure_opens
from scripts.benchmarks.read_criteria import judge

CASES: dict[str, Callable[[Bench], None]] = {
    "sequential": lambda bench: sequential(bench, "plain"),
    "sequential-slow": lambda bench: sequential(bench, "slow"),
    "proxy": connections,
    "first-byte": lambda bench: first_byte(bench, "plain"),
    "first-byte-slow": lambda bench: first_byte(bench, "slow"),
    "slices": lambda bench: slices(bench, "large"),
    "slices-medium": lambda bench: slices(bench, "medium"),
    "small": lambda bench: small_files(bench, "plain", listed=True),
    "small-listing": lambda bench: small_files(bench, "plain", listed=False),
    "small-slow": lambda bench: small_files(bench, "slow", listed=True),
    "open": measure_opens,
    "complete": measure_cached_files,
}
_HOW = """\
Made by `scripts/bench read`: one machine, one run, the contenders in turn within each repetition.
A ratio is taken within a repetition; what is given is the median, with the lowest and the highest
value. onefs runs as it comes: checksums, verification and the disk cache are on. All read from one
nginx on the loopback; its slow variant is the same behind a proxy that adds 20 ms to each request
and to each new connection, and limits a connection to 50 MB/s. It was run as root: then onefs
reads complete files with a read-ahead of 384 KiB; the other mounts keep the kernel's 128.
A case begins no further repetition once it has three and has taken 40 s. The slow network carries
files of 384 MiB, not of 1 GiB. Before each cold read, what was written is synced, and the memory is
full of a file's pages but for 1.5 GiB (before small files, 0.5 GiB), as on a machine that is long
up: a virtual one gives memory that nobody uses back to its host, and gets it again at a tenth of
the speed of writing to it. Before a file is read again from the kernel's pages, free memory is
brought together; the same in memory that is free in single pages only stands beside it. A disk's
pages are had by the megabyte, those of FUSE (of this kernel) one by one: so the latter costs every
FUSE file system a third of its speed. Files are opened, read and closed by one Python process; it
has done so once before ("names known"), or the kernel has dropped its names and inodes ("names
dropped"); the bare mfusepy loop is a mount of the cache folder by an mfusepy program of forty
lines.
"""
BENCHMARK = CaseBenchmark(Page("read", "Reading, measured", _HOW, judge), CASES, prepare_bench)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main(__doc__, sys.argv[1:]))

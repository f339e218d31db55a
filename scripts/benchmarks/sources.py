"""``scripts/bench sources``: bytes from other places than FlatIron's file server.

Writes ``sources.json``, ``sources.md`` and ``sources.png`` into ``--out``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from scripts.benchmarks.bench_run import Bench, prepare_bench
from scripts.benchmarks.case_report import Page
from scripts.benchmarks.case_runner import CaseBenchmark
from scripts.benchmarks.disk_source import disk_large, disk_small
from scripts.benchmarks.s3_source import s3_large, s3_small
from scripts.benchmarks.sources_criteria import judge

CASES: dict[str, Callable[[Bench], None]] = {
    "disk-large": disk_large,
    "disk-small": disk_small,
    "s3-large": s3_large,
    "s3-small": s3_small,
}
_HOW = """\
Made by `scripts/bench sources`: one machine, one run, the contenders in turn within each
repetition. A ratio is taken within a repetition; what is given is the median, with the lowest and
the highest value. The disk is the folder of the benchmark's file server, with UUIDs in its names:
onefs reads it with `--source`, and has no byte of it in its cache folder. Cold means that the
kernel has no page of the mount's file; it has those of the disk's. The bucket is that folder too,
served by `rclone serve s3`, which checks the signature of each request. `boto3` is its
`download_file` into a folder, `s3fs` reads whole objects into memory; a mount's files are read by
the same Python program, 1 MiB at a time. Times are without the start of Python and the loading of
libraries. onefs verifies the checksum, and keeps the files in its cache folder.
"""
BENCHMARK = CaseBenchmark(
    Page("sources", "Sources, measured", _HOW, judge), CASES, partial(prepare_bench, bucket=True)
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main(__doc__, sys.argv[1:]))

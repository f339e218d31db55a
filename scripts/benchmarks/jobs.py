"""``scripts/bench jobs``: what users do with whole sessions and with parts of large files.

Writes ``jobs.json``, ``jobs.md`` and ``jobs.png`` into ``--out``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from scripts.benchmarks.bench_run import Bench, prepare_bench
from scripts.benchmarks.case_report import Page
from scripts.benchmarks.case_runner import CaseBenchmark
from scripts.benchmarks.copies import copy_session, get_large, get_small, two_of_each
from scripts.benchmarks.jobs_criteria import judge
from scripts.benchmarks.programs import measure_programs

CASES: dict[str, Callable[[Bench], None]] = {
    "copy-slow": lambda bench: copy_session(bench, "slow"),
    "copy-far": lambda bench: copy_session(bench, "far"),
    "sparse": two_of_each,
    "programs": measure_programs,
    "get-large": get_large,
    "get-small": get_small,
}
_HOW = """\
Made by `scripts/bench jobs`: one machine, one run, the contenders in turn within each repetition.
A ratio is taken within a repetition; what is given is the median, with the lowest and the highest
value. onefs runs as it comes: checksums, verification and the disk cache are on. All read from one
nginx on the loopback, some through a proxy that adds 20 or 100 ms to each request and to each new
connection, and limits a connection to 50 MB/s. A case begins no further repetition once it has
three and has taken 40 s. What a program reads is what its calls of `read` returned, as strace saw
them; what is moved are the bytes of the file server's answers (of many small files, with their
headers). `onefs get` is the whole command, from a user who is logged in.
"""
BENCHMARK = CaseBenchmark(Page("jobs", "Jobs, measured", _HOW, judge), CASES, prepare_bench)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main(__doc__, sys.argv[1:]))

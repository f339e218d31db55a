"""``scripts/bench read``: how fast bytes come, and how many of them, against other programs.

Writes ``read.json``, ``read.md`` and ``read.png`` into ``--out``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.benchmarks.bench_run import (
    QUICK,
    Bench,
    Plan,
    prepare_bench,
)
from scripts.benchmarks.cached_files import measure_cached_files
from scripts.benchmarks.network import connections, first_byte, sequential, slices, small_files
from scripts.benchmarks.processes import ROOT, BenchmarkFailed
from scripts.benchmarks.read_report import write

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
    "complete": measure_cached_files,
}


def main(arguments: list[str]) -> int:
    """The exit code: 1 when a case could not be measured."""
    parser = argparse.ArgumentParser(prog="scripts/bench read", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, few repetitions")
    parser.add_argument("--only", metavar="CASE,...", help=f"of {', '.join(CASES)}")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="onefs-bench-") as work:
        with prepare_bench(Path(work), QUICK if given.quick else Plan()) as bench:
            for name in names:
                began = time.monotonic()
                try:
                    CASES[name](bench)
                except (BenchmarkFailed, OSError) as error:
                    failed = True
                    print(f"{name} failed: {error}", file=sys.stderr)
                print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        write(bench.results, given.out, complete=not given.only and not given.quick)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

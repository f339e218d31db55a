"""The criteria of ``scripts/bench sources``: one row for each promise."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.benchmarks.disk_source import BASELINE
from scripts.benchmarks.read_criteria import Criterion, at_least
from scripts.benchmarks.results import Case, Results
from scripts.benchmarks.s3_source import BOTO3, S3FS

_DISK = ("disk-1", "disk-8", "disk-small")


def judge(results: Results) -> list[Criterion]:
    """Every promise for which there are measurements. The median counts."""
    return [*_disk(results.cases), *_bucket(results.cases)]


def _bucket(cases: dict[str, Case]) -> Iterator[Criterion]:
    for key, baseline, wanted in (("s3-large", BOTO3, 0.9), ("s3-small", S3FS, 1.5)):
        case = cases.get(key)
        if case is not None and baseline in case.values:
            text = f"{case.title}, times the speed of {baseline}"
            yield at_least(text, wanted, case.speed("onefs", baseline))


def _disk(cases: dict[str, Case]) -> Iterator[Criterion]:
    for key in _DISK:
        case = cases.get(key)
        if case is not None and BASELINE in case.values:
            yield at_least(
                f"{case.title}, times the speed of {BASELINE}",
                1,
                case.speed("onefs", BASELINE),
            )

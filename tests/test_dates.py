"""The mtimes of files: the day in the path, and a number of seconds that depends on the bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from onefs.dates import dataset_mtime, file_mtime, midnight, parse_timestamp
from onefs.model import Dataset

PLACE = ("lab", "subject", "2020-02-29", "001", "alf", "a.b.npy")
DATASET = Dataset("1" * 32, "e", "a.b.npy", size=3, md5="a" * 32)


def day_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()


def test_values_that_only_alyx_has_do_not_change_the_mtime() -> None:
    from_alyx = replace(DATASET, mtime=1.6e9, dataset_type="a.b", qc="PASS")
    assert dataset_mtime(PLACE, from_alyx) == dataset_mtime(
        PLACE, replace(DATASET, from_tables=True)
    )
    assert day_of(dataset_mtime(PLACE, from_alyx)) == "2020-02-29"
    assert dataset_mtime(PLACE, from_alyx) % 1 == 0  # copies keep whole seconds on any disk


def test_other_bytes_have_another_mtime() -> None:
    others = [
        replace(DATASET, md5="b" * 32),
        replace(DATASET, md5=""),
        replace(DATASET, md5="", size=4),
        replace(DATASET, md5="", id="2" * 32),
    ]
    assert len({dataset_mtime(PLACE, each) for each in (DATASET, *others)}) == 5


@pytest.mark.parametrize(
    ("revision", "day"),
    [
        ("2021-07-05", "2021-07-05"),
        ("2021-07-05a", "2021-07-05"),
        ("", "2020-02-29"),
        ("test", "2020-02-29"),
        ("2021-13-05", "2020-02-29"),
        ("2021-07-05_v2", "2020-02-29"),
    ],
)
def test_a_revision_named_by_a_date_has_that_date(revision: str, day: str) -> None:
    assert day_of(dataset_mtime(PLACE, replace(DATASET, revision=revision))) == day


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2019-13-01",
        "2021-02-29",
        "0000-00-00",
        "0001-01-01",
        "1969-12-31",
        "1970-01-01",
        "2446-01-01",
        "9999-12-31",
        "20190101",
        "2019-W01-1",
        "2019-01-01T10:00",
        "\u0662\u0660\u0661\u0669-01-01",
        "nonsense",
    ],
)
def test_an_invalid_date_is_not_1970(text: str) -> None:
    assert day_of(midnight(text)) == "2000-01-01"
    assert day_of(file_mtime(text, b"bytes")) == "2000-01-01"


def test_a_path_without_a_date_has_the_fallback_date() -> None:
    assert day_of(dataset_mtime(("a.b.npy",), DATASET)) == "2000-01-01"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01T00:01", 60),
        ("1970-01-01 00:01:02", 62),
        ("1970-01-01T00:00:02.5", 2.5),
        ("1970-01-01T00:00:02.123456", 2.123456),
        ("1970-01-01T00:00:02.123456789", 2.123456),
        ("1970-01-01T00:00:02Z", 2),
        ("1970-01-01T00:00:02.25Z", 2.25),
        ("1970-01-01T02:00+02:00", 0),
        ("1970-01-01T02:00:00.5+0200", 0.5),
        ("1969-12-31T22:30-0130", 0),
        ("1970-01-01T02:00+02", 0),
    ],
)
def test_times_are_read_alike_by_each_python(text: str, seconds: float) -> None:
    assert parse_timestamp(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "1970-13-01", "1970-02-30T00:00", "1970-01-01T25:00", "1970-01-01T00:61",
        "1970-01-01T00:00:60", "19700101", "1970-W01-1", "1970-01-01T", "1970-01-01T00:00:00.",
        "1970-01-01T00:00+24:00", "1970-01-01Z", "1970-01-01T00:00:00\n", "١٩٧٠-٠١-٠١",
        "0001-01-01T00:00+05:00", "9999-12-31T23:59-05:00",
    ],
)  # fmt: skip
def test_a_text_that_is_not_a_time_is_none(text: str) -> None:
    assert parse_timestamp(text) is None

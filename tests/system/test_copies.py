"""A dataset on two file servers: which copy is asked for, and what when one lacks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.folder import FolderLaboratory
from onefs.demo.records import DatasetRecord, FileRecord, Source
from onefs.demo.rows import flatiron_repository, make_id
from onefs.demo.serve import Servers
from tests.laboratories import (
    SMALL,
    Altered,
    account,
    data_requests,
    downloads,
    small_file,
)
from tests.running import Home

_COPIES = "/copies"


class TwoCopies(Altered):
    """A source each of whose datasets also stands on ``aws_<lab>``; ``lost``: only there."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.lost = False

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """See :class:`onefs.demo.records.Source`."""
        found = dict(self._source.tables())
        rows = found["data-repository"]
        found["data-repository"] = [*rows, *(_on_aws(row) for row in rows if row["data_url"])]
        return found

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return [_with_copy(row) for row in self._source.datasets(eid)]

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        if self.lost and not path.startswith(_COPIES):
            return None
        return self._source.file(path.removeprefix(_COPIES))


def _on_aws(row: Mapping[str, Any]) -> dict[str, Any]:
    name = row["name"].replace(flatiron_repository(""), "aws_")
    return {**row, "name": name, "data_url": row["data_url"].replace("{data}", "{data}" + _COPIES)}


def _with_copy(row: DatasetRecord) -> DatasetRecord:
    (first,) = row.file_records
    name = first.repository.replace(flatiron_repository(""), "aws_")
    copy = FileRecord(make_id(row.id, "aws"), name, first.relative_path)
    return replace(row, file_records=(first, copy))


@pytest.fixture
def source(folder: Path) -> TwoCopies:
    return TwoCopies(FolderLaboratory(folder))


@pytest.mark.parametrize("wish", ["", "x, aws_*"])
def test_copies_are_asked_for_as_the_user_wishes(
    home: Home, servers: Servers, folder: Path, wish: str
) -> None:
    mounted = home.mount(**account(servers), ONEFS_COPIES=wish)
    for path in SMALL[:3]:
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    asked = [each.path.startswith(_COPIES) for each in downloads(servers)]
    assert asked == [bool(wish)] * 3


def test_a_copy_that_is_lost_is_made_up_for_by_the_other(
    home: Home, servers: Servers, source: TwoCopies, folder: Path
) -> None:
    source.lost = True
    mounted = home.mount(**account(servers), ONEFS_SMALL_FILE="1K")
    for path in SMALL[:3]:
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    assert {each.status for each in data_requests(servers)} >= {404, 206}

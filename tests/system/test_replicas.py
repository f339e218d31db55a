"""A dataset on two file servers: which copy is asked for, and what when one lacks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.alyx_rows import flatiron_repository, make_id
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import DatasetRecord, FileRecord, Source
from onefs.demo.servers import Servers
from tests.laboratories import (
    SMALL,
    AlteredLaboratory,
    account,
    data_requests,
    downloads,
    small_file,
)
from tests.running import Home

_REPLICA_ROOT = "/copies"


class TwoReplicas(AlteredLaboratory):
    """A source whose datasets have a replica on ``aws_<lab>`` too; those in ``lost`` only there."""

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
        return [_with_replica(row) for row in self._source.datasets(eid)]

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        if self.lost and not path.startswith(_REPLICA_ROOT):
            return None
        return self._source.file(path.removeprefix(_REPLICA_ROOT))


def _on_aws(row: Mapping[str, Any]) -> dict[str, Any]:
    name = row["name"].replace(flatiron_repository(""), "aws_")
    return {
        **row,
        "name": name,
        "data_url": row["data_url"].replace("{data}", "{data}" + _REPLICA_ROOT),
    }


def _with_replica(row: DatasetRecord) -> DatasetRecord:
    (first,) = row.file_records
    name = first.repository.replace(flatiron_repository(""), "aws_")
    copy = FileRecord(make_id(row.id, "aws"), name, first.relative_path)
    return replace(row, file_records=(first, copy))


@pytest.fixture
def source(folder: Path) -> TwoReplicas:
    return TwoReplicas(FolderLaboratory(folder))


@pytest.mark.parametrize("wish", ["", "x, aws_*"])
def test_replicas_are_tried_in_the_order_that_the_user_set(
    home: Home, servers: Servers, folder: Path, wish: str
) -> None:
    mounted = home.mount(**account(servers), ONEFS_COPIES=wish)
    for path in SMALL[:3]:
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    asked = [each.path.startswith(_REPLICA_ROOT) for each in downloads(servers)]
    assert asked == [bool(wish)] * 3


def test_a_lost_replica_is_replaced_by_the_other(
    home: Home, servers: Servers, source: TwoReplicas, folder: Path
) -> None:
    source.lost = True
    mounted = home.mount(**account(servers), ONEFS_SMALL_FILE="1K")
    for path in SMALL[:3]:
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    assert {each.status for each in data_requests(servers)} >= {404, 206}

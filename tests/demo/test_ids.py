"""Ids in the embedded laboratories. ONE-api accepts all of these ids as UUIDs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import Source
from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.synthetic import SyntheticLaboratory
from tests.demo.laboratory_folder import SESSION, put

spec = pytest.importorskip("one.alf.spec")


def ids(source: Source) -> Iterator[str]:
    """Yield every id that a client sees, with the dataset ids of one session only."""
    sessions = source.sessions()
    yield from (session.eid for session in sessions)
    for dataset in source.datasets(sessions[0].eid):
        yield dataset.id
        yield from (record.id for record in dataset.file_records)
    for rows in source.tables().values():
        for row in rows:
            yield from _ids_of_row(row)


def _ids_of_row(row: Mapping[str, Any]) -> Iterator[str]:
    for value in (row.get("id"), *row.get("datasets", ())):
        if isinstance(value, str):
            yield value


@pytest.fixture(params=["synthetic", "grown", "folder"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "synthetic":
        return SyntheticLaboratory()
    if request.param == "grown":
        return ScaledLaboratory(200, 30)
    put(tmp_path, f"{SESSION}/alf/spikes.times.npy")
    return FolderLaboratory(tmp_path)


def test_one_api_accepts_every_id_as_a_uuid(source: Source) -> None:
    all_ids = list(ids(source))
    assert len(set(all_ids)) > 3
    assert [each for each in all_ids if not spec.is_uuid(each)] == []
    assert {uuid.UUID(each).variant for each in all_ids} == {uuid.RFC_4122}

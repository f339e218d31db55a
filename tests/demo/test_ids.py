"""Ids of the embedded laboratories: ONE-api takes all of them for UUIDs."""

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
    """Every id that a client gets to see, of one session's datasets and of all else."""
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


@pytest.fixture(params=["made", "grown", "folder"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "made":
        return SyntheticLaboratory()
    if request.param == "grown":
        return ScaledLaboratory(200, 30)
    put(tmp_path, f"{SESSION}/alf/spikes.times.npy")
    return FolderLaboratory(tmp_path)


def test_one_api_takes_every_id_for_a_uuid(source: Source) -> None:
    found = list(ids(source))
    assert len(set(found)) > 3
    assert [each for each in found if not spec.is_uuid(each)] == []
    assert {uuid.UUID(each).variant for each in found} == {uuid.RFC_4122}

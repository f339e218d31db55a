"""Tests of lists with several pages, from a server that omits and repeats rows between pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from onefs.access import Access
from onefs.demo import alyx_rows
from onefs.demo.records import DatasetRecord, SessionRecord
from onefs.demo.servers import Servers
from tests.catalogue.lab_walk import asked
from tests.tree.test_names import make_id

#: datasets of the first sessions of the subject that has many; of all others
DATASETS, FEW = (1700, 2600, 1001), 3


class LongLists:
    """A laboratory where each list is longer than a page (see ``onefs.demo.records.Source``)."""

    def __init__(self) -> None:
        many = [_session("lab0000", "sub0000", 1 + index % 12, index) for index in range(2500)]
        # all began at the same time, so that their order is random
        simultaneous = [_session("lab0001", f"x{index:04d}", 3, 0) for index in range(2500)]
        self._datasets = {found.eid: n for found, n in zip(many, DATASETS, strict=False)}
        everything = [*many, *simultaneous]
        self._sessions = sorted(everything, key=lambda each: each.start_time, reverse=True)

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        names = [("lab0000", f"sub{index:04d}") for index in range(2400)]
        names += [("lab0001", f"x{index:04d}") for index in range(2500)]
        return {
            "labs": [alyx_rows.lab_row(f"lab{index:04d}") for index in range(2300)],
            "subjects": [alyx_rows.subject_row(name, lab, "u", []) for lab, name in names],
            "data-repository": alyx_rows.repository_rows(["lab0000", "lab0001"], {}),
        }

    def sessions(self) -> Sequence[SessionRecord]:
        return self._sessions

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        return [_dataset(eid, index) for index in range(self._datasets.get(eid, FEW))]

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        return None

    def aggregates(self) -> Sequence[DatasetRecord]:
        return ()

    def file(self, path: str) -> Path | bytes | None:
        return None


def _session(lab: str, subject: str, month: int, index: int) -> SessionRecord:
    start = f"2021-{month:02d}-01T10:00:00"
    eid = make_id(lab, subject, index)
    number = index // 12 + 1
    return SessionRecord(eid=eid, lab=lab, subject=subject, start_time=start, number=number)


def _dataset(eid: str, index: int) -> DatasetRecord:
    identity = make_id(eid, index)
    return DatasetRecord(
        id=identity,
        eid=eid,
        name=f"a.b{index}.npy",
        dataset_type="unknown",
        collection="alf",
        file_size=3,
        file_records=alyx_rows.file_records_of(
            identity, "lab0000", f"s/2021-01-01/001/alf/a.b{index}.npy"
        ),
    )


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(LongLists()) as running:
        yield running


def count(access: Access, path: str) -> int:
    return len({name for name, _ in access.tree.children(path)})


def test_an_ordered_list_costs_one_request_per_thousand_rows(
    access: Access, servers: Servers
) -> None:
    access.tree.children("/")
    servers.clear_requests()
    assert count(access, "/lab0000") == 2400
    assert asked(servers) == {"/subjects": 3}


def test_no_lab_is_lost_although_labs_have_no_order(access: Access, servers: Servers) -> None:
    assert count(access, "/") == 2300
    assert asked(servers) == {"/labs": 3 + 4}  # a second walk, by pages of another size


def test_no_session_is_lost_although_many_began_at_one_time(access: Access) -> None:
    dates = [name for name, _ in access.tree.children("/lab0000/sub0000")]
    assert len(dates) == 12
    assert sum(count(access, f"/lab0000/sub0000/{date}") for date in dates) == 2500


@pytest.mark.parametrize(("month", "datasets"), [(1, 1700), (2, 2600), (3, 1001)])
def test_no_dataset_of_a_long_session_is_lost(
    access: Access, servers: Servers, month: int, datasets: int
) -> None:
    session = f"/lab0000/sub0000/2021-{month:02d}-01/001"
    access.tree.node(session)
    servers.clear_requests()
    assert count(access, f"{session}/alf") == datasets
    # the first page has the total number; then there is one for each 900
    assert asked(servers)["/datasets"] == 1 + -(-datasets // 900)


def test_a_walk_over_simultaneous_sessions_is_complete(access: Access, servers: Servers) -> None:
    access.tree.children("/lab0001")
    servers.clear_requests()
    found = 0
    for name, _ in access.tree.children("/lab0001")[:400]:
        found += count(access, f"/lab0001/{name}/2021-03-01/001/alf")
    assert found == 400 * FEW
    assert len(servers.requests) < 30

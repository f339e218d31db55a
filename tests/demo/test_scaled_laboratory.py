"""A large laboratory: rows that are correct for their bytes, and that are returned fast."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from onefs.demo import alyx_rows
from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.demo.synthetic.plan import TUTORIAL_EID
from onefs.errors import UsageError


@pytest.fixture(scope="module")
def laboratory() -> ScaledLaboratory:
    return ScaledLaboratory(2500, 60)


def test_it_has_the_requested_numbers(laboratory: ScaledLaboratory) -> None:
    sessions = laboratory.sessions()
    assert len(sessions) == 2500
    assert len({s.eid for s in sessions}) == 2500
    assert len({(s.lab, s.subject, s.start_time[:10], s.number) for s in sessions}) == 2500
    synthetic = {s.eid for s in SyntheticLaboratory().sessions()}
    grown = [s for s in sessions if s.eid not in synthetic]
    assert len(grown) == 2500 - len(synthetic)
    assert {len(laboratory.datasets(s.eid)) for s in grown[::100]} == {60}
    assert max(Counter(s.lab for s in grown).values()) == 1000
    assert max(Counter((s.lab, s.subject) for s in grown).values()) == 50


def test_every_row_describes_its_bytes(laboratory: ScaledLaboratory) -> None:
    seen = set()
    for session in laboratory.sessions()[::300]:
        for row in laboratory.datasets(session.eid):
            path = alyx_rows.public_path(session.lab) + alyx_rows.with_uuid(
                row.file_records[0].relative_path, row.id
            )
            content = laboratory.file(path)
            assert isinstance(content, bytes)
            assert (len(content), hashlib.md5(content).hexdigest()) == (row.file_size, row.hash)
            assert laboratory.dataset(row.id) == row
            assert row.id not in seen
            seen.add(row.id)
    assert len(seen) > 300


def test_it_has_the_synthetic_laboratory_too(laboratory: ScaledLaboratory) -> None:
    synthetic = SyntheticLaboratory()
    assert laboratory.datasets(TUTORIAL_EID) == synthetic.datasets(TUTORIAL_EID)
    row = synthetic.datasets(TUTORIAL_EID)[0]
    assert laboratory.dataset(row.id) == row
    path = alyx_rows.public_path("mainenlab") + alyx_rows.with_uuid(
        row.file_records[0].relative_path, row.id
    )
    assert laboratory.file(path) == synthetic.file(path)


def test_its_tables_have_the_rows_that_sessions_name(laboratory: ScaledLaboratory) -> None:
    tables = laboratory.tables()
    sessions = laboratory.sessions()
    assert {s.lab for s in sessions} == {row["name"] for row in tables["labs"]}
    assert {s.subject for s in sessions} == {row["nickname"] for row in tables["subjects"]}
    types = [row["name"] for row in tables["dataset-types"]]
    assert len(types) == len(set(types))
    assert {r.dataset_type for s in sessions[:20] for r in laboratory.datasets(s.eid)} <= set(types)
    repositories = {row["name"] for row in tables["data-repository"]}
    assert all(record.repository in repositories
               for s in sessions[:20] for r in laboratory.datasets(s.eid)
               for record in r.file_records)  # fmt: skip


def test_unknown_ids_have_no_dataset(laboratory: ScaledLaboratory) -> None:
    assert laboratory.dataset(alyx_rows.make_id("nobody")) is None
    assert laboratory.dataset("not an id") is None
    assert list(laboratory.datasets(alyx_rows.make_id("nobody"))) == []
    row = laboratory.datasets(next(s.eid for s in laboratory.sessions() if s.lab == "lab00"))[0]
    forged = f"{row.id[:-1]}{(int(row.id[-1], 16) + 1) % 16:x}"
    assert laboratory.dataset(forged) is None


def test_a_session_costs_few_calls_until_its_datasets_are_listed() -> None:
    """The number of datasets does not matter, because rows are computed on request."""

    def calls_of_a_session(datasets: int) -> float:
        few, many = (calls_of(partial(ScaledLaboratory, n, datasets)) for n in (1_000, 20_000))
        return (many - few) / 19_000

    calls = calls_of_a_session(1)
    assert 1 <= calls < 60
    assert calls_of_a_session(40) == pytest.approx(calls, rel=0.01)


def calls_of(work: Callable[[], object]) -> int:
    """Return the number of function calls in ``work()``, including built-in functions."""
    count = 0

    def counts(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counts)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(("sessions", "datasets"), [(0, 1), (2_000_000, 1), (1, 0), (1, 100_000)])
def test_numbers_out_of_range_are_refused(sessions: int, datasets: int) -> None:
    with pytest.raises(UsageError, match="choose 1 to"):
        ScaledLaboratory(sessions, datasets)

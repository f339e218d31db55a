"""A large database: true rows, in no time."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from onefs.demo import alyx_rows
from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.demo.synthetic.plan import TUTORIAL_EID
from onefs.errors import UsageError


@pytest.fixture(scope="module")
def laboratory() -> ScaledLaboratory:
    return ScaledLaboratory(2500, 60)


def test_it_has_as_many_as_asked_for(laboratory: ScaledLaboratory) -> None:
    sessions = laboratory.sessions()
    assert len(sessions) == 2500
    assert len({s.eid for s in sessions}) == 2500
    assert len({(s.lab, s.subject, s.start_time[:10], s.number) for s in sessions}) == 2500
    made = {s.eid for s in SyntheticLaboratory().sessions()}
    grown = [s for s in sessions if s.eid not in made]
    assert len(grown) == 2500 - len(made)
    assert {len(laboratory.datasets(s.eid)) for s in grown[::100]} == {60}
    assert max(Counter(s.lab for s in grown).values()) == 1000
    assert max(Counter((s.lab, s.subject) for s in grown).values()) == 50


def test_every_row_is_true(laboratory: ScaledLaboratory) -> None:
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


def test_it_has_the_synthetic_laboratory_too(laboratory: ScaledLaboratory) -> None:
    made = SyntheticLaboratory()
    assert laboratory.datasets(TUTORIAL_EID) == made.datasets(TUTORIAL_EID)
    row = made.datasets(TUTORIAL_EID)[0]
    assert laboratory.dataset(row.id) == row
    path = alyx_rows.public_path("mainenlab") + alyx_rows.with_uuid(
        row.file_records[0].relative_path, row.id
    )
    assert laboratory.file(path) == made.file(path)


def test_its_tables_fit(laboratory: ScaledLaboratory) -> None:
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


def test_unknown_ids_are_nothing(laboratory: ScaledLaboratory) -> None:
    assert laboratory.dataset(alyx_rows.make_id("nobody")) is None
    assert laboratory.dataset("not an id") is None
    assert list(laboratory.datasets(alyx_rows.make_id("nobody"))) == []
    row = laboratory.datasets(next(s.eid for s in laboratory.sessions() if s.lab == "lab00"))[0]
    forged = f"{row.id[:-1]}{(int(row.id[-1], 16) + 1) % 16:x}"
    assert laboratory.dataset(forged) is None


def test_a_session_of_twenty_thousand_costs_a_few_calls_until_it_is_asked_for() -> None:
    """However many datasets it has: they are made when they are asked for."""

    def calls_of_a_session(datasets: int) -> float:
        few, many = (calls_of(lambda n=n: ScaledLaboratory(n, datasets)) for n in (1_000, 20_000))
        return (many - few) / 19_000

    made = calls_of_a_session(1)
    assert 1 <= made < 60
    assert calls_of_a_session(40) == pytest.approx(made, rel=0.01)


def calls_of(work: Callable[[], object]) -> int:
    """How many functions ``work`` calls, those of the interpreter included."""
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
def test_numbers_out_of_range(sessions: int, datasets: int) -> None:
    with pytest.raises(UsageError, match="choose 1 to"):
        ScaledLaboratory(sessions, datasets)

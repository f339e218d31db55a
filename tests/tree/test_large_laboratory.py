"""Walks of a laboratory with more datasets than the catalogue keeps in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.invalidation import RELOAD_INTERVAL_SECONDS
from onefs.catalogue.listing_memory import MAX_MEMORY_ROWS
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.demo import alyx_rows
from onefs.demo.servers import Servers
from onefs.errors import NotFound
from onefs.model import Dataset, Repository, Session
from onefs.mount.operations import Operations
from onefs.tree import listed_sessions
from onefs.tree.nodes import NodeKind
from tests.counting import calls_of
from tests.laboratories import open_laboratory

LAB, SUBJECT = "lab", "mouse"
DATASETS = 700
#: sessions of a small laboratory, whose datasets are all in memory
FEW = 8
#: so many sessions that their datasets are not all in memory
MANY = 4 * FEW
assert FEW * DATASETS < MAX_MEMORY_ROWS < MANY * DATASETS


def session_of(number: int) -> Session:
    eid = alyx_rows.make_id("session", str(number))
    return Session(eid, LAB, SUBJECT, f"2021-01-{number + 1:02}", 1)


def rows_of(session: Session, *more: str) -> list[DatasetRow]:
    paths = [f"alf/probe{index % 3:02}/x.c{index:04}.npy" for index in range(DATASETS)]
    rows = []
    for path in (*paths, *more):
        collection, _, name = path.rpartition("/")
        id_ = alyx_rows.make_id(session.eid, path)
        dataset = Dataset(
            id_, session.eid, name, collection, size=len(path), md5=id_.replace("-", "")
        )
        rows.append(DatasetRow(dataset, (("server", f"http://127.0.0.1:9/{id_}.npy"),)))
    return rows


def store(state: Path, sessions: int, asked: float) -> None:
    """Store a catalogue of Alyx's answers at the time ``asked``."""
    database = CatalogueDatabase(state / "catalogue.sqlite")
    listed = [session_of(number) for number in range(sessions)]
    database.store_labs([LAB], asked)
    database.store_repositories(
        [Repository("server", "http://127.0.0.1:9/", personal=False)], asked
    )
    database.store_subjects(LAB, [SUBJECT], asked)
    database.store_sessions(LAB, SUBJECT, [(session, True) for session in listed], asked)
    database.store_datasets_by_eid({each.eid: rows_of(each) for each in listed}, asked)
    database.close()


@pytest.fixture(params=[0.0, 3000.0], ids=["new", "an hour old"])
def asked(request: pytest.FixtureRequest) -> float:
    """When Alyx was asked: listings younger than 5 minutes are not compared with SQLite."""
    return time.time() - float(request.param)


@pytest.fixture
def laboratory(servers: Servers, tmp_path: Path, asked: float) -> Iterator[Access]:
    (tmp_path / "state").mkdir()
    store(tmp_path / "state", MANY, asked)
    found = open_laboratory(servers, tmp_path, offline=True)
    yield found
    found.close()


def walk(operations: Operations, path: str = f"/{LAB}") -> list[str]:
    """List a folder and all folders below it, as ``find`` does; return the paths of the files."""
    number = operations.opendir(path)
    entries = operations.readdir(number, first=True)
    operations.releasedir(None, number)
    files = []
    for name, kind, *_ in entries[2:]:
        child = f"{path}/{name.decode()}"
        files += walk(operations, child) if kind is NodeKind.DIRECTORY else [child]
    return files


def statements_of(access: Access) -> list[str]:
    """Return a list to which each later SQL statement on the catalogue is added."""
    statements: list[str] = []
    connection = access.catalogue._database._file._current_connection()
    connection.set_trace_callback(statements.append)
    return statements


def test_the_second_walk_reads_no_dataset_again(laboratory: Access) -> None:
    operations = Operations(laboratory.tree)
    files = walk(operations)
    assert len(files) == MANY * DATASETS
    statements = statements_of(laboratory)
    assert walk(operations) == files
    assert [each for each in statements if "FROM datasets" in each] == []


def test_work_grows_as_the_laboratory_does(servers: Servers, tmp_path: Path) -> None:
    """Four times the sessions are at most 4.3 times the function calls of a second walk."""
    calls = {}
    for sessions in (FEW, MANY):
        state = tmp_path / str(sessions)
        (state / "state").mkdir(parents=True)
        store(state / "state", sessions, time.time())
        access = open_laboratory(servers, state, offline=True)
        try:
            operations = Operations(access.tree)
            walk(operations)
            calls[sessions] = calls_of(lambda operations=operations: walk(operations))  # type: ignore[misc]
        finally:
            access.close()
    assert calls[MANY] < 4.3 * calls[FEW]


def test_the_listed_entries_are_those_of_the_tree(laboratory: Access) -> None:
    """Name, kind, inode number, size and time: of a folder, and of each file when looked up."""
    tree = laboratory.tree
    folder = f"/{LAB}/{SUBJECT}/2021-01-02/001"
    walk(Operations(tree))
    for path in (folder, f"{folder}/alf", f"{folder}/alf/probe01"):
        own, parent, *entries = tree.entries(path)
        assert own[1:3] == (NodeKind.DIRECTORY, tree.node(path).ino)
        assert parent[2] == tree.node(path.rpartition("/")[0]).ino
        assert entries == tree.entries(path)[2:]
        nodes = {name: tree.node(f"{path}/{name}") for name, _ in tree.children(path)}
        assert entries == [
            (name.encode(), node.kind, node.ino, node.size, node.mtime)
            for name, node in nodes.items()
        ]


def test_a_listing_of_another_process_is_shown(
    laboratory: Access, tmp_path: Path, asked: float
) -> None:
    """Names that are in memory do not hide what another process has stored since."""
    operations = Operations(laboratory.tree)
    files = walk(operations)
    changed = session_of(3)
    other = CatalogueDatabase(tmp_path / "state" / "catalogue.sqlite")
    other.store_datasets_by_eid({changed.eid: rows_of(changed, "alf/new.file.npy")}, asked + 1)
    if time.time() - asked < 1000:  # so young that SQLite is not asked without an invalidation
        other.invalidate((), asked + 1)
        laboratory.tree.drop_caches()
    other.close()
    time.sleep(2 * RELOAD_INTERVAL_SECONDS)
    assert set(walk(operations)) - set(files) == {
        f"/{LAB}/{SUBJECT}/{changed.date}/001/alf/new.file.npy"
    }


def test_a_folder_that_is_gone_is_not_found(laboratory: Access, tmp_path: Path) -> None:
    folder = f"/{LAB}/{SUBJECT}/2021-01-04/001/alf"
    operations = Operations(laboratory.tree)
    walk(operations, folder)
    changed = session_of(3)
    rows = [row for row in rows_of(changed) if row.dataset.collection != "alf/probe01"]
    laboratory.catalogue._database.store_datasets_by_eid({changed.eid: rows}, time.time())
    laboratory.catalogue._listing_cache.memory.drop(f"datasets/{changed.eid}")
    laboratory.tree.drop_caches()
    assert [name for name, *_ in laboratory.tree.entries(folder)[2:]] == [b"probe00", b"probe02"]
    for operation in (laboratory.tree.node, laboratory.tree.entries):
        with pytest.raises(NotFound):
            operation(f"{folder}/probe01")


def test_few_entries_are_kept_if_few_are_allowed(
    laboratory: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of entries in memory has a bound; beyond it, folders are listed anew."""
    monkeypatch.setattr(listed_sessions, "MAX_ENTRIES", 3 * DATASETS)
    kept = listed_sessions.ListedSessions()
    object.__setattr__(laboratory.tree._context, "listed_sessions", kept)
    operations = Operations(laboratory.tree)
    files = walk(operations)
    assert walk(operations) == files
    assert 0 < kept._sessions.currsize <= 3 * DATASETS

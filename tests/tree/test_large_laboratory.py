"""Walks of a laboratory with more datasets than the catalogue keeps in memory."""

from __future__ import annotations

import os
import posixpath
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onefs.access import Access
from onefs.alyx.parsing import DatasetRow
from onefs.catalogue import listing_memory
from onefs.catalogue.invalidation import RELOAD_INTERVAL_SECONDS
from onefs.catalogue.listing import ListingVersion
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.demo import alyx_rows
from onefs.demo.servers import Servers
from onefs.errors import NotFound
from onefs.model import Dataset, Repository, Session
from onefs.mount.operations import Operations
from onefs.tree import laboratory_tree, layout_cache, listed_sessions
from onefs.tree.context import dataset_node
from onefs.tree.entries import TreeEntry, listed_entry
from onefs.tree.laboratory_tree import FOLDER_CACHE_SECONDS
from onefs.tree.listed_sessions import ListedSessions, ListedState
from onefs.tree.nodes import NodeKind, Tree
from onefs.tree.session_folder import SessionFolder
from tests.call_counts import counted_calls
from tests.laboratories import open_laboratory
from tests.running import wait_until

LAB, SUBJECT = "lab", "mouse"
DATASETS = 70
#: datasets and layouts in memory, instead of 20,000: the tests need fewer datasets so
MAX_ROWS = 800
#: sessions of a small laboratory, whose datasets are all in memory
FEW = 8
#: so many sessions that their datasets are not all in memory
MANY = 4 * FEW
assert FEW * DATASETS < MAX_ROWS < MANY * DATASETS


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


@pytest.fixture(autouse=True)
def _few_rows_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_memory, "MAX_MEMORY_ROWS", MAX_ROWS)
    monkeypatch.setattr(layout_cache, "MAX_CACHED_ROWS", MAX_ROWS)


#: listings younger than 5 minutes are not compared with SQLite
BOTH_AGES = pytest.mark.parametrize("asked", [0, 3000], ids=["new", "an hour old"], indirect=True)


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> float:
    """Return when Alyx was asked: an hour ago, or the seconds ago that a test names."""
    return time.time() - float(getattr(request, "param", 3000))


@pytest.fixture
def laboratory(servers: Servers, tmp_path: Path, asked: float) -> Iterator[Access]:
    (tmp_path / "state").mkdir()
    store(tmp_path / "state", MANY, asked)
    found = open_laboratory(servers, tmp_path, offline=True)
    yield found
    found.close()


#: a file of the laboratory, and the path of its folder below its session
FILE = f"/{LAB}/{SUBJECT}/2021-01-04/001/alf/probe01/x.c0001.npy"
FOLDER_OF_FILE = ("alf", "probe01")
Change = Callable[[DatasetRow], DatasetRow]


def place_of(path: str) -> tuple[str, ...]:
    return tuple(path[1:].split("/"))


def dataset_at(access: Access, path: str) -> Dataset:
    [(dataset, _)] = access.tree.find_datasets(path)
    return dataset


def listed_size(tree: Tree) -> int:
    """Return the size of FILE that a listing of its folder shows."""
    folder, name = os.path.split(FILE)
    [size] = [entry[3] for entry in tree.entries(folder) if entry[0] == name.encode()]
    assert size is not None
    return size


def store_from_outside(access: Access, tmp_path: Path, change: Change) -> None:
    """Let another process store another listing of FILE's session, with FILE changed."""
    session = session_of(3)
    rows = [
        change(row) if FILE.endswith(f"/{row.dataset.collection}/{row.dataset.name}") else row
        for row in rows_of(session)
    ]
    now = time.time()
    other = CatalogueDatabase(tmp_path / "state" / "catalogue.sqlite")
    other.store_datasets_by_eid({session.eid: rows}, now)
    other.invalidate((), now)
    other.close()
    access.tree.drop_caches()


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


@BOTH_AGES
def test_the_second_walk_reads_no_dataset_again(laboratory: Access) -> None:
    operations = Operations(laboratory.tree)
    files = walk(operations)
    assert len(files) == MANY * DATASETS
    statements = statements_of(laboratory)
    assert walk(operations) == files
    assert [each for each in statements if "FROM datasets" in each] == []


def test_work_grows_as_the_laboratory_does(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the sessions are at most 4.2 times the function calls of a second walk."""
    # so that the count does not depend on the time that a walk takes
    monkeypatch.setattr(laboratory_tree, "FOLDER_CACHE_SECONDS", 3600.0)
    calls = {}
    for sessions in (FEW, MANY):
        state = tmp_path / str(sessions)
        (state / "state").mkdir(parents=True)
        store(state / "state", sessions, time.time())
        access = open_laboratory(servers, state, offline=True)
        try:
            operations = Operations(access.tree)
            walk(operations)
            access.tree.drop_caches()
            with counted_calls() as counted:
                walk(operations)
            calls[sessions] = counted.total()
        finally:
            access.close()
    assert calls[MANY] < 4.2 * calls[FEW]


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


@BOTH_AGES
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


def test_a_folder_that_is_listed_during_a_refresh_is_not_cached(
    laboratory: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = laboratory.tree
    resolve = tree._resolve

    def refresh_after(path: str) -> TreeEntry:
        entry = resolve(path)
        tree.drop_caches()
        return entry

    monkeypatch.setattr(tree, "_resolve", refresh_after)
    folder = posixpath.dirname(FILE)
    assert tree.entries(folder)
    assert tree._entry_cache.valid_until(folder) == 0


def test_a_file_that_is_opened_and_replaced_during_a_listing_is_shown(
    laboratory: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = laboratory.tree
    dataset, size = dataset_at(laboratory, FILE), listed_size(tree)
    version_of = ListedSessions.version_of

    def open_before(*arguments: Any) -> ListingVersion:
        monkeypatch.setattr(ListedSessions, "version_of", version_of)
        tree.open_files.pin(dataset, place_of(FILE))
        store_from_outside(laboratory, tmp_path, longer)
        return version_of(*arguments)

    monkeypatch.setattr(ListedSessions, "version_of", open_before)
    assert listed_size(tree) == size
    tree.open_files.unpin(place_of(FILE))
    assert listed_size(tree) == size + 1


def test_a_replaced_dataset_is_shown_when_the_old_one_is_closed(
    laboratory: Access, tmp_path: Path
) -> None:
    tree = laboratory.tree
    dataset, size = dataset_at(laboratory, FILE), listed_size(tree)
    tree.open_files.pin(dataset, place_of(FILE))
    store_from_outside(laboratory, tmp_path, longer)
    for _ in range(3):
        assert listed_size(tree) == size
    tree.open_files.unpin(place_of(FILE))
    assert listed_size(tree) == size + 1
    # a program that had looked it up before opens it now
    tree.open_files.note_invalidated(FILE)
    tree.open_files.pin(dataset, place_of(FILE))
    assert listed_size(tree) == size
    tree.open_files.unpin(place_of(FILE))
    assert listed_size(tree) == size + 1


def longer(row: DatasetRow) -> DatasetRow:
    return replace(row, dataset=replace(row.dataset, size=row.dataset.size + 1))  # type: ignore[operator]


def other_bytes(row: DatasetRow) -> DatasetRow:
    return replace(row, dataset=replace(row.dataset, md5="0" * 32))


def other_dataset(row: DatasetRow) -> DatasetRow:
    return replace(row, dataset=replace(row.dataset, id=alyx_rows.make_id("another")))


@pytest.mark.parametrize("change", [longer, other_bytes, other_dataset])
def test_a_replaced_dataset_is_noticed_if_it_was_listed_from_memory(
    laboratory: Access, tmp_path: Path, change: Change
) -> None:
    """The kernel has its former size and pages, although no layout of the listing is known."""
    operations = Operations(laboratory.tree)
    for _ in range(2):
        walk(operations)
    store_from_outside(laboratory, tmp_path, change)
    laboratory.tree.node(FILE)
    invalidations = laboratory.tree.open_files.invalidations
    assert [invalidations.get_nowait() for _ in range(invalidations.qsize())] == [FILE]


def test_entries_of_an_older_listing_that_another_thread_keeps_last_are_compared(
    laboratory: Access, tmp_path: Path
) -> None:
    tree, eid = laboratory.tree, session_of(3).eid
    kept, invalidations = tree._context.listed_sessions, tree.open_files.invalidations
    listed_size(tree)
    older = kept._get(eid)
    assert older is not None
    store_from_outside(laboratory, tmp_path, longer)
    folder = tree._resolve(posixpath.dirname(FILE))
    assert isinstance(folder, SessionFolder)
    folder.entries()
    assert {invalidations.get_nowait() for _ in range(invalidations.qsize())} == {FILE}
    # a thread that began before the change has listed the former entries, and ends now
    kept._sessions[eid] = older
    folder.entries()
    assert {invalidations.get_nowait() for _ in range(invalidations.qsize())} == {FILE}


def test_a_hash_that_becomes_known_invalidates_nothing(laboratory: Access, tmp_path: Path) -> None:
    """Cache tables may lack sizes and hashes that Alyx has."""
    context, session = laboratory.tree._context, session_of(3)
    folders = FOLDER_OF_FILE
    dataset = replace(dataset_at(laboratory, FILE), md5="", size=None)
    listed = listed_entry(os.path.basename(FILE), dataset_node(context, dataset, session.date))
    state = ListedState(
        ListingVersion(1.0, from_tables=True),
        session.date,
        context.content.accepted_state,
        context.sizes.state,
    )
    context.listed_sessions.put(session.eid, state, {folders: [listed]})
    store_from_outside(laboratory, tmp_path, lambda row: row)
    laboratory.tree.node(FILE)
    assert context.listed_sessions.outdated(session.eid, state.version) is not None
    assert laboratory.tree.open_files.invalidations.empty()


def test_a_session_that_a_search_found_is_shown(
    laboratory: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows may change without a new time of their listing."""
    monkeypatch.setattr(layout_cache, "MAX_CACHED_ROWS", 20_000)
    object.__setattr__(laboratory.tree._context, "layouts", layout_cache.LayoutCache())
    tree, new = laboratory.tree, session_of(MANY)
    before = [name for name, _ in tree.children(f"/{LAB}/{SUBJECT}")]
    for number in range(MANY):  # so the list of sessions is not in memory any more
        laboratory.catalogue.datasets(session_of(number))
    laboratory.catalogue._database.store_search_results([(new, True)])
    laboratory.catalogue.note_session(new)
    assert [name for name, _ in tree.children(f"/{LAB}/{SUBJECT}")] == [*before, new.date]


def test_repositories_that_another_process_has_changed_count(
    laboratory: Access, tmp_path: Path
) -> None:
    """No dataset is listed if its file server is now someone's own computer."""
    operations = Operations(laboratory.tree)
    assert walk(operations)
    other = CatalogueDatabase(tmp_path / "state" / "catalogue.sqlite")
    other.store_repositories([Repository("server", "http://127.0.0.1:9/", personal=True)], 2.0)
    other.close()
    laboratory.catalogue._listing_cache.memory.drop("repositories")
    time.sleep(2 * FOLDER_CACHE_SECONDS)
    assert walk(operations) == []


def test_a_session_with_another_date_has_files_with_this_date(
    laboratory: Access, tmp_path: Path
) -> None:
    walk(Operations(laboratory.tree))
    moved = replace(session_of(3), date="2022-05-06")
    laboratory.catalogue._database.store_search_results([(moved, True)])
    laboratory.catalogue._listing_cache.memory.drop(f"sessions/{LAB}/{SUBJECT}")
    laboratory.tree.drop_caches()
    folder = f"/{LAB}/{SUBJECT}/{moved.date}/001/alf/probe01"
    listed = laboratory.tree.entries(folder)[2:]
    assert listed
    for name, _, _, _, mtime in listed:
        assert mtime == laboratory.tree.node(f"{folder}/{name.decode()}").mtime


def test_a_folder_that_is_listed_all_the_time_is_looked_up_too(laboratory: Access) -> None:
    """If its session is gone, so is the folder, although its datasets are still listed."""
    other = replace(session_of(3), eid=session_of(MANY).eid, number=2)

    def store_sessions(*sessions: Session) -> None:
        rows = [(session, True) for session in sessions]
        laboratory.catalogue._database.store_sessions(LAB, SUBJECT, rows, time.time())
        laboratory.catalogue._listing_cache.memory.drop(f"sessions/{LAB}/{SUBJECT}")

    store_sessions(session_of(3), other)
    folder = f"/{LAB}/{SUBJECT}/{other.date}/001"
    assert laboratory.tree.entries(folder)
    store_sessions(other)

    def is_gone() -> bool:
        try:
            laboratory.tree.entries(folder)
        except NotFound:
            return True
        return False

    wait_until(is_gone, 20 * FOLDER_CACHE_SECONDS)


def test_the_entries_in_memory_need_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on bytes, and also holds for long names that no two sessions share."""
    monkeypatch.setattr(listed_sessions, "MAX_BYTES", 200_000)
    kept = listed_sessions.ListedSessions()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(200):
            names = [b"%d-%d" % (number, index) + b"x" * 200 for index in range(40)]
            kept.put(
                str(number),
                ListedState(ListingVersion(1.0), "2021-01-01", object(), object()),
                {("alf",): [(name, NodeKind.FILE, 2, 3, 4.0) for name in names]},
            )
        names = []
        assert tracemalloc.get_traced_memory()[0] - before < 220_000
    finally:
        tracemalloc.stop()
    assert 15 < len(kept._sessions) < 25


def test_few_entries_are_kept_if_few_are_allowed(
    laboratory: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries in memory have a bound; beyond it, folders are listed anew."""
    monkeypatch.setattr(listed_sessions, "MAX_BYTES", 20_000)
    kept = listed_sessions.ListedSessions()
    object.__setattr__(laboratory.tree._context, "listed_sessions", kept)
    operations = Operations(laboratory.tree)
    files = walk(operations)
    assert walk(operations) == files
    assert 0 < kept._sessions.currsize <= 20_000

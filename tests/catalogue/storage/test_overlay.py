"""The catalogue over cache tables: which source is used, and which listings stay unknown."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onefs import alf
from onefs.alyx.parsing import DatasetRow
from onefs.cache_tables.reader import (
    TABLES_FILE_NAME,
    TablesReader,
    lab_servers,
    presumed_replicas,
)
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import sync_from_files
from onefs.model import Dataset, Replica, Repository, Session
from onefs.search import offline
from onefs.search.vocabulary import parse_terms
from onefs.tree.layout import default_revision_of, subject_layout
from tests.cache_tables.table_files import (
    CREATED_AT,
    OLD,
    dataset,
    session,
    uuid,
    write,
)

BEFORE, AFTER = CREATED_AT - 1000, CREATED_AT + 1000
MOUSE = "sessions/labone/mouse"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[OverlayDatabase]:
    found = OverlayDatabase(tmp_path / "catalogue.sqlite")
    yield found
    found.close()


Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, database: OverlayDatabase) -> Put:
    """Return a function that loads cache tables with the given rows."""

    def load(sessions: list[dict[str, object]], datasets: list[dict[str, object]]) -> None:
        sync_from_files(write(tmp_path / "tables", sessions, datasets), tmp_path)
        database.tables.check_file_at_next_use()

    return load


def own_session(number: int, **changes: object) -> Session:
    values: dict[str, object] = {
        "eid": uuid(number),
        "lab": "labone",
        "subject": "mouse",
        "date": f"2020-01-{number:02d}",
        "number": 1,
        "start_time": 1577880000.0,
    }
    return Session(**{**values, **changes})  # type: ignore[arg-type]


def own_dataset(of: int, number: int, name: str = "a.b.npy", **changes: object) -> DatasetRow:
    values: dict[str, object] = {
        "id": uuid(1000 + number),
        "eid": uuid(of),
        "name": name,
        "collection": "alf",
        "dataset_type": "a.b",
        "size": 100 + number,
        "md5": f"{number:032x}",
        "mtime": 1600000000.0,
    }
    return DatasetRow(
        Dataset(**{**values, **changes}),  # type: ignore[arg-type]
        (("flatiron", f"http://host/{name}"),),
    )


def test_without_tables_it_is_a_plain_catalogue(database: OverlayDatabase) -> None:
    assert database.is_empty()
    assert database.fetched_at(MOUSE) is None
    assert database.labs() == []
    assert not database.is_from_tables(MOUSE)
    assert database.tables_version() is None


def test_listings_of_the_tables_are_as_old_as_the_tables(
    database: OverlayDatabase, put: Put
) -> None:
    put([session(1)], [dataset(1, 1)])
    for key in (
        MOUSE,
        f"session/{uuid(1)}",
        "ref/2020-01-01_1_mouse",
        f"datasets/{uuid(1)}",
        "news/labone",
    ):
        assert database.fetched_at(key) == CREATED_AT, key
        assert database.is_from_tables(key)
    assert not database.is_empty()


def test_listings_that_the_tables_have_in_part_are_served_and_always_stale(
    database: OverlayDatabase, put: Put
) -> None:
    """The tables lack URLs, and the labs and subjects without a numbered session."""
    put([session(1)], [dataset(1, 1)])
    assert database.labs() == ["labone"]
    assert database.subjects("labone") == ["mouse"]
    for key in ("labs", "subjects/labone", "repositories"):
        assert database.fetched_at(key) == 1.0, key
    database.store_labs(["labone", "labtwo"], BEFORE)
    database.store_subjects("labone", ["rat"], BEFORE)
    assert database.fetched_at("labs") == BEFORE
    assert database.labs() == ["labone", "labtwo"]
    assert database.subjects("labone") == ["mouse", "rat"]


def test_listings_that_the_tables_lack_are_unknown(database: OverlayDatabase, put: Put) -> None:
    put([session(1), session(2)], [dataset(1, 1)])
    for key in (
        "sessions/labone/rat",
        "sessions/labtwo/mouse",
        "subjects/labtwo",
        f"session/{uuid(9)}",
        "ref/2020-01-01_2_mouse",
        f"datasets/{uuid(9)}",
        f"datasets/{uuid(2)}",  # datasets on other servers than flatiron and aws are left out
        f"record/{uuid(1)}",
        "news/labtwo",
    ):
        assert database.fetched_at(key) is None, key


def test_the_newer_listing_counts(database: OverlayDatabase, put: Put) -> None:
    put([session(1, task_protocol="tables")], [dataset(1, 1), dataset(1, 2, "alf/c.d.npy")])
    database.store_sessions("labone", "mouse", [(own_session(2), True)], AFTER)
    database.store_datasets(uuid(1), [own_dataset(1, 1)], AFTER)
    assert database.fetched_at(MOUSE) == AFTER
    assert [found.eid for found in database.sessions("labone", "mouse")] == [uuid(2)]
    assert [row.dataset.name for row in database.datasets(uuid(1))] == ["a.b.npy"]
    assert not database.is_from_tables(MOUSE)


def test_newer_tables_keep_rows_that_they_lack(database: OverlayDatabase, put: Put) -> None:
    """The tables lack sessions that are newer than the tables, and datasets on other servers."""
    database.store_sessions("labone", "mouse", [(own_session(2), True)], BEFORE)
    database.store_datasets(uuid(1), [own_dataset(1, 5, "other.server.npy")], BEFORE)
    put([session(1)], [dataset(1, 1)])
    assert [found.eid for found in database.sessions("labone", "mouse")] == [uuid(1), uuid(2)]
    assert [row.dataset.name for row in database.datasets(uuid(1))] == [
        "a.b.npy",
        "other.server.npy",
    ]


def test_a_session_that_was_renamed_is_listed_in_one_place(
    database: OverlayDatabase, put: Put
) -> None:
    database.store_sessions("labone", "mouse", [(own_session(1), True)], BEFORE)
    put([session(1, subject="renamed"), session(2)], [])
    assert [found.eid for found in database.sessions("labone", "mouse")] == [uuid(2)]
    assert [found.eid for found in database.sessions("labone", "renamed")] == [uuid(1)]
    known = database.session(uuid(1))
    assert known is not None
    assert known.subject == "renamed"


def test_tables_with_the_same_content_do_not_replace_fuller_rows(
    database: OverlayDatabase, put: Put
) -> None:
    database.store_datasets(
        uuid(1),
        [own_dataset(1, 1), own_dataset(1, 2, "c.d.npy"), own_dataset(1, 3, "e.npy")],
        BEFORE,
    )
    put(
        [session(1)],
        [
            dataset(1, 1, file_size=None, hash=None),
            dataset(1, 2, "alf/c.d.npy", hash="f" * 32),
            dataset(1, 4, "alf/e.npy"),
        ],
    )
    same, changed, replaced = (row.dataset for row in database.datasets(uuid(1)))
    assert (same.from_tables, same.size, same.dataset_type) == (False, 101, "a.b")
    assert (changed.from_tables, changed.md5, changed.dataset_type) == (True, "f" * 32, "")
    assert (replaced.from_tables, replaced.id) == (True, uuid(1004))


def test_newer_tables_change_the_default_revision_and_the_qc(
    database: OverlayDatabase, put: Put
) -> None:
    """The tables have the revisions of Alyx's listing, but another revision is the default."""
    database.store_datasets(
        uuid(1),
        [
            own_dataset(1, 1, revision="2020-01-01", default=True, qc="PASS"),
            own_dataset(1, 2, revision="2021-01-01", default=False),
        ],
        BEFORE,
    )
    told = [
        dataset(1, 1, "alf/#2020-01-01#/a.b.npy", default_revision=False, qc="CRITICAL"),
        dataset(1, 2, "alf/#2021-01-01#/a.b.npy"),
    ]
    put([session(1)], told)
    old, new = (row.dataset for row in database.datasets(uuid(1)))
    assert (old.default, old.qc, new.default, new.qc) == (False, "CRITICAL", True, "NOT_SET")
    # the replicas and dataset types from Alyx stay
    assert [(each.from_tables, each.dataset_type) for each in (old, new)] == [(False, "a.b")] * 2
    assert all(row.claimed_replicas for row in database.datasets(uuid(1)))
    assert default_revision_of([old, new]) == new


@pytest.mark.parametrize("lacking", ["default_revision", "qc"])
@pytest.mark.parametrize("nulls", [False, True])
def test_newer_tables_without_default_or_qc_change_neither(
    database: OverlayDatabase, put: Put, lacking: str, nulls: bool
) -> None:
    """Older tables lack the column. If it were used, both revisions would be the default."""
    revisions = ("2020-01-01", "2021-01-01")
    own = [
        own_dataset(1, number, revision=revision, default=number == 2, qc="FAIL")
        for number, revision in enumerate(revisions, 1)
    ]
    database.store_datasets(uuid(1), own, BEFORE)
    told = [
        dataset(1, number, f"alf/#{revision}#/a.b.npy", default_revision=number == 1, qc="PASS")
        for number, revision in enumerate(revisions, 1)
    ]
    for row in told[:1] if nulls else told:
        row.update({lacking: None}) if nulls else row.pop(lacking)
    put([session(1)], told)
    found = [row.dataset for row in database.datasets(uuid(1))]
    said = {
        "default_revision": ([False, True], ["PASS", "PASS"]),
        "qc": ([True, False], ["FAIL", "FAIL"]),
    }
    assert ([each.default for each in found], [each.qc for each in found]) == said[lacking]


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_two_sessions_on_one_number_keep_their_names(
    database: OverlayDatabase, put: Put, when: float
) -> None:
    """The names do not depend on the source of the sessions, though the tables lack start times."""
    day = {"date": "2020-01-01"}
    late, early = own_session(1, **day, start_time=1577890000.0), own_session(2, **day)

    def named() -> dict[str, str]:
        shape = subject_layout(database.sessions("labone", "mouse"))
        return {name: found.eid for name, found in shape["2020-01-01"].items()}

    database.store_sessions("labone", "mouse", [(early, True), (late, True)], when)
    before = named()
    assert before == {"001": uuid(1), f"001~{uuid(2)[:8]}": uuid(2)}
    put([session(1), session(2, date=datetime.date(2020, 1, 1), task_protocol="x")], [])
    assert named() == before


def test_a_dataset_of_the_tables_is_marked_and_dated_by_its_session(
    database: OverlayDatabase, put: Put
) -> None:
    put([session(1)], [dataset(1, 1, "alf/#r#/a.b.npy", file_size=None, qc="PASS")])
    [row] = database.datasets(uuid(1))
    assert row.dataset == Dataset(
        id=uuid(1001),
        eid=uuid(1),
        name="a.b.npy",
        collection="alf",
        revision="r",
        size=None,
        md5=f"{1:032x}",
        qc="PASS",
        from_tables=True,
    )
    assert row.server_path == "labone/Subjects/mouse/2020-01-01/001/alf/#r#/a.b.npy"


def test_a_size_that_was_reported_once_is_kept_for_good(
    database: OverlayDatabase, put: Put
) -> None:
    put([session(1)], [dataset(1, 1, file_size=None)])
    [row] = database.datasets(uuid(1))
    database.store_probed_size_by_md5(row.dataset, 77)
    [row] = database.datasets(uuid(1))
    assert row.dataset.size == 77
    database.store_datasets(uuid(1), [own_dataset(1, 1, size=None)], AFTER)
    [row] = database.datasets(uuid(1))
    assert (row.dataset.size, row.dataset.from_tables) == (77, False)
    database.store_datasets(uuid(1), [own_dataset(1, 1, size=None, md5="f" * 32)], AFTER)
    [row] = database.datasets(uuid(1))
    assert row.dataset.size is None  # the content is different


def test_refs_are_found_in_both(database: OverlayDatabase, put: Put) -> None:
    put([session(1), session(1, id=uuid(7), lab="labtwo")], [])
    found = database.sessions_by_ref(alf.Ref("2020-01-01", 1, "mouse"))
    assert [(each.lab, each.eid) for each in found] == [("labone", uuid(1)), ("labtwo", uuid(7))]


def test_searches_find_sessions_of_the_tables(database: OverlayDatabase, put: Put) -> None:
    put([session(1), session(2, lab="labtwo"), session(3, subject="rat")], [])
    found = database.find_sessions("subject = ?", ["mouse"])
    assert found == [("2020-01-02", 1, uuid(2)), ("2020-01-01", 1, uuid(1))]
    assert [each.eid for each in database.sessions_by_eid([uuid(3), uuid(1)])] == [uuid(3), uuid(1)]
    assert database.distinct_values("sessions", "subject") == ["mouse", "rat"]


def test_a_dataset_type_is_that_of_alyx_else_that_of_the_file_name(
    database: OverlayDatabase,
) -> None:
    rows = [
        own_dataset(1, number, "_ibl_leftCamera.times.npy", dataset_type=kind)
        for number, kind in enumerate(["camera.times", "unknown", "camera.times"])
    ]
    database.store_datasets(uuid(1), rows, AFTER)
    assert database.guess_types(
        ["_ibl_leftCamera.times.npy", "_ibl_trials.choice.npy", "notes.md"]
    ) == {
        "_ibl_leftCamera.times.npy": "camera.times",
        "_ibl_trials.choice.npy": "_ibl_trials.choice",
        "notes.md": "unknown",
    }
    assert database.guess_types([]) == {}


def test_searches_find_datasets_of_the_tables(database: OverlayDatabase, put: Put) -> None:
    """Names match as in Alyx. Types are guessed from ALF names, unless Alyx lists another type."""
    put(
        [session(number) for number in range(1, 6)],
        [
            dataset(1, 1, "alf/probe00/spikes.times.npy"),
            dataset(1, 2, "alf/#2020-01-01#/licks.times.npy"),
            dataset(2, 3, "alf/_ibl_spikes.times.npy"),
            dataset(3, 4, "spikes.times.npy.bak"),
            dataset(3, 5, "alf/myspikes.times.npy"),
            dataset(4, 6, "alf/spikes.times.npy"),
            dataset(5, 7, "alf/_ibl_leftCamera.times.npy"),
        ],
    )

    def found(**terms: object) -> list[int]:
        return sorted(
            int(eid[-4:], 16) for eid in offline.search_catalogue(database, parse_terms(terms))
        )

    assert found(dataset_names="spikes.times.npy") == [1, 4]
    assert found(dataset_names="SPIKES.times.npy") == []
    assert found(dataset_names=["spikes.times.npy", "licks.times.npy"]) == [1]
    assert found(dataset_names=["spikes.times.npy", "none.npy"]) == []
    assert found(dataset_types="spikes.times") == [1, 2, 3, 4]
    assert found(dataset_types="spikes.times", date="2020-01-04") == [4]
    assert found(dataset_types="_ibl_spikes.times") == [2]
    assert found(dataset_types="camera.times") == []
    # Alyx lists two sessions: its types of file names are used for the other sessions too
    camera = own_dataset(2, 8, "_ibl_leftCamera.times.npy", dataset_type="camera.times")
    database.store_search_results([(Session(uuid(2), "labone", "mouse", "2020-01-02", 1), True)])
    database.store_datasets(uuid(2), [camera], AFTER)
    database.store_datasets(uuid(4), [], AFTER)
    assert found(dataset_types="camera.times") == [2, 5]
    assert found(dataset_types="leftCamera.times") == []
    assert found(dataset_types="spikes.times") == [1, 3]
    assert found(dataset_names="spikes.times.npy") == [1]


def test_a_walk_over_sessions_without_datasets_asks_for_many_at_once(
    database: OverlayDatabase, put: Put
) -> None:
    """The sessions that follow are included, except those listed by the tables or since."""
    sessions = [session(number) for number in range(1, 9)]
    put([*sessions, session(9, subject="rat")], [dataset(2, 1), dataset(5, 2)])
    database.store_datasets(uuid(4), [], AFTER)
    known = database.session(uuid(1))
    assert known is not None
    assert database.unlisted_neighbours(known, 4, 0.0, False) == [uuid(n) for n in (1, 3, 6, 7)]
    assert database.unlisted_neighbours(known, 9, 0.0, True) == [
        uuid(n) for n in (1, 3, 6, 7, 8, 9)
    ]


def test_damaged_tables_are_moved_aside_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / TABLES_FILE_NAME).write_bytes(b"no database" * 500)
    tables = TablesReader(tmp_path / TABLES_FILE_NAME)
    assert tables.labs() == []
    assert tables.created_at is None
    tables.close()
    assert (tmp_path / f"{TABLES_FILE_NAME}.unusable").exists()
    [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "moved aside" in record.message


def test_names_with_a_slash_are_found(database: OverlayDatabase, put: Put) -> None:
    put([session(1, lab="a/b", subject="c/d")], [])
    assert database.fetched_at("sessions/a/b/c/d") == CREATED_AT
    assert [found.eid for found in database.sessions("a/b", "c/d")] == [uuid(1)]


def test_hostile_paths_stay_inside_their_session(database: OverlayDatabase, put: Put) -> None:
    paths = ["../../etc/passwd", "/etc/passwd", "..", "alf/../../x", "a//b", "#r#/x", "x/", "##/y"]
    put([session(1)], [dataset(1, number, path) for number, path in enumerate(paths)])
    rows = database.datasets(uuid(1))
    assert len(rows) == len(paths)
    for row in rows:
        for part in (*alf.dataset_folder(row.dataset), alf.dataset_file(row.dataset)):
            assert part not in ("", ".", "..")
            assert "/" not in part


KNOWN = {
    name: Repository(name, url, personal)
    for name, url, personal in (
        ("flatiron_labone", "http://host/public/labone/Subjects/", False),
        ("aws_labone", "https://s3/data/labone/Subjects", False),
        ("flatiron_labtwo", "http://host/labtwo/Subjects/", False),
        ("rig", "http://rig/labone/Subjects/", True),
        ("labone_tape", "", False),
        ("odd", "ftp://host/labone/Subjects/", False),
    )
}


@pytest.mark.parametrize(
    ("stored", "urls"),
    [
        (
            "labone/Subjects/mouse/2020-01-01/1/alf/#r#/a.b.npy",
            [
                "http://host/public/labone/Subjects/mouse/2020-01-01/1/alf/%23r%23/a.b.ID.npy",
                "https://s3/data/labone/Subjects/mouse/2020-01-01/1/alf/%23r%23/a.b.ID.npy",
            ],
        ),
        ("labtwo/Subjects/m/d/001/x", ["http://host/labtwo/Subjects/m/d/001/x.ID"]),
        ("two/Subjects/m/d/001/x.y", []),
        ("", []),
    ],
)
def test_where_a_dataset_should_be(stored: str, urls: list[str]) -> None:
    """The lab's folder is the end of a repository's URL. The UUID precedes the extension."""
    found = presumed_replicas(stored, "ID", lambda lab: lab_servers(lab, KNOWN))
    assert [copy.url for copy in found] == urls
    assert all(isinstance(copy, Replica) for copy in found)


def test_a_new_file_is_opened_while_the_old_one_is_open(tmp_path: Path) -> None:
    sync_from_files(OLD, tmp_path)
    tables = TablesReader(tmp_path / TABLES_FILE_NAME)
    first = tables.version
    assert tables.has_lab("mainenlab")
    sync_from_files(write(tmp_path / "t", [session(1)], [], origin="ibl_test"), tmp_path)
    assert tables.has_lab("mainenlab")  # the old file is used for a moment
    tables.check_file_at_next_use()
    assert tables.labs() == ["labone"]
    assert tables.version != first
    tables.close()

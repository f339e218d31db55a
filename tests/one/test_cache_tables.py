"""Tests of ``ONE`` with cache tables, which have neither dataset types nor URLs.

Each docstring names what the test follows (see ``test_search``).
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from onefs.catalogue.sync import fetch_labs_and_subjects, sync_from_files, sync_from_server
from onefs.config.settings import resolve_settings
from onefs.demo.rest.errors import ApiError
from onefs.demo.rest.query_values import unknown_choice
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import Unreachable
from onefs.one import ONE, OnefsWarning
from tests.cache_tables.table_files import (
    dataset,
    session,
    uuid,
    write,
)
from tests.laboratories import FailingDatasets, alyx_requests
from tests.one.conftest import EID, FLOWERS, Open, arguments
from tests.one.opened import access_of
from tests.one.test_list import TYPES

AWAY = "http://127.0.0.1:1"
REF = "2020-01-01_1_mouse"


@pytest.fixture
def synced(opened: Open, servers: Servers) -> ONE:
    """Return a database that is known only from its cache tables."""
    one = opened()
    alyx = access_of(one).alyx.low_priority(deadline=60.0)
    assert sync_from_server(alyx, resolve_settings({"url": servers.alyx_url}).state_dir) is not None
    assert fetch_labs_and_subjects(alyx, access_of(one).database) is None
    one.close()
    return opened()


def listings(servers: Servers) -> list[str]:
    """Return the requests for the datasets of sessions."""
    asked = [each.path for each in alyx_requests(servers)]
    return [path for path in asked if path.startswith("/datasets")]


def test_a_session_is_asked_for_once(synced: ONE, servers: Servers) -> None:
    """Tutorial: lists the types of a session. Ours: after a sync this needs one request."""
    assert synced.list(EID) == TYPES
    assert synced.list(EID) == TYPES
    info = synced.list(EID, details=True)
    assert sorted(info.dataset_type) == TYPES
    assert all(url.startswith(servers.data_url) for url in info.url)
    assert len(listings(servers)) == 1


def test_loading_by_type_uses_alyx_types(synced: ONE, servers: Servers) -> None:
    """Tutorial."""
    (depths,) = synced.load(EID, ["clusters.depths"])
    assert len(depths) == 60
    with pytest.warns(OnefsWarning, match="did you mean 'clusters.depths'"):
        assert synced.load(EID, ["clusters.depth"]) == [[]]
    assert len(listings(servers)) == 1


def test_describing_asks_alyx_for_types_and_urls(synced: ONE, servers: Servers) -> None:
    """Ours."""
    found = synced.describe("mainenlab/clns0730/2018-08-24/001/clusters.depths.npy")
    assert found["dataset_type"] == "clusters.depths"
    assert found["url"].startswith(servers.data_url)
    assert len(listings(servers)) == 1


def test_datasets_that_tables_leave_out_are_listed(
    opened: Open, servers: Servers, tmp_path: Path
) -> None:
    """Ours: the tables have only the datasets in some repositories."""
    rows = [session(1, id=EID, lab="mainenlab", subject="clns0730")]
    folder = write(tmp_path / "tables", rows, [dataset(1, 1, "alf/only.one.npy", eid=EID)])
    sync_from_files(folder, resolve_settings({"url": servers.alyx_url}).state_dir)
    assert opened().list(EID) == TYPES


def test_while_alyx_is_away_types_come_from_file_names(
    synced: ONE, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours: the log says so once. Files are read from their paths in ONE's layout."""
    servers.alyx.stop()
    try:
        with caplog.at_level(logging.WARNING):
            assert synced.list(EID) == TYPES
            (depths,) = synced.load(EID, "clusters.depths")
            assert len(synced.list(FLOWERS)) > 1
        assert len(depths) == 60
    finally:
        servers.stop()
        servers.start()
    assert caplog.text.count("no dataset types: the types were guessed from file names") == 1


@pytest.fixture(scope="module")
def laboratory() -> SyntheticLaboratory:
    """Build the files and cache tables of a laboratory once for all tests."""
    return SyntheticLaboratory()


@pytest.mark.parametrize(
    "trouble",
    [
        ApiError(403, {"detail": "Invalid token."}),
        ApiError(500, {"detail": "division by zero"}),
        unknown_choice("session"),
        None,
    ],
    ids=["a revoked token", "a failing server", "a deleted session", "a full state folder"],
)
def test_cached_files_load_whatever_alyx_answers(
    laboratory: SyntheticLaboratory, trouble: ApiError | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours: the listing of the tables is used, and the log says why.

    If Alyx's answer cannot be stored, it is used all the same.
    """
    source = FailingDatasets(laboratory)
    with Servers(source) as servers:
        state = resolve_settings({"url": servers.alyx_url}).state_dir
        with ONE(**arguments(servers)) as one:
            (depths,) = one.load(EID, "clusters.depths")
            alyx = access_of(one).alyx.low_priority(deadline=60.0)
            assert sync_from_server(alyx, state) is not None
        for path in state.glob("catalogue.sqlite*"):  # what only the tables know now
            path.unlink()
        with ONE(**arguments(servers)) as one:
            assert fetch_labs_and_subjects(access_of(one).alyx, access_of(one).database) is None
            source.error = trouble
            if trouble is None:
                connection = access_of(one).database._file._connection
                assert connection is not None
                pages = connection.execute("PRAGMA page_count")
                connection.execute(f"PRAGMA max_page_count = {pages.fetchone()[0]}")
            for _ in range(2):
                assert (one.load(EID, "clusters.depths")[0] == depths).all()
                assert one.list(EID) == TYPES
            found = one.describe("mainenlab/clns0730/2018-08-24/001/clusters.depths.npy")
            assert found["state"] == "cached"
    told = [
        line
        for line in caplog.messages
        if line.startswith("a session's datasets cannot be requested from Alyx")
    ]
    assert len(told) == (isinstance(trouble, ApiError) and trouble.status != 400)
    assert ("kept in memory only" in caplog.text) == (trouble is None)


@pytest.mark.long
def test_offline_listing_needs_no_repository(tmp_path: Path) -> None:
    """Ours: offline, the URL of a file may be unknown. Listing does not fail."""
    folder = write(tmp_path / "tables", [session(1)], [dataset(1, 1, "alf/spikes.times.npy")])
    sync_from_files(folder, resolve_settings({"url": AWAY}).state_dir)
    with ONE(base_url=AWAY, offline=True) as one:
        info = one.list(REF, details=True)
        assert (info.dataset_type, info.url) == (["spikes.times"], [""])
        assert str(info).split()[0] == "spikes.times"
        found = one.describe("labone/mouse/2020-01-01/001/alf/spikes.times.npy")
        assert (found["url"], found["state"]) == ("", "remote")
        for types in (None, "spikes.times"):
            with pytest.raises(Unreachable, match=r"spikes\.times\.npy is not cached"):
                one.load(uuid(1), types)
    with ONE(base_url=AWAY, token="t" * 40) as one:
        for types in (None, "spikes.times"):
            with pytest.raises(Unreachable, match="Alyx has not sent its URL"):
                one.load(uuid(1), types)
        with pytest.raises(Unreachable, match="Alyx has not sent its URL"):
            one.describe("labone/mouse/2020-01-01/001/alf/spikes.times.npy")


@pytest.mark.parametrize(
    ("keyword", "some"),
    [
        ("labs", {"mainenlab", "zadorlab"}),
        ("subjects", {"clns0730", "flowers"}),
        ("dataset-types", {"spikes.times", "clusters.depths"}),
    ],
)
def test_offline_names_come_from_the_catalogue(
    synced: ONE, opened: Open, keyword: str, some: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Ours: the tables of names were never requested. The names are found in the catalogue."""
    with caplog.at_level(logging.WARNING):
        away = opened(offline=True)
        names, rows = away.list(None, keyword, details=True)
    assert some <= set(names)
    assert "" not in names
    assert len(rows) >= len(names)
    assert "may be incomplete" in caplog.text
    assert names == opened().list(None, keyword) or keyword == "dataset-types"
    with pytest.raises(Unreachable):
        away.list(None, "users")  # no listing has any

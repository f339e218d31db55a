"""Tests of the tree with cache tables: its requests, fields that Alyx adds, the tree offline."""

from __future__ import annotations

import datetime
import errno
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.alyx.auth import fetch_token
from onefs.alyx.client import AlyxClient
from onefs.alyx.rate_limit import RateLimiter, RateLimits
from onefs.alyx.tokens import FixedToken
from onefs.catalogue import new_sessions as rules
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.sync import fetch_labs_and_subjects, sync_from_files, sync_from_server
from onefs.demo.rest.errors import ApiError
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import NotFound, ServerError, Unreachable
from onefs.http import Transport
from onefs.model import Dataset, Session
from onefs.tree.nodes import NodeKind
from tests import laboratories
from tests.cache_tables.table_files import (
    OLD,
    dataset,
    session,
    write,
)
from tests.laboratories import FailingDatasets, alyx_requests
from tests.running import wait_until, within

TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"
#: when tables were made that are not stale: never later than their sync
TODAY = "2999-01-01 00:00"
#: where the embedded laboratory has it, and where the tables of 2021 do
HERE = "mainenlab/clns0730/2018-08-24/001"
THERE = "mainenlab/clns0730/2018-08-24/002"


@pytest.fixture(scope="module")
def laboratory() -> SyntheticLaboratory:
    """Build the files and cache tables of a laboratory once for all tests."""
    return SyntheticLaboratory()


@pytest.fixture
def servers(laboratory: SyntheticLaboratory) -> Iterator[Servers]:
    with Servers(laboratory) as found:
        yield found


Open = Callable[[], Access]


@pytest.fixture
def opened(servers: Servers, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens a laboratory in the same state folder. Closes all at the end."""
    made: list[Access] = []

    def make() -> Access:
        made.append(laboratories.open_laboratory(servers, tmp_path))
        servers.clear_requests()
        return made[-1]

    yield make
    for access in made:
        access.close()


@pytest.fixture
def synced(opened: Open, tmp_path: Path, servers: Servers) -> Access:
    """Return a laboratory that was just synced from its server."""
    access = opened()
    alyx = access.alyx.low_priority(deadline=60.0)
    assert sync_from_server(alyx, tmp_path / "state") is not None
    assert fetch_labs_and_subjects(alyx, access.database) is None
    servers.clear_requests()
    access.database.tables.check_file_at_next_use()
    return access


def files(access: Access, path: str = "") -> dict[str, int | None]:
    """Return every file below a folder, with its size in the listing."""
    found: dict[str, int | None] = {}
    for name, node in access.tree.children(path or "/"):
        below = f"{path}/{name}"
        if node.kind is NodeKind.DIRECTORY:
            found.update(files(access, below))
        else:
            found[below.lstrip("/")] = node.size
    return found


def read(access: Access, path: str) -> bytes:
    _, handle = access.tree.open(path)
    try:
        with open(handle.wait_fd(0, handle.size), "rb", closefd=False) as file:
            return file.read()
    finally:
        handle.close()


def asked(servers: Servers) -> list[str]:
    return [each.path.partition("?")[0] for each in servers.requests]


def test_after_a_sync_a_walk_makes_no_request(synced: Access, servers: Servers) -> None:
    found = files(synced)
    assert len(found) > 1000
    assert f"{HERE}/spikes.times.npy" in found
    assert servers.requests == []


def test_the_tree_is_the_same_as_from_alyx(synced: Access, opened: Open, tmp_path: Path) -> None:
    told = files(synced)
    (tmp_path / "state" / "tables.sqlite").unlink()
    (tmp_path / "state" / "catalogue.sqlite").rename(tmp_path / "elsewhere")
    assert files(opened()) == told


def test_the_first_opening_requests_the_whole_session_once(
    synced: Access, servers: Servers
) -> None:
    """The tables name no repository, so the session's listing is requested from Alyx."""
    paths = [path for path in files(synced, HERE) if path.endswith(".npy")]
    for path in paths[:3]:
        assert len(read(synced, path)) == synced.tree.node(path).size
    assert asked(servers)[0] == "/datasets"
    assert [path for path in asked(servers) if not path.startswith("/public")][1:] == []
    assert synced.tree.xattrs(paths[5])["user.onefs.dataset_type"] != ""


def test_fields_that_tables_lack_are_fetched_on_demand(synced: Access, servers: Servers) -> None:
    path = next(iter(files(synced, HERE)))
    assert servers.requests == []
    shown = synced.tree.xattrs(path)
    assert shown["user.onefs.dataset_type"]
    assert shown["user.onefs.url"].startswith(servers.data_url)
    assert asked(servers) == ["/datasets"]


def _sync_one_dataset(folder: Path, path: str) -> None:
    """Load cache tables in which the tutorial's session has one dataset."""
    sync_from_files(
        write(
            folder / "t",
            [session(1, id=TUTORIAL, lab="mainenlab", subject="clns0730", date=_day())],
            [dataset(1, 1, path, eid=TUTORIAL)],
            created=TODAY,
        ),
        folder / "state",
    )


def test_datasets_that_the_tables_lack_are_looked_up(
    opened: Open, tmp_path: Path, servers: Servers
) -> None:
    """If the tables lack a name, the session is requested once. ENOENT means that Alyx lacks it."""
    _sync_one_dataset(tmp_path, "alf/only.one.npy")
    access = opened()
    assert list(files(access, HERE)) == [f"{HERE}/alf/only.one.npy"]
    assert "/datasets" not in asked(servers)
    assert access.tree.node(f"{HERE}/spikes.times.npy").size is not None
    for _ in range(3):
        with pytest.raises(NotFound):
            access.tree.node(f"{HERE}/nothing.npy")
    assert asked(servers).count("/datasets") == 1
    assert len(files(access, HERE)) == 29


def test_a_dataset_that_was_deleted_from_alyx_is_not_found(
    opened: Open, tmp_path: Path, servers: Servers
) -> None:
    _sync_one_dataset(tmp_path, "gone.one.npy")
    with pytest.raises(NotFound, match=r"has no gone\.one\.npy"):
        opened().tree.open(f"{HERE}/gone.one.npy")


def test_a_dataset_that_was_replaced_is_an_error_and_then_the_new_one(
    synced: Access, opened: Open, tmp_path: Path
) -> None:
    path = f"{HERE}/spikes.times.npy"
    real = _dataset(synced, path)
    sync_from_files(
        write(
            tmp_path / "t",
            [session(1, id=TUTORIAL, lab="mainenlab", subject="clns0730", date=_day())],
            [dataset(1, 1, "spikes.times.npy", eid=TUTORIAL, id=real.id, file_size=7)],
            created=TODAY,
        ),
        tmp_path / "state",
    )
    access = opened()
    assert access.tree.node(path).size == 7
    with pytest.raises(OSError, match="Stale") as raised:
        access.tree.open(path)
    assert (
        raised.value.errno == errno.ESTALE
    )  # the kernel looks it up again, and repeats the opening
    assert access.tree.node(path).size == real.size
    assert len(read(access, path)) == real.size


def test_without_alyx_a_file_is_read_from_where_it_should_be(
    synced: Access, servers: Servers
) -> None:
    """ONE's layout gives the file's URL. If the file server does not respond, it is unreachable."""
    servers.alyx.stop()
    path = f"{HERE}/spikes.times.npy"
    assert len(read(synced, path)) == synced.tree.node(path).size
    servers.data.stop()
    assert len(read(synced, path)) == synced.tree.node(path).size  # it is cached by now
    with pytest.raises(Unreachable):
        read(synced, f"{HERE}/spikes.depths.npy")


def test_a_cached_file_needs_no_server_even_if_the_tables_lack_fields(
    opened: Open, tmp_path: Path, servers: Servers
) -> None:
    access = opened()
    path = f"{HERE}/spikes.times.npy"
    content = read(access, path)
    real = _dataset(access, path)
    row = dataset(1, 1, "spikes.times.npy", eid=TUTORIAL, id=real.id, file_size=None, hash=None)
    sync_from_files(
        write(
            tmp_path / "t",
            [session(1, id=TUTORIAL, lab="mainenlab", subject="clns0730", date=_day())],
            [row],
            created=TODAY,
        ),
        tmp_path / "state",
    )
    servers.stop()
    access.database.tables.check_file_at_next_use()
    assert read(access, path) == content


def test_sessions_that_are_newer_than_the_tables_are_found(
    synced: Access, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing a subject starts one request, in the background, for new sessions in the lab."""
    monkeypatch.setattr(rules, "TABLES_OVERLAP_DAYS", 36500)
    known = synced.database.tables.created_at
    assert known is not None
    synced.database.tables._facts = {**synced.database.tables._facts, "created": repr(known - 400)}
    for _ in range(2):
        for subject in synced.catalogue.subjects("mainenlab").value:
            synced.catalogue.sessions("mainenlab", subject)
        wait_until(lambda: (synced.database.fetched_at("news/mainenlab") or 0) > known - 400)
    news = [each.path for each in servers.requests if each.path.startswith("/sessions?")]
    assert len(news) == 1
    assert "lab=mainenlab&django=auto_datetime__gte," in news[0]
    assert synced.database.fetched_at("news/mainenlab") is not None


def sessions_of(access: Access) -> list[Session]:
    """Return all sessions that have at least one dataset."""
    labs = access.catalogue.labs().value
    subjects = [(lab, name) for lab in labs for name in access.catalogue.subjects(lab).value]
    found = [each for where in subjects for each in access.catalogue.sessions(*where).value]
    return [each for each in found if access.database.tables.has_datasets(each.eid)]


def from_tables(access: Access, sessions: list[Session]) -> set[str]:
    """Return the eids of sessions that are known from tables only."""
    keys = {each.eid: f"datasets/{each.eid}" for each in sessions}
    return {eid for eid, key in keys.items() if access.database.is_from_tables(key)}


def test_many_sessions_are_requested_by_the_page(synced: Access, servers: Servers) -> None:
    sessions = sessions_of(synced)
    assert from_tables(synced, sessions) == {each.eid for each in sessions}
    assert synced.catalogue.fetch_full_listings(sessions) == {}
    assert from_tables(synced, sessions) == set()
    assert set(asked(servers)) == {"/datasets"}
    assert len(servers.requests) <= 10 < len(sessions)
    servers.clear_requests()
    assert synced.catalogue.fetch_full_listings(sessions) == {}
    assert servers.requests == []
    for each in sessions:
        assert all(found.dataset_type for found in synced.catalogue.datasets(each).value)


def test_a_session_that_alyx_cannot_list_does_not_fail_the_others(
    laboratory: SyntheticLaboratory, tmp_path: Path
) -> None:
    source = FailingDatasets(laboratory)
    with (
        Servers(source) as servers,
        closing(laboratories.open_laboratory(servers, tmp_path)) as access,
    ):
        assert (
            sync_from_server(access.alyx.low_priority(deadline=60.0), tmp_path / "state")
            is not None
        )
        assert fetch_labs_and_subjects(access.alyx, access.database) is None
        access.database.tables.check_file_at_next_use()
        sessions = sessions_of(access)
        source.error, source.only_eid = ApiError(500, {"detail": "no"}), TUTORIAL
        servers.clear_requests()
        unasked = access.catalogue.fetch_full_listings(sessions)
        assert list(unasked) == [TUTORIAL]
        assert isinstance(unasked[TUTORIAL], ServerError)
        assert from_tables(access, sessions) == {TUTORIAL}
        assert len(servers.requests) < 25


def test_a_session_deleted_in_alyx_does_not_fail_the_others(
    synced: Access, opened: Open, tmp_path: Path, servers: Servers
) -> None:
    """The error says that Alyx was asked for the file, and that Alyx does not have it."""
    known = sessions_of(synced)[:5]
    at = [session(1, id=each.eid, lab="l", subject="s", number=n) for n, each in enumerate(known)]
    rows = [dataset(1, n, eid=each.eid) for n, each in enumerate(known)]
    told = write(tmp_path / "t", [session(9, lab="l"), *at], [dataset(9, 9), *rows], TODAY)
    sync_from_files(told, tmp_path / "state")
    access = opened()
    sessions = access.catalogue.sessions("l", "s").value
    gone = access.catalogue.sessions("l", "mouse").value
    assert (len(sessions), len(gone)) == (5, 1)
    assert access.catalogue.fetch_full_listings([*gone, *sessions]) == {}
    assert from_tables(access, [*gone, *sessions]) == {gone[0].eid}
    assert asked(servers).count("/datasets") <= 3


def test_the_reserve_of_the_rate_limit_is_kept_for_other_requests(
    synced: Access, servers: Servers, tmp_path: Path
) -> None:
    sessions = sessions_of(synced)
    limits = RateLimits(burst=12, rate=5, reserve=10)
    login = servers.login
    with Transport() as transport, closing(RateLimiter(tmp_path / "budget", limits)) as budget:
        token = fetch_token(transport, servers.alyx_url, login.username, login.password)
        alyx = AlyxClient(transport, servers.alyx_url, FixedToken(token), 60.0, budget)
        with closing(Catalogue(synced.database, alyx, deadline=60.0)) as catalogue:
            servers.clear_requests()
            assert catalogue.fetch_full_listings(sessions) == {}
        assert len(alyx_requests(servers)) > limits.burst - limits.reserve
        left = 0
        while budget.try_acquire(low_priority=False) == 0:
            left += 1
        assert left >= limits.reserve


@pytest.fixture
def old(opened: Open, tmp_path: Path, servers: Servers) -> Access:
    """Return a laboratory with the tables of 2021, an empty catalogue and no reachable server."""
    sync_from_files(OLD, tmp_path / "state")
    access = opened()
    servers.stop()
    return access


def test_the_tables_of_2021_offline_show_all_their_datasets(old: Access) -> None:
    found = files(old)
    assert len(found) == 693
    assert not any(".." in path.split("/") for path in found)
    assert sum(size is None for size in found.values()) == 301
    assert sum(size == 0 for size in found.values()) == 1
    assert len([path for path in found if path.startswith(f"{THERE}/")]) == 28


def test_the_tables_of_2021_offline_lead_from_eid_and_ref(old: Access) -> None:
    assert old.tree.target(f"/.by-eid/{TUTORIAL}") == f"../{THERE}"
    assert old.tree.target("/.by-ref/2018-08-24_2_clns0730") == f"../{THERE}"
    assert old.tree.xattrs(f"/{THERE}")["user.onefs.eid"] == TUTORIAL


def test_an_unknown_size_and_an_uncached_file_are_unreachable_offline(old: Access) -> None:
    with within():  # a deadline is 60 s
        with pytest.raises(Unreachable):
            old.tree.node(f"/{THERE}/spikes.amps.npy")
        known = next(path for path, size in files(old).items() if size)
        with pytest.raises(Unreachable):
            old.tree.open(known)


def test_offline_unknown_values_are_omitted_from_the_attributes(old: Access) -> None:
    known = next(path for path, size in files(old).items() if size)
    shown = old.tree.xattrs(known)
    assert "user.onefs.dataset_type" not in shown
    assert "user.onefs.url" not in shown
    assert shown["user.onefs.state"] == "remote"


def test_the_stored_path_names_the_url(opened: Open, tmp_path: Path, servers: Servers) -> None:
    """In tables of 2021, a session has the number 2, but its folder on the server is ``1``."""
    sync_from_files(OLD, tmp_path / "state")
    access = opened()
    access.catalogue.repositories()
    wait_until(lambda: bool(access.catalogue.repositories().value))
    servers.alyx.stop()
    url = access.tree.xattrs(f"/{THERE}/spikes.amps.npy")["user.onefs.url"]
    assert "/mainenlab/Subjects/clns0730/2018-08-24/1/spikes.amps." in url


def _day() -> datetime.date:
    return datetime.date(2018, 8, 24)


def _dataset(access: Access, path: str) -> Dataset:
    [known] = access.catalogue.sessions("mainenlab", "clns0730").value
    name = path.rpartition("/")[2]
    return next(d for d in access.catalogue.datasets(known).value if d.name == name)

"""Tests of ``.as-of``, the tree as of a day, with a real catalogue, cache and servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.catalogue.sync import fetch_labs_and_subjects, sync_from_server
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import NotFound, UsageError
from onefs.tree.nodes import NodeKind, Tree
from onefs.tree.path_patterns import expand_pattern
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import alyx_requests, data_requests, downloads, open_laboratory
from tests.recorded_laboratory import LOGIN, RecordedSource

#: an original, a default of 2020-08-31, and a later revision that is not the default
EID = "c1d29b25-ac68-45ea-86a8-4ae7ad4352fa"
SESSION = "cortexlab/KS023/2019-12-20/001"
PROBE = f"{SESSION}/alf/probe00"
NAME = "spikes.times.npy"
FIRST, SECOND = "2020-08-31", "2021-07-05"
#: days, and the revision that ONE gives for each
DAYS = {
    "1999-12-31": "",
    "2020-08-30": "",
    "2020-08-31": FIRST,
    "2021-07-04": FIRST,
    "2021-07-05": SECOND,
    "2021-07-05b": SECOND,
    "2999-12-31": SECOND,
}


def read(access: Access, path: str) -> bytes:
    _, handle = access.tree.open(path)
    try:
        return os.pread(handle.wait_fd(0, handle.size), handle.size, 0)
    finally:
        handle.close()


def walk(tree: Tree, path: str) -> dict[str, NodeKind]:
    """Return all paths that are listed below a folder, each path once."""
    found: dict[str, NodeKind] = {}
    for name, node in tree.children(path):
        below = f"{path}/{name}"
        assert tree.node(below) == node
        assert below not in found
        found[below] = node.kind
        if node.kind is NodeKind.DIRECTORY:
            found |= walk(tree, below)
    return found


def in_ones_layout(revision: str) -> str:
    return f"{PROBE}/{f'#{revision}#/' if revision else ''}{NAME}"


@pytest.mark.parametrize("day", DAYS)
def test_a_plain_path_has_the_bytes_of_its_day(access: Access, day: str) -> None:
    there, here = f"/.as-of/{day}/{PROBE}/{NAME}", "/" + in_ones_layout(DAYS[day])
    assert access.tree.xattrs(there) == access.tree.xattrs(here)
    assert access.tree.xattrs(there)["user.onefs.revision"] == DAYS[day]
    assert access.tree.node(there).size == access.tree.node(here).size
    assert read(access, there) == read(access, here)


def test_each_file_is_shown_once_and_without_its_revision(access: Access) -> None:
    day = f"/.as-of/2021-01-01/{SESSION}"
    found = {path.removeprefix(day) for path in walk(access.tree, day)}
    plain = {path.removeprefix(f"/{SESSION}") for path in walk(access.tree, f"/{SESSION}")}
    assert found == {path for path in plain if "#" not in path}
    assert f"/alf/probe00/{NAME}" in found


def test_as_of_is_not_listed_and_lists_nothing(access: Access, servers: Servers) -> None:
    assert access.tree.node("/.as-of").kind is NodeKind.DIRECTORY
    assert access.tree.children("/.as-of") == []
    assert access.tree.node("/.as-of/2021-07-05").kind is NodeKind.DIRECTORY
    for name in ("2021-13-01", "2021-7-5", "today", "2021-07-05ab", ".git", "cortexlab"):
        with pytest.raises(NotFound):
            access.tree.node(f"/.as-of/{name}")
    assert servers.requests == []
    assert ".as-of" not in [name for name, _ in access.tree.children("/")]
    with pytest.raises(NotFound):
        access.tree.node("/.as-of/2021-07-05/.as-of/2021-07-05")


def test_a_day_repeats_no_request_of_the_full_tree(access: Access, servers: Servers) -> None:
    walk(access.tree, f"/{SESSION}")
    servers.clear_requests()
    for day in DAYS:
        walk(access.tree, f"/.as-of/{day}/{SESSION}")
        assert access.tree.children(f"/.as-of/{day}") != []
    assert servers.requests == []


def test_sessions_after_the_day_are_shown(access: Access) -> None:
    listed = [name for name, _ in access.tree.children("/.as-of/1999-12-31/cortexlab/KS023")]
    assert listed == [name for name, _ in access.tree.children("/cortexlab/KS023")]
    assert "2019-12-20" in listed


def test_aliases_lead_to_the_same_day(access: Access) -> None:
    day = "/.as-of/2021-01-01"
    for alias in (
        f"{day}/.by-eid/{EID}/alf/probe00/{NAME}",
        f"{day}/.by-ref/2019-12-20_1_KS023/alf/probe00/{NAME}",
        f"{day}/cortexlab/Subjects/KS023/2019-12-20/1/alf/probe00/{NAME}",
        f"{day}/.search/subject=KS023&date_range=2019-12-20/2019-12-20_1_KS023/alf/probe00/{NAME}",
        f"{PROBE}/#{FIRST}#/{NAME}".replace("cortexlab", f"{day}/cortexlab", 1),
    ):
        assert list(expand_pattern(access.tree, alias)) == [f"{day}/{PROBE}/{NAME}"]
    # a session of one probe; without a day the flat tree has the default of 2021
    single = "cortexlab/KS014/2019-08-29/001"
    flat = access.tree.xattrs(f"{day}/.flat/{single}/{NAME}")
    assert flat["user.onefs.revision"] == FIRST
    assert access.tree.xattrs(f"/.flat/{single}/{NAME}")["user.onefs.revision"] == SECOND


def test_a_folder_of_the_days_revision_resolves_and_no_other(access: Access) -> None:
    day = f"/.as-of/2021-01-01/{PROBE}"
    folder = f"{day}/#{FIRST}#"
    files = access.tree.children(folder)
    assert (NAME, access.tree.node(f"{folder}/{NAME}")) in files
    assert {node.kind for _, node in files} == {NodeKind.LINK}
    assert access.tree.target(f"{folder}/{NAME}") == f"../{NAME}"
    for other in (f"{day}/#{SECOND}#", f"{day}/##", f"{folder}/nothing.npy", f"{day}/#{FIRST}"):
        with pytest.raises(NotFound):
            access.tree.node(other)
    with pytest.raises(UsageError):
        access.tree.open(folder)


def test_sidecars_show_the_revisions_of_the_day(access: Access) -> None:
    day, now = f"/.as-of/2021-01-01/{SESSION}", f"/{SESSION}"
    assert read(access, f"{day}/.session.json") == read(access, f"{now}/.session.json")
    table = [
        line.split("\t") for line in read(access, f"{day}/.datasets.tsv").decode().splitlines()
    ]
    revisions = {line[0]: line[4] for line in table[1:]}
    assert revisions[f"alf/probe00/{NAME}"] == FIRST
    assert not [path for path in revisions if "#" in path]
    assert len(table) < len(read(access, f"{now}/.datasets.tsv").splitlines())


def test_inode_numbers_differ_by_day_and_survive_a_restart(
    access: Access, servers: Servers, tmp_path: Path
) -> None:
    places = ("", "/cortexlab", f"/{SESSION}", f"/{PROBE}", f"/{PROBE}/{NAME}")
    days = ["/.as-of/2021-01-01", "/.as-of/2021-01-02", ""]
    paths = [day + place or "/" for day in days for place in places]
    numbers = [access.tree.node(path).ino for path in paths]
    assert len(set(numbers)) == len(numbers)
    again = open_laboratory(servers, tmp_path / "again")
    try:
        assert [again.tree.node(path).ino for path in paths] == numbers
    finally:
        again.close()


def test_nothing_is_downloaded_twice_and_the_cache_has_ones_layout(
    access: Access, servers: Servers, tmp_path: Path
) -> None:
    bytes_of_day = read(access, f"/.as-of/2021-01-01/{PROBE}/{NAME}")
    folder = tmp_path / "cache" / PROBE.replace("/", "/Subjects/", 1)
    assert (folder / f"#{FIRST}#" / NAME).read_bytes() == bytes_of_day
    assert not (folder / NAME).exists()
    assert read(access, f"/{PROBE}/#{FIRST}#/{NAME}") == bytes_of_day
    assert read(access, f"/.as-of/2020-12-31/{PROBE}/{NAME}") == bytes_of_day
    assert len(downloads(servers, "spikes.times")) == 1
    assert not [path for path in tmp_path.rglob("*") if ".as-of" in path.name]


def test_page_caches_are_kept_by_path(access: Access) -> None:
    """The kernel has separate pages for each path, because it does not know datasets."""
    paths = [f"/{PROBE}/#{FIRST}#/{NAME}", f"/.as-of/2021-01-01/{PROBE}/{NAME}"]
    for expected in (False, True):
        for path in paths:
            _, handle = access.tree.open(path)
            assert handle.keep_cache is expected
            handle.wait_fd(0, handle.size)
            handle.close()


def test_a_mount_as_of_a_day_shows_that_day_in_its_root(
    access: Access, servers: Servers, tmp_path: Path
) -> None:
    day = open_laboratory(servers, tmp_path / "day", as_of="2021-01-01")
    try:
        assert day.tree.xattrs("/")["user.onefs.as_of"] == "2021-01-01"
        assert access.tree.xattrs("/.as-of/2021-01-01")["user.onefs.as_of"] == "2021-01-01"
        assert "user.onefs.as_of" not in access.tree.xattrs("/")
        assert walk(day.tree, f"/{SESSION}").keys() == {
            path.removeprefix("/.as-of/2021-01-01")
            for path in walk(access.tree, f"/.as-of/2021-01-01/{SESSION}")
        }
        assert day.tree.node("/").ino == 1
        for path in (f"/{PROBE}", f"/{PROBE}/{NAME}"):
            assert day.tree.node(path) == access.tree.node(f"/.as-of/2021-01-01{path}")
        assert read(day, f"/{PROBE}/{NAME}") == read(access, f"/{PROBE}/#{FIRST}#/{NAME}")
        with pytest.raises(NotFound):
            day.tree.node("/.as-of/2020-01-01")
    finally:
        day.close()


def test_datasets_of_a_day_are_stored_in_ones_layout(access: Access) -> None:
    """``onefs get`` and ``onefs cache`` use these datasets and paths."""
    found = {
        "/".join(place): d for d, place in access.tree.find_datasets(f".as-of/2021-07-05/{PROBE}")
    }
    revised = {path for path in found if f"#{SECOND}#" in path}
    assert in_ones_layout(SECOND) in revised
    assert in_ones_layout(FIRST) not in found
    everything = {"/".join(place): d for d, place in access.tree.find_datasets(PROBE)}
    assert found.items() <= everything.items()


def test_a_day_is_the_same_with_cache_tables(
    access: Access, servers: Servers, tmp_path: Path
) -> None:
    """Until a file is opened, only the tables are used. Offline, no request is made."""
    synced = open_laboratory(servers, tmp_path / "synced")
    try:
        alyx = synced.alyx.low_priority(deadline=60.0)
        assert sync_from_server(alyx, tmp_path / "synced" / "state") is not None
        assert fetch_labs_and_subjects(alyx, synced.database) is None
        synced.database.tables.check_file_at_next_use()
        servers.clear_requests()
        for day, revision in DAYS.items():
            folder = f"/.as-of/{day}/{SESSION}"
            assert walk(synced.tree, folder) == walk(access.tree, folder)
            number = access.tree.xattrs("/" + in_ones_layout(revision))["user.onefs.dataset_id"]
            assert [d.id for d, _ in synced.tree.find_datasets(f"{folder}/alf/probe00/{NAME}")] == [
                number
            ]
        assert not [each for each in alyx_requests(servers) if EID in each.path][1:]
        assert data_requests(servers) == []
        path = f"/.as-of/2021-01-01/{PROBE}/{NAME}"
        assert read(synced, path) == read(access, path)
    finally:
        synced.close()
    offline = open_laboratory(servers, tmp_path / "synced", offline=True)
    try:
        assert read(offline, path) == read(access, path)
        assert walk(offline.tree, f"/.as-of/2021-07-05/{SESSION}")
    finally:
        offline.close()


@pytest.fixture
def source() -> ChangingLaboratory:
    return ChangingLaboratory(SyntheticLaboratory())


@pytest.fixture
def changing(source: ChangingLaboratory, tmp_path: Path) -> Iterator[Access]:
    with Servers(source) as servers:
        access = open_laboratory(servers, tmp_path)
        yield access
        access.close()


def test_an_added_revision_is_shown_when_the_previous_one_is_not_open(
    changing: Access, source: ChangingLaboratory, tmp_path: Path
) -> None:
    source.change = lambda record: None if record.revision == SECOND else record
    tree, path = changing.tree, f"/.as-of/2999-12-31/{PROBE}/{NAME}"
    _, handle = tree.open(path)
    source.change = lambda record: record
    changing.catalogue.invalidate(())
    tree.children(os.path.dirname(path))
    assert tree.xattrs(path)["user.onefs.state"] == "replaced-pending"
    assert tree.xattrs(path)["user.onefs.revision"] == FIRST
    assert len(os.pread(handle.wait_fd(0, handle.size), handle.size, 0)) == handle.size
    # the bytes of the old one are at its path
    folder = tmp_path / "cache" / PROBE.replace("/", "/Subjects/", 1)
    assert (folder / f"#{FIRST}#" / NAME).exists()
    assert not (folder / f"#{SECOND}#" / NAME).exists()
    handle.close()
    switched = [tree.open_files.invalidations.get(timeout=5) for _ in range(8)]
    assert path in switched
    tree.open_files.note_invalidated(path)
    assert tree.xattrs(path)["user.onefs.revision"] == SECOND
    assert read(changing, path) == read(changing, f"/{PROBE}/#{SECOND}#/{NAME}")


def test_a_revision_that_no_server_has_does_not_count(
    changing: Access, source: ChangingLaboratory
) -> None:
    source.change = lambda record: (
        replace(record, file_records=()) if record.revision == SECOND else record
    )
    path = f"/.as-of/2999-12-31/{PROBE}/{NAME}"
    assert changing.tree.xattrs(path)["user.onefs.revision"] == FIRST


def test_other_bytes_of_one_dataset_are_noticed_at_each_of_its_paths(
    changing: Access, source: ChangingLaboratory
) -> None:
    """Opening one path does not make the pages of another path valid."""
    paths = [f"/{PROBE}/#{FIRST}#/{NAME}", f"/.as-of/2021-01-01/{PROBE}/{NAME}"]
    before = [read(changing, path) for path in paths]
    source.replace(changing.tree.xattrs(paths[0])["user.onefs.dataset_id"], b"other" * 999)
    changing.catalogue.invalidate(())
    for path in paths:
        changing.tree.children(os.path.dirname(path))
        changing.tree.open_files.note_invalidated(path)
    for path in paths:
        _, handle = changing.tree.open(path)
        assert not handle.keep_cache
        handle.close()
        assert read(changing, path) == b"other" * 999 != before[0]


@pytest.mark.parametrize("kind", ["default_is_not_latest", "no_default", "two_defaults"])
def test_unusual_default_flags_of_real_databases(kind: str, tmp_path: Path) -> None:
    """Each day shows the last revision up to that day, also if the flags are missing or wrong."""
    from tests.recordings import manifest

    source = RecordedSource()
    with Servers(source, LOGIN) as servers:
        access = open_laboratory(servers, tmp_path)
        try:
            traps = [trap for trap in manifest()["traps"] if trap["kind"] == kind]
            assert traps
            for trap in traps:
                (folder,) = expand_pattern(
                    access.tree, f".by-eid/{trap['session']}/{trap['collection']}"
                )
                for day, revision in (
                    ("2020-08-30", ""),
                    ("2020-08-31", FIRST),
                    ("2030-01-01", FIRST),
                ):
                    shown = f"/.as-of/{day}{folder}/{trap['name']}"
                    layout = f"{folder}/{f'#{revision}#/' if revision else ''}{trap['name']}"
                    assert access.tree.xattrs(shown) == access.tree.xattrs(layout)
                    listed = [name for name, _ in access.tree.children(os.path.dirname(shown))]
                    assert listed.count(trap["name"]) == 1
                    assert f"#{FIRST}#" not in listed
        finally:
            access.close()

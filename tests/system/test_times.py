"""What programs that compare dates see: the same bytes have the same date after every mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import account
from tests.required_programs import require_program
from tests.running import Home, Mounted, run

SESSION = "mainenlab/clns0730/2018-08-24/001"
TEXTS = (
    f"{SESSION}/.session.json",
    f"{SESSION}/.datasets.tsv",
    ".search/subject=clns0730/.eids",
    ".search/subject=clns0730/.paths",
)
Stats = dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def made() -> SyntheticLaboratory:
    return SyntheticLaboratory()


@pytest.fixture
def changing(made: SyntheticLaboratory) -> ChangingLaboratory:
    return ChangingLaboratory(made)


@pytest.fixture
def servers(changing: ChangingLaboratory) -> Iterator[Servers]:
    with Servers(changing) as running:
        yield running


def stats(folder: Path) -> Stats:
    """What restic compares of everything below ``folder``, and of the folder."""
    found: Stats = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        seen = path.lstat()
        found[str(path.relative_to(folder))] = (
            seen.st_mode, seen.st_size, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns,
        )  # fmt: skip
    return found


def mounted_from_tables(home: Home, servers: Servers) -> Mounted:
    """A mount over a new catalogue, which cache tables fill."""
    return home.mount("--sync", "--state-dir", home.root / "synced", **account(servers))


@pytest.mark.long
def test_tables_and_alyx_bring_the_same_dates(home: Home, servers: Servers) -> None:
    by_alyx = home.mount(**account(servers))
    before = stats(by_alyx.path / SESSION)
    assert len(before) > 20
    by_alyx.umount()
    by_tables = mounted_from_tables(home, servers)
    warm = stats(by_tables.path / SESSION)
    assert warm == before
    # reading requests the listing from Alyx that only tables had
    for path in (by_tables.path / SESSION).rglob("*"):
        if path.is_file():
            path.read_bytes()
            break
    assert stats(by_tables.path / SESSION) == before
    by_tables.umount()
    again = home.mount("--offline", "--state-dir", home.root / "synced", **account(servers))
    assert stats(again.path / SESSION) == before


def test_rsync_copies_each_file_once_whatever_brought_the_listing(
    home: Home, servers: Servers
) -> None:
    copy = home.root / "copy"

    def transferred(mounted: Mounted) -> list[str]:
        given = f"{mounted.path}/{SESSION}/"
        return run(["rsync", "-a", "--itemize-changes", given, copy]).stdout.splitlines()

    by_tables = mounted_from_tables(home, servers)
    assert len(transferred(by_tables)) > 20
    assert transferred(by_tables) == []
    by_tables.umount()
    assert transferred(home.mount(**account(servers))) == []


def test_make_builds_once(home: Home, servers: Servers) -> None:
    make = require_program("make", "make")
    work = home.root / "work"
    work.mkdir()
    mounted = mounted_from_tables(home, servers)
    prerequisite = f"{mounted.path}/{SESSION}/spikes.times.npy"
    (work / "Makefile").write_text(f"out: {prerequisite}\n\tcp -p $< $@\n")
    assert "cp" in run([make, "out"], cwd=work).stdout
    mounted.umount()
    home.mount(**account(servers))
    assert "up to date" in run([make, "out"], cwd=work).stdout


def test_other_bytes_of_the_same_size_have_another_date(
    home: Home, servers: Servers, changing: ChangingLaboratory
) -> None:
    mounted = home.mount(**account(servers))
    file = mounted.path / SESSION / "spikes.times.npy"
    others = file.with_name("spikes.clusters.npy")
    before, beside = file.stat(), others.stat()
    changing.replace(mounted.xattr("dataset_id", f"{SESSION}/{file.name}"), b"x" * before.st_size)
    home.run("refresh", mounted.path / SESSION)
    mounted.umount()
    again = home.mount(**account(servers))
    after = (again.path / SESSION / "spikes.times.npy").stat()
    assert after.st_size == before.st_size
    assert after.st_mtime != before.st_mtime
    assert others.stat().st_mtime == beside.st_mtime


def test_texts_keep_their_dates_as_long_as_their_bytes(home: Home, servers: Servers) -> None:
    mounted = home.mount(**account(servers))
    before = [(mounted.path / name).stat().st_mtime for name in TEXTS]
    home.run("refresh", mounted.path / SESSION)
    mounted.umount()
    again = home.mount(**account(servers))
    assert [(again.path / name).stat().st_mtime for name in TEXTS] == before


def test_a_file_in_the_cache_folder_has_the_date_of_the_mount(home: Home, servers: Servers) -> None:
    mounted = home.mount(**account(servers))
    file = mounted.path / SESSION / "spikes.times.npy"
    kept = home.run("get", file, variables=account(servers)).stdout.splitlines()[0]
    assert os.stat(kept).st_mtime == file.stat().st_mtime


def test_a_revision_has_the_same_date_in_every_view(home: Home, servers: Servers) -> None:
    mounted = home.mount(**account(servers))
    revised = [path for path in mounted.path.glob("*/*/*/*/**/#2*#/*") if path.is_file()]
    assert revised
    for path in revised[:3]:
        day = path.parent.name.strip("#")
        below = path.relative_to(mounted.path)
        shown = mounted.path / ".as-of" / day / below.parent.parent / below.name
        assert shown.stat().st_mtime == path.stat().st_mtime

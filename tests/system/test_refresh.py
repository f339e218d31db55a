"""``onefs refresh``: when it returns, mounts show what the server has, whatever they knew."""

from __future__ import annotations

import os
import signal
import stat
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import DatasetRecord, SessionRecord, Source
from onefs.demo.servers import Servers
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import SMALL, account, small_file
from tests.running import Home, Mounted, read_errno, within

LAB, SUBJECT, DAY = "labone", "mouse.1", "2021-03-04"
#: makes the mount believe that the kernel cannot be told to drop names
OLD_KERNEL = {"ONEFS_TEST_OLD_KERNEL": "1"}
#: this kernel, and one that is taken for an older one
KERNELS = pytest.mark.parametrize("kernel", [{}, OLD_KERNEL], ids=["epochs", "timeouts"])


class MovingLaboratory(ChangingLaboratory):
    """A laboratory whose sessions and subjects come and go while it is served."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._gone: set[str] = set()
        self._new: dict[str, dict[str, Any]] = {}
        self._more: list[SessionRecord] = []
        self._shown: Sequence[SessionRecord] = tuple(source.sessions())

    def add(self, subject: str, day: str, number: int = 1) -> SessionRecord:
        """A session of a subject of LAB, which may be a new one."""
        like = next(each for each in self._source.sessions() if each.lab == LAB)
        start, eid = f"{day}T10:00:00", str(uuid.uuid4())
        new = replace(like, eid=eid, subject=subject, start_time=start, number=number)
        self._more.append(new)
        self._show()
        return new

    def remove(self, *sessions: SessionRecord) -> None:
        """Delete sessions, and the subjects that have no other."""
        self._gone |= {each.eid for each in sessions}
        self._show()

    def of(self, subject: str, lab: str = LAB) -> list[SessionRecord]:
        """The sessions that a subject has."""
        return [each for each in self._shown if (each.lab, each.subject) == (lab, subject)]

    def _show(self) -> None:
        every = (*self._source.sessions(), *self._more)
        self._shown = tuple(each for each in every if each.eid not in self._gone)

    def sessions(self) -> Sequence[SessionRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return self._shown

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return () if eid in self._gone else super().datasets(eid)

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """See :class:`onefs.demo.records.Source`."""
        tables = dict(self._source.tables())
        like = tables["subjects"][0]
        names = sorted({(each.lab, each.subject) for each in self._shown})
        tables["subjects"] = [{**like, "lab": lab, "nickname": name} for lab, name in names]
        tables["labs"] = [row for row in tables["labs"] if row["name"] in {lab for lab, _ in names}]
        return tables


@pytest.fixture
def source(folder: Path) -> MovingLaboratory:
    return MovingLaboratory(FolderLaboratory(folder))


def mount(home: Home, servers: Servers, *flags: str | Path, **more: str) -> Mounted:
    return home.mount(*flags, **account(servers), **more)


def ref_of(session: SessionRecord) -> str:
    return f"{session.start_time[:10]}_{session.number}_{session.subject}"


def shown(path: Path) -> list[str]:
    """What a folder lists, each name looked up: afterwards the kernel has all of it."""
    names = sorted(os.listdir(path))
    assert all(stat.S_ISDIR((path / name).stat().st_mode) for name in names)
    return names


@pytest.mark.long
@KERNELS
def test_the_new_listing_is_there_each_time(
    home: Home, servers: Servers, source: MovingLaboratory, kernel: dict[str, str]
) -> None:
    mounted = mount(home, servers, **kernel)
    subject, coming = mounted.path / LAB / SUBJECT, None
    for number in range(4 if kernel else 30):
        shown(subject)
        assert read_errno(subject / f"2022-01-{number + 1:02}") == 2
        if coming is not None:
            source.remove(coming)
        coming = source.add(SUBJECT, f"2022-01-{number + 1:02}")
        home.run("refresh", mounted.path / LAB)
        assert shown(subject) == [DAY, coming.start_time[:10]]
        if number:
            assert read_errno(subject / f"2022-01-{number:02}") == 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("kernel", "synced", "scope"),
    [
        ({}, False, ""),
        ({}, False, f"{LAB}/mouse.2"),
        ({}, True, LAB),
        ({}, True, f"{LAB}/mouse.2"),
        (OLD_KERNEL, False, LAB),
    ],
)
def test_a_deleted_subject_vanishes(
    home: Home,
    servers: Servers,
    source: MovingLaboratory,
    kernel: dict[str, str],
    synced: bool,
    scope: str,
) -> None:
    mounted = mount(home, servers, *(["--sync"] if synced else []), **kernel)
    [session] = source.of("mouse.2")
    ref = ref_of(session)
    names = [
        f"{LAB}/mouse.2",
        f"{LAB}/mouse.2/2021-03-05",
        f"{LAB}/mouse.2/2021-03-05/010",
        f".by-eid/{session.eid}",
        f".by-ref/{ref}",
        f".search/subject=mouse.2/{ref}",
    ]
    assert [read_errno(mounted.path / name) for name in names] == [0] * len(names)
    assert shown(mounted.path / LAB) == [SUBJECT, "mouse.2"]
    source.remove(session)
    home.run("refresh", *([mounted.path / scope] if scope else []))
    assert [read_errno(mounted.path / name) for name in names] == [2] * len(names)
    assert shown(mounted.path / LAB) == [SUBJECT]
    assert os.listdir(mounted.path / ".search/subject=mouse.2") == [".eids", ".paths"]
    assert (
        "mouse.2" not in home.run("list", "--subjects", variables=account(servers)).stdout.split()
    )
    home.run("list", session.eid, code=1, variables=account(servers))


@pytest.mark.parametrize("synced", [False, True], ids=["listed", "synced"])
def test_a_deleted_session_and_lab_vanish(
    home: Home, servers: Servers, source: MovingLaboratory, synced: bool
) -> None:
    mounted = mount(home, servers, *(["--sync"] if synced else []))
    second = source.of(SUBJECT)[0]
    day = mounted.path / LAB / SUBJECT / DAY
    assert shown(day) == ["001", "002"]
    assert "labtwo" in shown_labs(mounted)
    source.remove(second, *source.of(SUBJECT, "labtwo"))
    home.run("refresh", day)
    left = f"{source.of(SUBJECT)[0].number:03}"
    assert shown(day) == [left]
    assert read_errno(mounted.path / ".by-eid" / second.eid) == 2
    home.run("refresh", mounted.path / "labtwo")
    assert "labtwo" not in shown_labs(mounted)
    assert read_errno(mounted.path / "labtwo") == 2


def shown_labs(mounted: Mounted) -> list[str]:
    return [each.name for each in mounted.path.iterdir() if each.is_dir()]


@pytest.mark.parametrize(
    ("kernel", "scope"),
    [
        ({}, ""),
        ({}, f"{LAB}/mouse.9"),
        ({}, f"{LAB}/mouse.9/2022-02-02/001"),
        (OLD_KERNEL, LAB),
    ],
)
def test_a_new_subject_is_there_though_it_was_absent_before(
    home: Home, servers: Servers, source: MovingLaboratory, kernel: dict[str, str], scope: str
) -> None:
    """The kernel and Alyx have said just before that there is none."""
    mounted = mount(home, servers, **kernel)
    shown(mounted.path / LAB)
    new = mounted.path / LAB / "mouse.9" / "2022-02-02" / "001"
    eid = "11111111-2222-4333-8444-555555555555"
    assert read_errno(new) == read_errno(mounted.path / ".by-eid" / eid) == 2
    session = source.add("mouse.9", "2022-02-02")
    source.remove(session)
    source._more.append(replace(session, eid=eid))
    source._show()
    assert read_errno(new) == 2
    home.run("refresh", *([mounted.path / scope] if scope else []))
    assert read_errno(new) == read_errno(mounted.path / ".by-eid" / eid) == 0
    assert "mouse.9" in shown(mounted.path / LAB)


@pytest.mark.long
@KERNELS
def test_a_changed_file_has_its_new_size_and_bytes(
    home: Home, servers: Servers, source: MovingLaboratory, folder: Path, kernel: dict[str, str]
) -> None:
    mounted = mount(home, servers, **kernel)
    path, held = mounted.path / SMALL[0], mounted.path / SMALL[1]
    old, kept = small_file(folder, SMALL[0]).read_bytes(), held.read_bytes()
    assert path.read_bytes() == old
    for new in (old + b"and more", b"short", bytes(len(old))):
        source.replace(mounted.xattr("dataset_id", SMALL[0]), new)
        source.replace(mounted.xattr("dataset_id", SMALL[1]), new)
        with held.open("rb") as reader:
            home.run("refresh", path.parent)
            assert path.stat().st_size == len(new)
            assert path.read_bytes() == new
            assert held.stat().st_size == len(kept)
            assert reader.read() == kept
        kept = new
        home.run("refresh", path.parent)
        assert held.read_bytes() == new


def test_mounts_of_the_same_database_with_other_folders_are_refreshed_too(
    home: Home, servers: Servers, source: MovingLaboratory, tmp_path: Path
) -> None:
    one = mount(home, servers)
    folders: list[str | Path] = ["--state-dir", tmp_path / "s", "--cache-dir", tmp_path / "c"]
    other = mount(home, servers, *folders, at="other")
    as_of = mount(home, servers, "--as-of", "2023-01-01", at="as-of")
    cases: list[list[str | Path]] = [[one.path / LAB], [], ["--url", servers.alyx_url]]
    for number, flags in enumerate(cases):
        for each in (one, other, as_of):
            shown(each.path / LAB / SUBJECT)
        new = source.add(SUBJECT, f"2022-03-0{number + 1}").start_time[:10]
        assert home.run("refresh", *flags, variables=account(servers)).stderr == ""
        assert all(new in shown(each.path / LAB / SUBJECT) for each in (one, other, as_of))


def test_offline_what_is_known_stays(
    home: Home, servers: Servers, source: MovingLaboratory
) -> None:
    online = mount(home, servers)
    before = shown(online.path / LAB / SUBJECT)
    online.umount()
    source.remove(*source.of(SUBJECT))
    offline = mount(home, servers, "--offline")
    assert home.run("refresh", offline.path / LAB).stderr == ""
    assert shown(offline.path / LAB / SUBJECT) == before


def test_a_path_that_is_not_there_before_and_after_is_refused(home: Home, servers: Servers) -> None:
    mounted = mount(home, servers)
    for name in ("nope", f"{LAB}/nope/2020-01-01", f"{LAB}/{SUBJECT}/{DAY}/001/nope"):
        assert f"{mounted.path / name} did not exist before the refresh" in home.error_of(
            1, "refresh", mounted.path / name
        )


@pytest.mark.long
def test_a_hung_or_dead_mount_is_named_and_the_others_are_refreshed(
    home: Home, servers: Servers, source: MovingLaboratory
) -> None:
    well = mount(home, servers)
    hanging = mount(home, servers, at="hanging")
    dead = mount(home, servers, at="dead")
    shown(well.path / LAB / SUBJECT)
    os.kill(dead.pid, signal.SIGKILL)
    os.kill(hanging.pid, signal.SIGSTOP)
    try:
        new = source.add(SUBJECT, "2022-04-01").start_time[:10]
        for path in (well.path, hanging.path, dead.path):
            with within():
                said = home.run("refresh", path, code=1).stderr
            assert f"{hanging.path} did not answer" in said
            assert f"{dead.path} is dead" in said
            assert str(well.path) not in said
            assert new in shown(well.path / LAB / SUBJECT)
    finally:
        os.kill(hanging.pid, signal.SIGCONT)

"""A folder as a laboratory: its datasets, their names, and changes."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from onefs.demo import alyx_rows, folder_laboratory
from onefs.demo.folder_laboratory import RESCAN_SECONDS, SCAN_WAIT_SECONDS, FolderLaboratory
from onefs.demo.records import Login
from onefs.demo.servers import Servers
from onefs.errors import UsageError
from tests.demo.laboratory_folder import SESSION, all_rows, path_in_session, put
from tests.running import wait_until


class Clock:
    """A clock with a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_regular_file_is_a_dataset(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/alf/probe00/_ibl_trials.choice.npy", b"abc")
    put(tmp_path, f"{SESSION}/notes.md")
    put(tmp_path, f"{SESSION}/.hidden")
    put(tmp_path, f"{SESSION}/alf/empty.file.npy", b"")
    put(tmp_path, "lab/Subjects/mouse/stray.txt")
    os.mkfifo(tmp_path / SESSION / "pipe.a.npy")
    rows = {path_in_session(row): row for row in all_rows(FolderLaboratory(tmp_path))}
    assert sorted(rows) == [
        ".hidden", "alf/empty.file.npy", "alf/probe00/_ibl_trials.choice.npy", "notes.md"
    ]  # fmt: skip
    trials = rows["alf/probe00/_ibl_trials.choice.npy"]
    assert (trials.collection, trials.dataset_type) == ("alf/probe00", "_ibl_trials.choice")
    assert (trials.file_size, trials.hash) == (3, hashlib.md5(b"abc").hexdigest())
    assert rows[".hidden"].dataset_type == rows["notes.md"].dataset_type == "unknown"


def test_dates_are_the_files_own_in_utc(tmp_path: Path) -> None:
    os.utime(put(tmp_path, f"{SESSION}/a.b.npy"), ns=(0, 1_577_880_000_123_456_789))
    os.utime(put(tmp_path, f"{SESSION}/old.b.npy"), ns=(0, -5_000_000_000))
    new, old = all_rows(FolderLaboratory(tmp_path))
    assert new.auto_datetime == new.created_datetime == "2020-01-01T12:00:00.123456"
    assert old.auto_datetime == "1970-01-01T00:00:00.000000"


def test_ids_are_those_of_the_path_and_survive_a_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    put(old, f"{SESSION}/alf/a.b.npy")
    first = FolderLaboratory(old)
    before = first.sessions(), [row.id for row in all_rows(first)]
    old.rename(new)
    second = FolderLaboratory(new)
    assert (second.sessions(), [row.id for row in all_rows(second)]) == before
    assert before[1] == [alyx_rows.make_id(f"{SESSION}/alf/a.b.npy")]
    assert before[0][0].eid == alyx_rows.make_id(SESSION)


def test_only_the_last_folder_is_a_revision(tmp_path: Path) -> None:
    for path in (
        "alf/a.b.npy",
        "alf/#v1#/a.b.npy",
        "alf/#v2#/a.b.npy",
        "#v1#/deep/c.d.npy",
        "##/e.f",
    ):
        put(tmp_path, f"{SESSION}/{path}")
    laboratory = FolderLaboratory(tmp_path)
    split = {
        path_in_session(r): (r.collection, r.revision, r.default_dataset)
        for r in all_rows(laboratory)
    }
    assert split == {
        "alf/a.b.npy": ("alf", "", False),
        "alf/#v1#/a.b.npy": ("alf", "v1", False),
        "alf/#v2#/a.b.npy": ("alf", "v2", True),
        "#v1#/deep/c.d.npy": ("#v1#/deep", "", True),
        "##/e.f": ("##", "", True),
    }
    assert [row["name"] for row in laboratory.tables()["revisions"]] == ["v1", "v2"]


def test_a_number_keeps_the_name_of_its_folder(tmp_path: Path) -> None:
    for number in ("1", "002", "x", "1234567890"):
        put(tmp_path, f"lab/mouse/2020-01-01/{number}/a.b.npy")
    put(tmp_path, "lab/mouse/2020-02-30/001/a.b.npy")
    laboratory = FolderLaboratory(tmp_path)
    assert sorted(s.number or 0 for s in laboratory.sessions()) == [1, 2]
    paths = {row.file_records[0].relative_path: row.id for row in all_rows(laboratory)}
    assert sorted(paths) == ["mouse/2020-01-01/002/a.b.npy", "mouse/2020-01-01/1/a.b.npy"]
    for path, key in paths.items():
        file = laboratory.file(alyx_rows.public_path("lab") + alyx_rows.with_uuid(path, key))
        assert file == tmp_path.resolve() / "lab" / path


def test_links_are_followed_only_inside(tmp_path: Path) -> None:
    root = tmp_path / "data"
    outside = put(tmp_path, "secret.txt", b"secret")
    put(tmp_path, "elsewhere/2020-01-01/001/a.b.npy")
    put(root, f"{SESSION}/alf/a.b.npy")
    links = root / SESSION
    (links / "inner.b.npy").symlink_to(root / SESSION / "alf/a.b.npy")
    (links / "outer.b.npy").symlink_to(outside)
    (links / "broken.b.npy").symlink_to("nothing")
    (links / "alf/loop").symlink_to("..")
    (links / "self.b.npy").symlink_to("self.b.npy")
    (root / "lab/Subjects/stranger").symlink_to(tmp_path / "elsewhere")
    laboratory = FolderLaboratory(root)
    assert sorted(path_in_session(row) for row in all_rows(laboratory)) == [
        "alf/a.b.npy",
        "inner.b.npy",
    ]
    assert len(laboratory.sessions()) == 1
    name = f"{SESSION}/outer.b.npy"
    assert laboratory.file(f"/public/{alyx_rows.with_uuid(name, alyx_rows.make_id(name))}") is None


def test_the_file_server_has_listed_paths_only(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/a.b.npy")
    put(tmp_path, "lab/Subjects/mouse/stray.npy")
    laboratory = FolderLaboratory(tmp_path)
    for path in (
        "lab/Subjects/mouse/stray.npy",
        "lab/Subjects/../Subjects/mouse/2020-01-01/001/a.b.npy",
        "lab/Subjects/mouse//2020-01-01/001/a.b.npy",
        f"{SESSION}/missing.b.npy",
    ):
        key = alyx_rows.make_id(os.path.normpath(path))
        assert laboratory.file("/public/" + alyx_rows.with_uuid(path, key)) is None
    assert laboratory.file("/") is None


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    file = put(tmp_path, f"{SESSION}/a.b.npy", b"one")
    laboratory = FolderLaboratory(tmp_path)
    for content in (b"one", b"two", b"three", b"owt"):
        file.write_bytes(content)
        (row,) = all_rows(laboratory)
        assert (row.file_size, row.hash) == (len(content), hashlib.md5(content).hexdigest())


def test_added_and_removed_files_are_noticed(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/a.b.npy")
    clock = Clock()
    laboratory = FolderLaboratory(tmp_path, clock=clock)
    before = laboratory.sessions()
    put(tmp_path, f"{SESSION}/late.b.npy")
    assert len(all_rows(laboratory)) == 2, "files at once"
    put(tmp_path, "other/Subjects/rat/2021-01-01/001/a.b.npy")
    assert laboratory.sessions() is not before, "there is a new type"
    before = laboratory.sessions()
    clock.now += RESCAN_SECONDS
    assert {s.lab for s in laboratory.sessions()} == {"lab", "other"}
    assert [row["name"] for row in laboratory.tables()["labs"]] == ["lab", "other"]
    same = laboratory.sessions()
    clock.now += RESCAN_SECONDS
    assert laboratory.sessions() is same, "nothing has changed"


def test_alyx_serves_what_was_added_later(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/a.b.npy")
    clock = Clock()
    login = Login()
    with Servers(FolderLaboratory(tmp_path, clock=clock), login) as servers:
        fields = {"username": login.username, "password": login.password}
        token = requests.post(f"{servers.alyx_url}/auth-token", data=fields, timeout=60).json()
        headers = {"Authorization": f"Token {token['token']}"}

        def count(table: str) -> int:
            answer = requests.get(f"{servers.alyx_url}/{table}", headers=headers, timeout=60)
            return int(answer.json()["count"])

        assert (count("sessions"), count("labs")) == (1, 1)
        put(tmp_path, "new/Subjects/rat/2021-01-01/001/a.b.npy")
        clock.now += RESCAN_SECONDS
        assert (count("sessions"), count("labs"), count("datasets")) == (2, 2, 2)


def test_names_that_are_not_utf8_are_in_the_listing(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad-\xff.npy")
    put(tmp_path, f"{SESSION}/alf/{name}")
    login = Login()
    laboratory = FolderLaboratory(tmp_path)
    with Servers(laboratory, login) as servers:
        fields = {"username": login.username, "password": login.password}
        token = requests.post(f"{servers.alyx_url}/auth-token", data=fields, timeout=60).json()
        headers = {"Authorization": f"Token {token['token']}"}
        answer = requests.get(f"{servers.alyx_url}/datasets", headers=headers, timeout=60)
    assert answer.json()["results"][0]["name"] == name
    assert [row.name for row in all_rows(laboratory)] == [name]


def test_an_unreadable_folder_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, f"{SESSION}/a.b.npy")
    put(tmp_path, f"{SESSION}/closed/c.d.npy")
    scan = os.scandir

    def refuse(path: str) -> object:
        # root can read every folder, so that this test cannot use permissions
        if path.endswith("/closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with caplog.at_level(logging.WARNING):
        laboratory = FolderLaboratory(tmp_path)
        assert [path_in_session(row) for row in all_rows(laboratory)] == ["a.b.npy"]
        assert [path_in_session(row) for row in all_rows(laboratory)] == ["a.b.npy"]
    assert len([r for r in caplog.records if "closed" in r.getMessage()]) == 1


def test_a_folder_without_sessions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no session"):
        FolderLaboratory(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        FolderLaboratory(tmp_path / "missing")
    with pytest.raises(UsageError, match="there is no folder"):
        FolderLaboratory(put(tmp_path, "file"))


def test_nothing_is_written_into_the_folder(tmp_path: Path) -> None:
    put(tmp_path, f"data/{SESSION}/a.b.npy")
    before = sorted(path for path in (tmp_path / "data").rglob("*"))
    all_rows(FolderLaboratory(tmp_path / "data", tmp_path / "state"))
    assert sorted(path for path in (tmp_path / "data").rglob("*")) == before
    assert [path.suffix for path in (tmp_path / "state").iterdir()] == [".sqlite"]


class SlowScandir:
    """An ``os.scandir`` that waits below ``folder`` between ``stop`` and ``go_on``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = str(folder)
        self._flowing = threading.Event()
        self._scan = os.scandir
        monkeypatch.setattr(os, "scandir", self._wait)
        self.unblock = self._flowing.set
        self.stop = self._flowing.clear
        self.unblock()

    def _wait(self, path: str) -> object:
        if str(path).startswith(self._folder):
            assert self._flowing.wait(60)
        return self._scan(path)


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Return the value of ``work()``. Fail if ``work`` takes too long."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(seconds)


def test_it_serves_before_each_file_has_been_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types and revisions are read in the background, as for many files on a slow disk."""
    put(tmp_path, f"{SESSION}/alf/#v1#/a.b.npy")
    put(tmp_path, "lab/Subjects/mouse/2020-01-02/001/c.d.npy")
    slow = SlowScandir(tmp_path / SESSION, monkeypatch)
    slow.stop()
    try:
        laboratory = within(SCAN_WAIT_SECONDS + 5, lambda: FolderLaboratory(tmp_path))
        assert len(laboratory.sessions()) == 2
    finally:
        slow.unblock()

    def names(table: str) -> list[str]:
        return [row["name"] for row in laboratory.tables()[table]]

    wait_until(lambda: names("dataset-types") == ["a.b", "c.d", "unknown"], what="all types")
    assert names("revisions") == ["v1"]


def test_a_revision_that_was_just_found_is_in_the_response(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/alf/a.b.npy")
    laboratory = FolderLaboratory(tmp_path)
    login = Login()
    with Servers(laboratory, login) as servers:
        fields = {"username": login.username, "password": login.password}
        token = requests.post(f"{servers.alyx_url}/auth-token", data=fields, timeout=60).json()
        headers = {"Authorization": f"Token {token['token']}"}
        eid = laboratory.sessions()[0].eid
        put(tmp_path, f"{SESSION}/alf/#v1#/a.b.npy")
        answer = requests.get(f"{servers.alyx_url}/sessions/{eid}", headers=headers, timeout=60)
    revisions = {row["revision"] for row in answer.json()["data_dataset_session_related"]}
    assert revisions == {"", alyx_rows.make_id("revision", "v1")}


def test_no_request_waits_for_a_scan_of_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, f"{SESSION}/a.b.npy")
    clock = Clock()
    laboratory = FolderLaboratory(tmp_path, clock=clock)
    slow = SlowScandir(tmp_path / "lab" / "Subjects" / "mouse", monkeypatch)
    put(tmp_path, "other/Subjects/rat/2021-01-01/001/a.b.npy")
    slow.stop()
    try:
        clock.now += RESCAN_SECONDS
        # a request starts a scan if the list is old, and uses the old list if the scan takes long
        assert len(within(SCAN_WAIT_SECONDS + 5, laboratory.sessions)) == 1
        # a request that started another scan now would wait this long; the machine may be slow, too
        long = 30.0
        monkeypatch.setattr(folder_laboratory, "SCAN_WAIT_SECONDS", long)
        for _ in range(3):
            clock.now += RESCAN_SECONDS
            began = time.monotonic()
            assert len(within(long, laboratory.sessions)) == 1
            assert [row["name"] for row in laboratory.tables()["labs"]] == ["lab"]
            assert time.monotonic() - began < long / 2, "one scan at a time, and no waiting"
    finally:
        slow.unblock()
    wait_until(lambda: len(laboratory.sessions()) == 2, what="the scan's end")


def test_a_folder_of_a_probe_is_an_insertion(tmp_path: Path) -> None:
    inside = ("alf/probe00/pykilosort/a.b.npy", "raw_ephys_data/probe01/c.d.cbin", "alf/e.f.npy")
    for path in inside:
        put(tmp_path, f"{SESSION}/{path}")
    laboratory = FolderLaboratory(tmp_path)
    eid = laboratory.sessions()[0].eid
    insertions = {row["name"]: row for row in laboratory.tables()["insertions"]}
    assert sorted(insertions) == ["probe00", "probe01"]
    assert {row["session"] for row in insertions.values()} == {eid}
    [sorted_file] = [row.id for row in all_rows(laboratory) if row.name == "a.b.npy"]
    assert insertions["probe00"]["datasets"] == [sorted_file]
    put(tmp_path, f"{SESSION}/alf/probe02/g.h.npy")
    laboratory.datasets(eid)
    assert len(laboratory.tables()["insertions"]) == 3

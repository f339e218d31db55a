"""The registry of mounts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from onefs.errors import MountError
from onefs.mount import mount_registry
from onefs.mount.mount_registry import (
    Download,
    MountInfo,
    MountRecord,
    MountStatus,
    SourceStatus,
)
from onefs.mount.processes import start_ticks_of

BUSY = MountStatus("ready", 10, (Download("/lab/file.npy", 5, 10, 2.5),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mounts"


def info(mountpoint: str = "/nowhere/mnt") -> MountInfo:
    return MountInfo(mountpoint, os.getpid(), url="http://host", cache_limit=5, since=1.5)


def change(folder: Path, **values: object) -> None:
    [path] = folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


SOURCES = (
    SourceStatus("disk", "/mnt/ibl", files=3),
    SourceStatus("bucket", "aws_lab", 5),
    SourceStatus("server", "host", 2),
)


def test_a_written_record_is_read_back(folder: Path) -> None:
    record = MountRecord(info(), folder, interval=0)
    status = replace(BUSY, sources=SOURCES)
    record.update(status)
    found = mount_registry.find_record("/nowhere/mnt", folder)
    assert found is not None
    assert found.status == status
    assert found.to_json() == {
        "mountpoint": "/nowhere/mnt",
        "pid": os.getpid(),
        "url": "http://host",
        "profile": None,
        "cache_dir": "",
        "cache_bytes": 10,
        "cache_limit": 5,
        "state": "ready",
        "since": 1.5,
        "log_file": None,
        "version": None,
        "sources": [
            {"kind": "disk", "name": "/mnt/ibl", "files": 3, "away": ""},
            {"kind": "bucket", "name": "aws_lab", "bytes": 5},
            {"kind": "server", "name": "host", "bytes": 2},
        ],
        "downloads": [{"path": "/lab/file.npy", "done": 5, "size": 10, "rate": 2.5}],
    }
    record.remove()
    assert mount_registry.find_record("/nowhere/mnt", folder) is None


def test_an_hourly_limit_is_recorded_where_there_is_one() -> None:
    limited = replace(info(), status=replace(BUSY, fetched=7, fetch_limit=100)).to_json()
    assert (limited["fetched"], limited["fetch_limit"]) == (7, 100)
    assert "fetch_limit" not in info().to_json()


def test_a_record_is_written_when_it_changes_and_not_too_often(folder: Path) -> None:
    record = MountRecord(info(), folder, interval=3600)
    record.update(BUSY)
    found = mount_registry.find_record("/nowhere/mnt", folder)
    assert found is not None
    assert found.status == MountStatus()
    eager = MountRecord(info(), folder, interval=0)
    [path] = folder.glob("*.json")
    before = path.stat().st_ino
    eager.update(MountStatus())
    assert path.stat().st_ino == before
    eager.update(BUSY)
    assert path.stat().st_ino != before
    assert [each.name for each in folder.iterdir()] == [path.name]


def test_a_registry_that_cannot_be_written_is_an_error(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = MountRecord(info(), folder, interval=0)
    shutil.rmtree(folder)
    folder.touch()
    for status in (BUSY, MountStatus(), BUSY):
        record.update(status)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    with pytest.raises(MountError, match="cannot be written"):
        MountRecord(info(), folder)


def test_a_record_without_daemon_and_mount_is_removed(folder: Path) -> None:
    MountRecord(info(), folder)
    mount_registry.list_mounts(folder)
    assert len(list(folder.iterdir())) == 1  # kept, because this process wrote it and is running
    ended = subprocess.Popen(["true"])
    ended.wait(60)
    change(folder, pid=ended.pid)
    mount_registry.list_mounts(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("change_of", [{"boot": "another"}, {"started": 1}])
def test_a_reused_pid_is_not_the_daemon(folder: Path, change_of: dict[str, object]) -> None:
    MountRecord(info(), folder)
    change(folder, **change_of)
    mount_registry.list_mounts(folder)
    assert list(folder.iterdir()) == []


def test_other_hosts_are_left_alone(folder: Path) -> None:
    MountRecord(info(), folder)
    change(folder, host="another", pid=1, boot="another")
    assert "/nowhere/mnt" not in [each.mountpoint for each in mount_registry.list_mounts(folder)]
    assert mount_registry.find_record("/nowhere/mnt", folder) is None
    assert len(list(folder.iterdir())) == 1


def test_invalid_records_are_ignored(folder: Path) -> None:
    folder.mkdir()
    for name, text in (("a", ""), ("b", "[]"), ("c", "{}")):
        (folder / f"{name}.json").write_text(text)
    mount_registry.list_mounts(folder)
    assert len(list(folder.iterdir())) == 3


def test_another_daemons_record_is_not_removed(folder: Path) -> None:
    record = MountRecord(info(), folder)
    change(folder, pid=1)
    record.remove()
    assert len(list(folder.iterdir())) == 1
    mount_registry.remove_record("/nowhere/mnt", folder)
    assert list(folder.iterdir()) == []


def test_the_start_of_a_process_identifies_it() -> None:
    assert start_ticks_of(os.getpid()) == start_ticks_of(os.getpid())
    child = subprocess.Popen(["true"])
    child.wait(60)
    assert start_ticks_of(child.pid) is None

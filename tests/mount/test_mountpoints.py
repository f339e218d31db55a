"""Checks of the mount point."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from onefs.errors import MountError, UsageError
from onefs.mount import mountpoints


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    place = mountpoints.prepare_mountpoint(tmp_path / "a" / "b")
    assert place == mountpoints.PreparedMountpoint(str(tmp_path / "a" / "b"), made=True)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert not mountpoints.prepare_mountpoint(tmp_path / "a" / "b").made


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert mountpoints.prepare_mountpoint(tmp_path / "link").path == str(tmp_path / "real")


def test_unusable_mount_points_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file cannot be the mount point: Not a directory"):
        mountpoints.prepare_mountpoint(tmp_path / "file")
    with pytest.raises(UsageError, match="Not a directory"):
        mountpoints.prepare_mountpoint(tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="not empty"):
        mountpoints.prepare_mountpoint(tmp_path)


@pytest.mark.parametrize("name", ["mnt\r", "a\nb", "\x1b[2J", "c\x7f/below"])
def test_control_characters_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="control character") as caught:
        mountpoints.prepare_mountpoint(tmp_path / name)
    assert str(caught.value).isprintable()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o555)
    with pytest.raises(UsageError, match="Permission denied"):
        mountpoints.prepare_mountpoint(tmp_path / "theirs" / "new")
    with pytest.raises(UsageError, match="not yours"):
        mountpoints.prepare_mountpoint(tmp_path / "theirs")


@pytest.mark.parametrize("name", ["mnt", "mnt/cache", "mnt/logs/onefs.log"])
def test_folders_of_the_daemon_inside_the_mount_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="inside the mount point"):
        mountpoints.check_outside_mountpoint(
            tmp_path / "mnt", tmp_path / "elsewhere", tmp_path / name
        )


def test_a_mount_inside_folders_of_the_daemon_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The mount point .* is inside"):
        mountpoints.check_outside_mountpoint(tmp_path / "cache" / "mnt", tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "link").symlink_to("cache")
    with pytest.raises(UsageError, match=r"The mount point .* is inside"):
        mountpoints.check_outside_mountpoint(tmp_path / "link" / "mnt", tmp_path / "cache")
    mountpoints.check_outside_mountpoint(tmp_path / "cache-mnt", tmp_path / "cache")


def test_allow_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "fuse.conf"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for text in ("#user_allow_other\n", "mount_max = 10\n"):
        conf.write_text(text)
        with pytest.raises(MountError, match="user_allow_other"):
            mountpoints.check_allow_other(conf)
    conf.write_text("# a comment\n user_allow_other\n")
    mountpoints.check_allow_other(conf)

"""Mounts of onefs are found in the kernel's table of mounts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from onefs.lowlevel import filesystems
from onefs.lowlevel.mountinfo import read_mounts
from onefs.mount import kernel_mounts
from tests.running import umount

TABLE = r"""
24 1 254:0 / / rw,relatime - ext4 /dev/root rw,errors=remount-ro
40 24 0:38 / /home/a\040b\134c\011d rw shared:7 master:2 - fuse.onefs onefs:x:80 ro,user_id=1000
41 24 0:39 / /mnt/x rw - tmpfs none rw
42 41 0:40 / /mnt/x ro,nodev - fuse.onefs onefs:localhost ro,user_id=0,group_id=0,allow_other
43 24 0:41 / /mnt/sshfs rw - fuse.sshfs user@host:\134x rw,user_id=1000
""".lstrip()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


def test_fields_and_escapes(table: Path) -> None:
    found = read_mounts(table)
    assert [mount.mountpoint for mount in found][1] == "/home/a b\\c\td"
    assert [mount.is_onefs for mount in found] == [False, True, False, True, False]
    assert (found[1].source, found[1].uid) == ("onefs:x:80", 1000)
    assert (found[4].source, found[0].uid) == ("user@host:\\x", None)


def test_names_that_are_not_utf8(table: Path) -> None:
    table.write_bytes(b"1 1 0:1 / /mnt/caf\xe9 rw - tmpfs none rw\n")
    assert os.fsencode(read_mounts(table)[0].mountpoint) == b"/mnt/caf\xe9"


def test_a_carriage_return_in_a_name(table: Path) -> None:
    table.write_bytes(b"1 1 0:1 / /mnt/a\rb\x0cc rw - tmpfs none rw\n\rrubbish\n" + TABLE.encode())
    found = [mount.mountpoint for mount in read_mounts(table)]
    assert found[0] == "/mnt/a\rb\x0cc"
    assert len(found) == 6


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount what is not FUSE")
def test_a_foreign_mount_at_a_carriage_return(tmp_path: Path) -> None:
    place = tmp_path / "mnt\r"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True, timeout=60)
    try:
        found = kernel_mounts.find_mount(str(place))
        assert found is not None
        assert found.fstype == "tmpfs"
        assert filesystems.network_filesystem_type(place / "below") == ""
    finally:
        umount(place)


def test_the_topmost_mount_is_returned(table: Path) -> None:
    found = kernel_mounts.find_mount("/mnt/x", table)
    assert found is not None
    assert found.source == "onefs:localhost"
    assert kernel_mounts.find_mount("/mnt", table) is None


def test_the_machines_own_table_is_read() -> None:
    # "/" is not in it for a process in a chroot
    assert any(mount.mountpoint == "/proc" for mount in read_mounts())

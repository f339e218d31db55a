"""Attributes as ``stat``, ``ls`` and ``getfattr`` show them."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.tree.nodes import inode_of_path
from tests.mount.conftest import Mounted

MTIME = 1_566_390_000.25


@pytest.fixture
def filled(root: Path, mount: Callable[..., Mounted]) -> Mounted:
    (root / "folder").mkdir()
    (root / "folder" / "file.npy").write_bytes(b"x" * 1000)
    (root / "empty").touch()
    (root / "unsized.bin").write_bytes(b"y" * 10)
    (root / "link").symlink_to("folder/file.npy")
    os.utime(root / "folder" / "file.npy", (0, MTIME))
    return mount(xattrs={"/folder/file.npy": {"user.onefs.eid": "é" * 3, "user.onefs.qc": ""}})


def test_a_file_has_size_mode_and_time(filled: Mounted) -> None:
    found = (filled.path / "folder" / "file.npy").stat()
    assert stat.filemode(found.st_mode) == "-rw-r--r--"
    assert (found.st_size, found.st_nlink) == (1000, 1)
    assert found.st_blocks == 2  # if it were 0, tar --sparse would archive zeros
    assert found.st_blksize >= 128 * 1024
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert found.st_ino == inode_of_path("folder/file.npy")
    assert found.st_mtime == found.st_ctime == found.st_atime == MTIME


def test_folders_and_the_root_have_their_attributes(filled: Mounted) -> None:
    for place in (filled.path, filled.path / "folder"):
        found = place.stat()
        assert stat.filemode(found.st_mode) == "drwxr-xr-x"
        assert found.st_nlink == 1
    assert filled.path.stat().st_ino == inode_of_path(".")


def test_umask_uid_and_gid(filled: Mounted, mount: Callable[..., Mounted]) -> None:
    shown = mount("shown", umask=0o027, uid=1234, gid=5678)
    kinds = {"folder": "drwxr-x---", "folder/file.npy": "-rw-r-----", "link": "lrwxrwxrwx"}
    for name, mode in kinds.items():
        found = (shown.path / name).lstat()
        assert (stat.filemode(found.st_mode), found.st_uid, found.st_gid) == (mode, 1234, 5678)
    listed = {each.name: each.stat(follow_symlinks=False) for each in os.scandir(shown.path)}
    assert stat.filemode(listed["empty"].st_mode) == "-rw-r-----"


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "日" * 85, "\udce9" * 255])
def test_a_name_of_the_maximum_length_is_usable(
    root: Path, mount: Callable[..., Mounted], name: str
) -> None:
    (root / name).write_bytes(b"bytes")
    mounted = mount()
    assert (mounted.path / name).read_bytes() == b"bytes"
    with pytest.raises(FileNotFoundError):
        (mounted.path / f"{name[:-1]}x").stat()


def test_a_link_has_its_target(filled: Mounted) -> None:
    link = filled.path / "link"
    found = link.lstat()
    assert stat.filemode(found.st_mode) == "lrwxrwxrwx"
    assert found.st_size == len("folder/file.npy")
    assert os.readlink(link) == "folder/file.npy"
    assert link.read_bytes() == b"x" * 1000


def test_statfs_shows_the_space_of_the_disk(filled: Mounted) -> None:
    space = os.statvfs(filled.path)
    assert space.f_namemax == 255
    assert space.f_blocks * space.f_frsize == 1 << 40
    assert space.f_bavail * space.f_frsize == 1 << 39
    assert space.f_flag & os.ST_RDONLY


def test_inodes_survive_a_remount(filled: Mounted, mount: Callable[..., Mounted]) -> None:
    again = mount("again")
    before = {entry.name: entry.inode() for entry in os.scandir(filled.path)}
    assert {entry.name: entry.inode() for entry in os.scandir(again.path)} == before
    assert before["folder"] == (filled.path / "folder").stat().st_ino


def test_dot_and_dotdot_come_first(filled: Mounted) -> None:
    listed = subprocess.check_output(["ls", "-f", filled.path], text=True, timeout=60).split()
    assert listed == [".", "..", "empty", "folder", "link", "unsized.bin"]


def test_a_listing_includes_the_attributes(root: Path, mount: Callable[..., Mounted]) -> None:
    (root / "many").mkdir()
    names = [f"{number:04}.npy" for number in range(1000)]
    for number, name in enumerate(names):
        (root / "many" / name).write_bytes(b"x" * number)
    mounted = mount()
    before = mounted.calls()
    listed = sorted(os.listdir(mounted.path / "many"))
    sizes = [(mounted.path / "many" / name).stat().st_size for name in listed]
    asked = mounted.since(before)
    assert listed == names
    assert sizes == list(range(1000))
    assert asked["children"] == 1
    assert asked["node"] < 10  # only the folders are looked up, not the files


def test_an_unknown_size_is_looked_up(filled: Mounted) -> None:
    assert "unsized.bin" in os.listdir(filled.path)
    assert (filled.path / "unsized.bin").stat().st_size == 10


def test_rewinding_reads_the_folder_again(filled: Mounted) -> None:
    fd = os.open(filled.path, os.O_RDONLY)
    try:
        before = os.listdir(fd)
        (filled.root / "new").touch()
        assert os.listdir(fd) == sorted([*before, "new"])
    finally:
        os.close(fd)


def test_a_name_that_is_not_utf8(root: Path, mount: Callable[..., Mounted]) -> None:
    name = b"caf\xe9.npy"
    (root / os.fsdecode(name)).write_bytes(b"bytes")
    mounted = mount()
    assert os.listdir(os.fsencode(mounted.path)) == [name]
    assert Path(os.fsdecode(os.fsencode(mounted.path) + b"/" + name)).read_bytes() == b"bytes"


def test_xattrs_are_listed_and_read(filled: Mounted) -> None:
    file = filled.path / "folder" / "file.npy"
    assert sorted(os.listxattr(file)) == ["user.onefs.eid", "user.onefs.qc"]
    assert os.getxattr(file, "user.onefs.eid").decode() == "é" * 3
    assert os.getxattr(file, "user.onefs.qc") == b""
    assert os.listxattr(filled.path / "empty") == []
    tool = ["getfattr", "--absolute-names", "-n", "user.onefs.eid", "--only-values", str(file)]
    assert subprocess.check_output(tool, text=True, timeout=60) == "é" * 3


@pytest.mark.parametrize("name", ["user.onefs.nothing", "security.selinux", "user.other"])
def test_other_xattrs_are_enodata(filled: Mounted, name: str) -> None:
    file = filled.path / "folder" / "file.npy"
    file.stat()
    before = filled.calls()
    with pytest.raises(OSError, match="No data available") as caught:
        os.getxattr(file, name)
    assert caught.value.errno == errno.ENODATA
    asked = filled.since(before)
    assert asked["node"] == 0
    assert asked.get("xattrs", 0) == (1 if name.startswith("user.onefs.") else 0)


def test_a_missing_name_is_enoent(filled: Mounted) -> None:
    with pytest.raises(FileNotFoundError):
        (filled.path / "nothing").stat()
    with pytest.raises(NotADirectoryError):
        os.listdir(filled.path / "empty")

"""File handles, by which an NFS server names files: they are good for one mount."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from tests.running import Home

_MOST_BYTES = 128
_AT_FDCWD = -100


class _Handle(ctypes.Structure):
    """``struct file_handle``."""

    _fields_ = (
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("handle", ctypes.c_ubyte * _MOST_BYTES),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def handle_of(path: Path) -> _Handle:
    found, mount = _Handle(bytes=_MOST_BYTES), ctypes.c_int()
    name = os.fsencode(path)
    answer = _libc.name_to_handle_at(_AT_FDCWD, name, ctypes.byref(found), ctypes.byref(mount), 0)
    assert answer == 0, os.strerror(ctypes.get_errno())
    return found


def path_of(handle: _Handle, mount: Path) -> Path | None:
    """What a handle opens in a mount; None when it is stale."""
    top = os.open(mount, os.O_RDONLY)
    try:
        found = _libc.open_by_handle_at(top, ctypes.byref(handle), os.O_RDONLY)
        number = ctypes.get_errno()
    finally:
        os.close(top)
    if found < 0:
        assert number == errno.ESTALE, os.strerror(number)
        return None
    try:
        return Path(os.readlink(f"/proc/self/fd/{found}"))
    finally:
        os.close(found)


@pytest.mark.parametrize("flags", [[], ["--inode32"]], ids=["long", "inode32"])
def test_a_handle_is_good_for_one_mount(home: Home, flags: list[str]) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may open files by their handles")
    mounted = home.mount("--demo", *flags)
    file = mounted.path / "mainenlab/clns0730/2018-08-24/001/spikes.times.npy"
    handle = handle_of(file)
    assert path_of(handle, mounted.path) == file
    mounted.umount()
    again = home.mount("--demo", *flags)
    assert path_of(handle, again.path) is None
    for folder, _, names in os.walk(again.path / "cortexlab"):
        for name in names:
            os.lstat(os.path.join(folder, name))
    # libfuse numbers what is looked up from 1 on: the handle may be that of another file now
    assert path_of(handle, again.path) != file

"""Read-only mounts that do as little as Python can, to measure the cost of mfusepy itself.

usage: python -m scripts.benchmarks.bare_mounts loop FOLDER MOUNTPOINT
       python -m scripts.benchmarks.bare_mounts tree SHAPE MOUNTPOINT
       python -m scripts.benchmarks.bare_mounts plus SHAPE MOUNTPOINT

``loop`` shows a folder. ``tree`` shows folders and empty files in memory: a line of the file SHAPE
is what ``find -printf '%y %s %P'`` prints of one of them. ``plus`` shows the same, and gives the
kernel the attributes with the names, as onefs does. The kernel keeps names as long as onefs's.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onefs.mount.libfuse import load_mfusepy

#: seconds for which the kernel keeps names and attributes
_TIMEOUTS = {"entry_timeout": 60, "attr_timeout": 60, "negative_timeout": 2}
_FILL_DIR_PLUS = 2
#: FUSE_CAP_READDIRPLUS_AUTO, see ``onefs/mount/fuse.py``
_READDIRPLUS_AUTO = 1 << 14
_SECOND = 1_000_000_000
#: number, mode and size
Entry = tuple[int, int, int]

mfusepy: Any = load_mfusepy()


class Loop(mfusepy.Operations):  # type: ignore[misc]
    """A folder, as it is."""

    use_ns = True

    def __init__(self, root: str) -> None:
        self._root = root

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._root + path) if fh is None else os.fstat(fh)
        names = ("st_mode", "st_ino", "st_nlink", "st_size", "st_uid", "st_gid")
        times = {f"st_{name}time": getattr(found, f"st_{name}time_ns") for name in "mac"}
        return {**{name: getattr(found, name) for name in names}, **times}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._root + path)]

    def open(self, path: str, flags: int) -> int:
        return os.open(self._root + path, flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


class Tree(mfusepy.Operations):  # type: ignore[misc]
    """Folders and files in memory."""

    use_ns = True

    def __init__(self, shape: Path) -> None:
        self.folders: dict[str, dict[str, Entry]] = {"/": {}}
        kinds = {"d": stat.S_IFDIR | 0o755, "f": stat.S_IFREG | 0o644, "l": stat.S_IFREG | 0o644}
        lines = os.fsdecode(shape.read_bytes()).splitlines()
        for number, line in enumerate(lines, 2):
            kind, size, path = line.split(" ", 2)
            if not path:
                continue
            parent, _, name = f"/{path}".rpartition("/")
            self.folders[parent or "/"][name] = (number, kinds[kind], int(size))
            if kind == "d":
                self.folders[f"/{path}"] = {}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return _attributes((1, stat.S_IFDIR | 0o755, 0))
        parent, _, name = path.rpartition("/")
        try:
            return _attributes(self.folders[parent or "/"][name])
        except KeyError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, Any], int]]:
        yield ".", {}, 0
        yield "..", {}, 0
        for name, entry in self.folders[path].items():
            yield name, _attributes(entry), 0

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        raise mfusepy.FuseOSError(errno.ENODATA)


class Plus(mfusepy.FUSE):  # type: ignore[misc]
    """A mount of a tree whose listings come with the attributes."""

    def _init(self, conn: Any, config: Any) -> None:
        conn.contents.want &= ~_READDIRPLUS_AUTO

    def readdir_fuse_3(
        self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any, flags: int
    ) -> None:
        this = (1, stat.S_IFDIR | 0o755, 0)
        entries = [(".", this), ("..", this), *self.operations.folders[os.fsdecode(path)].items()]
        found = mfusepy.c_stat()
        found.st_nlink = 1
        found.st_mtimespec.tv_sec = _SECOND
        for place in range(offset, len(entries)):
            name, (found.st_ino, found.st_mode, found.st_size) = entries[place]
            if filler(buf, os.fsencode(name), found, place + 1, _FILL_DIR_PLUS):
                return


def _attributes(entry: Entry) -> dict[str, Any]:
    number, mode, size = entry
    return {
        "st_ino": number,
        "st_mode": mode,
        "st_size": size,
        "st_nlink": 1,
        "st_mtime": _SECOND * _SECOND,
    }


def main(kind: str, source: str, mountpoint: str) -> None:
    """Serve a mount until it is undone."""
    operations = Loop(source) if kind == "loop" else Tree(Path(source))
    fuse = Plus if kind == "plus" else mfusepy.FUSE
    options = {"foreground": True, "ro": True, "use_ino": True, "fsname": "bare:"}
    fuse(operations, mountpoint, **options, **_TIMEOUTS)


if __name__ == "__main__":
    main(*sys.argv[1:])

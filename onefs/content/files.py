"""What is done to whole files of the cache folder. Raises OSError unless something else is said."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def stamp(found: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file is replaced or written to: its inode, size and mtime."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def rename(source: Path, target: Path) -> None:
    """Give a file another name, in a folder that may have to be made first."""
    try:
        os.replace(source, target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


def remove_folder(folder: Path) -> None:
    """Remove a folder of files, if that is possible."""
    for path in folder.iterdir():
        remove(path)
    with suppress(OSError):
        folder.rmdir()


def sync(path: Path) -> None:
    """Have the bytes of a file on the disk for good."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file of ours that may not be there."""
    with suppress(OSError):
        path.unlink()

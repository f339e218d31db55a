"""Invalidation of the kernel's page cache for files in running mounts."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

from onefs import alf
from onefs.mount.mount_registry import list_mounts


def drop_pages(cache_dir: Path, path: str) -> None:
    """Make the kernel drop its cached pages of a file, in each mount of a cache folder.

    ``path`` is the file's path in the cache folder: ``lab/Subjects/subject/...``. Pages that are in
    use stay.
    """
    parts = alf.parts_in_tree(PurePosixPath(path).parts)
    for mount in list_mounts():
        if mount.pid is None or mount.cache_dir != str(cache_dir):
            continue
        with suppress(OSError):
            descriptor = os.open(Path(mount.mountpoint, *parts), os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

"""One lock a dataset, between threads' downloads and between processes that share a cache folder.

Byte-range locks of the open-file-description kind (``F_OFD_SETLK``) on one file: the kernel frees
them when a process dies, and nothing is left behind to clean.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.errors import DeadlineExceeded

#: seconds between two tries to get a lock that another process holds
POLL = 0.05


@contextmanager
def dataset_lock(
    path: Path, dataset_id: str, deadline: float, wanted: Callable[[], bool]
) -> Iterator[None]:
    """Hold the lock of one dataset on the lock file ``path``.

    Waits at most ``deadline`` seconds, and stops waiting when ``wanted`` says so: raises
    DeadlineExceeded in both cases.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + deadline
        while not _try_lock(descriptor, dataset_id):
            if time.monotonic() > end or not wanted():
                raise DeadlineExceeded(f"another process has been fetching {dataset_id} for long")
            time.sleep(POLL)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, dataset_id: str) -> bool:
    # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for this kind of lock)
    start = uuid.UUID(dataset_id).int % (1 << 62)
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except (BlockingIOError, PermissionError):
        return False
    return True

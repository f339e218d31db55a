"""What all tests share."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

import pytest

from onefs.errors import MountError
from onefs.mount import libfuse

#: set by CI, where a machine that cannot mount is a failure
_REQUIRED = "ONEFS_REQUIRE_FUSE"
#: glibc's mallopt. Tests start many threads, and each arena keeps what its thread has freed: with
#: two of them, and large blocks given back, a process that runs tests stays at half of its size
_ARENA_MAX, _MMAP_THRESHOLD = (-8, 2), (-3, 1 << 20)


def pytest_configure() -> None:
    """See :data:`_ARENA_MAX`; and have Ctrl-C end the programs that tests start.

    A shell has what it starts in the background ignore it, and their children too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(*_ARENA_MAX)
        mallopt(*_MMAP_THRESHOLD)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def fuse() -> None:
    """Skip where nothing can be mounted, or fail where it must be possible."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mounts are for Linux")
    try:
        libfuse.check_can_mount()
    except MountError as error:
        if os.environ.get(_REQUIRED) == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))

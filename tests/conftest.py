"""Fixtures and settings of all tests."""

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
    """Set :data:`_ARENA_MAX`, and make Ctrl-C end the programs that tests start.

    Programs that a shell starts in the background ignore it, and so do their children.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(*_ARENA_MAX)
        mallopt(*_MMAP_THRESHOLD)


def pytest_collection_finish() -> None:
    """Exclude the modules imported so far from garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs that the test starts load no modules that measure coverage."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session")
def fuse() -> None:
    """Skip the test if no mount is possible; fail it if one must be possible."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mounts are for Linux")
    try:
        libfuse.check_can_mount()
    except MountError as error:
        if os.environ.get(_REQUIRED) == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))

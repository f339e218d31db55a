"""libfuse 3 is preferred to libfuse 2, and there is a clear error if neither is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onefs.errors import MountError
from onefs.mount import libfuse


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FUSE_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_libfuse_3_is_chosen_if_both_are_installed(fuse: None) -> None:
    found = run("from onefs.mount.fuse import LIBFUSE_VERSION; print(LIBFUSE_VERSION[0])")
    assert found.stdout == "3\n", found.stderr


def test_without_libfuse_the_error_says_what_to_install() -> None:
    done = run("import onefs.mount.fuse", FUSE_LIBRARY_PATH="libnothing.so.3")
    assert "MountError: libfuse cannot be used" in done.stderr
    assert "sudo apt-get install fuse3" in done.stderr


def test_the_failure_is_reported_while_its_thread_still_ends() -> None:
    code = (
        "import time; from onefs.mount.daemon_config import DaemonConfig;"
        "from onefs.mount.loop import MountLoop;"
        "MountLoop(None, DaemonConfig('/nowhere', 'x'), on_end=lambda: time.sleep(2))"
        ".start(30)"
    )
    done = run(code, FUSE_LIBRARY_PATH="libnothing.so.3")
    assert "/nowhere could not be mounted: libfuse cannot be used" in done.stderr


def test_without_a_fuse_device_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="modprobe fuse"):
        libfuse.check_can_mount(str(tmp_path / "fuse"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root opens every device")
def test_without_access_to_the_device_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "fuse").touch(mode=0)
    with pytest.raises(MountError, match="chmod 0666"):
        libfuse.check_can_mount(str(tmp_path / "fuse"))


THREADS = """
import ctypes
from onefs.mount.libfuse import PinnedThreadStates

libc, python, state = ctypes.CDLL(None), ctypes.pythonapi, ctypes.c_void_p
for function in (python.PyInterpreterState_Get, python.PyInterpreterState_ThreadHead):
    function.restype = state
python.PyThreadState_Next.restype = state
interpreter = state(python.PyInterpreterState_Get())

def states():
    found, number = python.PyInterpreterState_ThreadHead(interpreter), 0
    while found:
        found, number = python.PyThreadState_Next(state(found)), number + 1
    return number

pinned = PinnedThreadStates()
callback = ctypes.CFUNCTYPE(state, state)(lambda _: pinned.pin())
before = states()
for _ in range(20):
    thread = ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(thread), None, callback, None)
    libc.pthread_join(thread, None)
print(states() - before)
"""


def test_an_ended_libfuse_thread_leaves_no_thread_state() -> None:
    done = run(THREADS)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_other_modules_of_mount_load_no_libfuse() -> None:
    code = (
        "import sys; import onefs.mount.daemon, onefs.mount.loop, onefs.mount.mount_registry;"
        "print('mfusepy' in sys.modules)"
    )
    assert run(code).stdout == "False\n"

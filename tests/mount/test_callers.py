"""The programs that request operations."""

from __future__ import annotations

import os
import subprocess
import threading

from onefs.mount.callers import UNKNOWN_CALLER, caller_of
from tests.running import wait_until


def test_the_names_and_the_process_of_a_thread() -> None:
    found: list[int] = []
    ended = threading.Event()

    def run() -> None:
        found.append(threading.get_native_id())
        ended.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: bool(found))
    caller = caller_of(found[0])
    ended.set()
    thread.join()
    assert caller.process == os.getpid()
    assert caller.names[-1] == caller_of(os.getpid()).names[0]
    assert len(caller.names) == 2


def test_a_thread_that_proc_does_not_show() -> None:
    assert caller_of(0) == caller_of(-1) == UNKNOWN_CALLER
    with subprocess.Popen(["true"]) as process:
        process.wait(60)
    assert caller_of(process.pid) == UNKNOWN_CALLER


def test_a_new_name_of_a_process_is_noticed() -> None:
    with subprocess.Popen(
        ["sh", "-c", "read go; exec sleep 300"], stdin=subprocess.PIPE
    ) as process:
        wait_until(lambda: caller_of(process.pid).names == ("sh",))
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        wait_until(lambda: caller_of(process.pid).names == ("sleep",))
        process.kill()

"""The processes whose reads the sibling prefetcher remembers."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import ExitStack

from onefs.mount.sibling_prefetcher import SiblingPrefetcher


class Sessions:
    """A source of siblings that records the folders whose session is asked for."""

    max_size = 1000

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.was_asked = threading.Event()

    def session_folder(self, folder: str) -> str:
        """See :class:`onefs.mount.sibling_prefetcher.SiblingSource`."""
        self.folders.append(folder)
        self.was_asked.set()
        return ""

    def budget(self, unread: int, reading: str) -> int:
        """See :class:`onefs.mount.sibling_prefetcher.SiblingSource`."""
        return 0

    def fetch(self, path: str) -> bool:
        """See :class:`onefs.mount.sibling_prefetcher.SiblingSource`."""
        raise AssertionError(path)


def test_a_process_that_reads_now_and_then_is_remembered_among_many() -> None:
    source, caller = Sessions(), os.getpid()
    prefetcher = SiblingPrefetcher(source, caller_thread=lambda: caller)
    with ExitStack() as stack:
        stack.callback(prefetcher.close)
        shell = stack.enter_context(
            subprocess.Popen(
                ["sh", "-c", "for i in $(seq 80); do sleep 300 & echo $!; done; wait"],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        stack.callback(os.killpg, shell.pid, signal.SIGKILL)
        assert shell.stdout is not None
        others = [int(shell.stdout.readline()) for _ in range(80)]
        for number in range(3):
            caller = os.getpid()
            prefetcher.note_cold_read(f"/ours/{number}", 10)
            for caller in others[number * 40 : number * 40 + 40]:
                prefetcher.note_cold_read(f"/theirs/{caller}", 10)
        assert source.was_asked.wait(60)
    assert source.folders == ["/ours"]


def test_reads_beside_those_of_other_programs_do_not_count() -> None:
    source, others_wait = Sessions(), True
    prefetcher = SiblingPrefetcher(
        source, caller_thread=os.getpid, waits_for_others=lambda path: others_wait
    )
    try:
        for number in range(5):
            prefetcher.note_cold_read(f"/ours/{number}", 10)
        others_wait = False
        for number in range(5, 7):
            prefetcher.note_cold_read(f"/ours/{number}", 10)
        others_wait = True
        prefetcher.note_cold_read("/ours/7", 10)
        assert not [each for each in threading.enumerate() if "onefs-sibling" in each.name]
        others_wait = False
        for number in range(8, 11):
            assert not source.folders
            prefetcher.note_cold_read(f"/ours/{number}", 10)
        assert source.was_asked.wait(60)
    finally:
        prefetcher.close()
    assert source.folders == ["/ours"]

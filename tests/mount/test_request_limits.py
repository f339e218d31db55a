"""The number of waiting reads is limited, and an open file returns the right extents."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from onefs.errors import BadContent, Busy
from onefs.mount import request_limits
from onefs.mount.file_handle import Extent, FileHandle
from onefs.mount.request_limits import WaitingReads
from tests.mount.folder_tree import FolderTree
from tests.running import wait_until


@pytest.fixture
def tree(tmp_path: Path) -> FolderTree:
    for name in ("good", "stalled", "short"):
        (tmp_path / name).write_bytes(b"0123456789")
    return FolderTree(tmp_path, deadline=20)


def test_a_read_above_the_limit_is_refused(tree: FolderTree) -> None:
    waiting = WaitingReads(1)
    first = FileHandle("/file", *tree.open("/stalled"), waiting)
    second = FileHandle("/file", *tree.open("/stalled"), waiting)
    good = FileHandle("/file", *tree.open("/good"), waiting)
    failed: list[Exception] = []

    def read() -> None:
        try:
            first.extent(0, 10)
        except Exception as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(lambda: tree.calls["stuck"] == 1)
        with pytest.raises(Busy, match="1 reads are waiting for the server, and no more"):
            second.extent(0, 10)
        assert good.read(2, 100) == b"23456789"
    finally:
        tree.stop()
        reader.join(60)
    assert [type(error).__name__ for error in failed] == ["Stopping"]
    with waiting.hold_slot():  # the slot is free again
        pass


def test_extents_end_with_the_file(tree: FolderTree) -> None:
    opened = FileHandle("/file", *tree.open("/good"), WaitingReads())
    extent = opened.extent(4, 100)
    assert (extent.offset, extent.length) == (4, 6)
    assert opened.extent(10, 5) == Extent(-1, 10, 0)
    assert opened.extent(11, 5).length == 0
    assert opened.read(10, 5) == b""


def test_a_cached_file_that_is_too_short_is_bad_content(tree: FolderTree) -> None:
    opened = FileHandle("/file", *tree.open("/short"), WaitingReads())
    # a short file is not the verified file, so even reads of bytes that exist are refused
    for length in (10, 11):
        with pytest.raises(BadContent, match="has 10 bytes, but must have 20"):
            opened.extent(0, length)


def test_the_limit_of_waiting_reads_follows_that_of_the_kernel(tmp_path: Path) -> None:
    allowed = tmp_path / "max_user_bgreq"
    assert request_limits.waiting_read_limit(allowed) == request_limits.MAX_WAITING_READS
    for text, wanted in (
        ("7866\n", request_limits.MAX_WAITING_READS),
        ("330\n", 298),
        ("10\n", 1),
        ("", 800),
    ):
        allowed.write_text(text)
        assert request_limits.waiting_read_limit(allowed) == wanted


def test_the_limits_leave_threads_for_cached_files() -> None:
    assert (
        request_limits.MAX_WAITING_READS
        < request_limits.MAX_BACKGROUND_REQUESTS
        < request_limits.MAX_THREADS
    )


def test_the_reads_of_other_files_that_wait() -> None:
    waiting = WaitingReads()
    assert not waiting.has_others("/a")
    with waiting.hold_slot("/a"), waiting.hold_slot("/a"):
        assert not waiting.has_others("/a")
        assert waiting.has_others("/b")
        with waiting.hold_slot("/b"):
            assert waiting.has_others("/a")
        assert not waiting.has_others("/a")
    assert not waiting.has_others("/b")

"""The kernel's read-ahead is wide for complete files, if this user may set its width."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.mount import kernel_mounts
from onefs.mount.kernel_readahead import _BDI_FOLDER, WIDE_KIB, KernelReadahead
from tests.mount.conftest import Mounted
from tests.running import wait_until

SIZE = 12 << 20


def _setting(devices: Path, mounted: Mounted) -> Path:
    found = kernel_mounts.find_mount(str(mounted.path))
    assert found is not None
    return devices / found.device / "read_ahead_kb"


def test_complete_files_are_read_in_longer_requests_than_files_that_are_fetched_in_parts(
    root: Path, mount: Callable[..., Mounted]
) -> None:
    for name in ("parts.bin", "whole.bin"):
        (root / name).write_bytes(bytes(SIZE))
    mounted = mount()
    if not os.access(_setting(_BDI_FOLDER, mounted), os.W_OK):
        pytest.skip("only root may, where /sys is writable")
    default = int(_setting(_BDI_FOLDER, mounted).read_text())

    def requests(name: str) -> int:
        descriptor = os.open(mounted.path / name, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            before = mounted.calls()
            for offset in range(0, SIZE, 64 << 10):
                os.pread(descriptor, 64 << 10, offset)
            return mounted.since(before)["fd"]
        finally:
            os.close(descriptor)

    wait_until(lambda: requests("whole.bin") <= SIZE // (WIDE_KIB << 10) + 8, what="long requests")
    assert requests("parts.bin") >= SIZE // (default << 10)
    assert requests("whole.bin") <= SIZE // (WIDE_KIB << 10) + 8


def test_a_wider_read_ahead_stays_and_a_forbidden_one_is_not_an_error(
    mounted: Mounted, tmp_path: Path
) -> None:
    setting = _setting(tmp_path, mounted)
    readahead = KernelReadahead()
    readahead.set_width(in_parts=True)
    assert not readahead.attach(str(mounted.path), tmp_path)
    setting.parent.mkdir()
    setting.write_text("rubbish\n")
    assert not readahead.attach(str(mounted.path), tmp_path)
    setting.write_text("4096\n")
    assert readahead.attach(str(mounted.path), tmp_path)
    for in_parts in (False, True):
        readahead.set_width(in_parts=in_parts)
        assert setting.read_text() == "4096\n"
    setting.write_text("128\n")
    assert readahead.attach(str(mounted.path), tmp_path)
    for in_parts, kib in ((False, str(WIDE_KIB)), (True, "128"), (True, "128"), (False, "384")):
        readahead.set_width(in_parts=in_parts)
        assert setting.read_text().strip() == kib
    setting.unlink()
    setting.mkdir()
    for in_parts in (True, False, True):
        readahead.set_width(in_parts=in_parts)


def test_a_file_is_not_opened_before_its_width_is_set_by_another_thread(
    mounted: Mounted, tmp_path: Path
) -> None:
    setting = _setting(tmp_path, mounted)
    setting.parent.mkdir()
    setting.write_text("128\n")
    readahead = KernelReadahead()
    assert readahead.attach(str(mounted.path), tmp_path)
    setting.unlink()
    os.mkfifo(setting)  # who writes to it waits until it is read
    threads = [
        threading.Thread(target=readahead.set_width, kwargs={"in_parts": False}, daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.2)
        assert thread.is_alive()
    assert setting.read_text() == str(WIDE_KIB)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_folder_that_is_not_mounted_has_no_read_ahead(tmp_path: Path) -> None:
    assert not KernelReadahead().attach(str(tmp_path), tmp_path)


def test_the_documentation_names_the_width() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs/SEMANTICS.md").read_text("utf-8").split())
    assert f"{WIDE_KIB} KiB" in text

"""A stalled server does not delay operations that need no server, and the mount can be ended."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.conftest import Mounted
from tests.running import BUSY_SECONDS, drop_pages, wait_until, within

GOOD = 12
GOOD_SIZE = 4 << 20
#: a program that maps a file into memory and accesses its first byte. This access is a page fault,
#: and not a read that the kernel counts.
TOUCH = "import mmap, sys; f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 0, prot=1)[0]"


@pytest.fixture
def filled(root: Path, mount: Callable[..., Mounted]) -> Mounted:
    for number in range(200):
        with (root / f"stalled-{number}.bin").open("wb") as file:
            file.truncate(3_000_000)
    (root / "good").mkdir()
    for number in range(GOOD):
        (root / "good" / f"{number}.bin").write_bytes(os.urandom(GOOD_SIZE))
    return mount()


@contextmanager
def stuck(mounted: Mounted, commands: list[list[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the commands, which read stalled files. Run the block when all of them wait."""
    before = mounted.calls().get("stuck", 0)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    readers = [subprocess.Popen(command, **quiet) for command in commands]  # type: ignore[call-overload]
    try:
        wait_until(lambda: mounted.calls().get("stuck", 0) - before >= len(readers), 60)
        yield readers
    finally:
        for reader in readers:
            reader.kill()
        if not mounted.ended():
            os.kill(mounted.pid, signal.SIGTERM)
            wait_until(mounted.ended)
        for reader in readers:
            reader.wait(60)


def cats(mounted: Mounted, number: int) -> list[list[str]]:
    return [["cat", str(mounted.path / f"stalled-{each}.bin")] for each in range(number)]


def use(mounted: Mounted, run: str) -> None:
    """Repeatedly list a folder, look up a new name, and read a file whose pages are not cached."""
    good = mounted.path / "good"
    for number in range(GOOD):
        drop_pages(good / f"{number}.bin")
        subprocess.run(["ls", "-l", good], stdout=subprocess.DEVNULL, check=True, timeout=60)
        assert not (good / f"{run}-{number}").exists()
        assert len((good / f"{number}.bin").read_bytes()) == GOOD_SIZE


@pytest.mark.parametrize("readers", [14, 40, 200])
def test_reads_of_cached_files_are_not_delayed(filled: Mounted, readers: int) -> None:
    """While readers wait, other operations succeed and call the tree as often as before."""
    idle = calls_of(filled, lambda: use(filled, "idle"))
    with stuck(filled, cats(filled, readers)) as waiting:
        with within():  # fails if an operation waits for a stalled read, which takes a minute
            under = calls_of(filled, lambda: use(filled, "stuck"))
        assert all(reader.poll() is None for reader in waiting)
        assert filled.calls()["stuck"] >= readers
    assert under == idle


def test_page_faults_in_cached_files_are_not_delayed(filled: Mounted) -> None:
    files = [filled.path / f"stalled-{number}.bin" for number in range(40)]
    touching = [[sys.executable, "-S", "-c", TOUCH, str(file)] for file in files]
    with stuck(filled, touching) as waiting:
        with within():
            use(filled, "stuck")
        assert all(reader.poll() is None for reader in waiting)


def calls_of(mounted: Mounted, action: Callable[[], object]) -> dict[str, int]:
    """Return how often ``action`` causes calls of the tree's methods open and children.

    Calls that depend on the kernel's read-ahead are not counted.
    """
    before = mounted.calls()
    action()
    return {name: n for name, n in mounted.since(before).items() if name in ("open", "children")}


@pytest.mark.long
def test_a_reader_waits_for_one_deadline_only(root: Path, mount: Callable[..., Mounted]) -> None:
    (root / "stalled.bin").write_bytes(b"x" * 3_000_000)
    mounted = mount(deadline=8)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        (mounted.path / "stalled.bin").read_bytes()
    assert 7.9 < time.monotonic() - started < 15  # two deadlines would be 16 s
    # Later, a read waits for the bytes again.
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 0.6)
    fd = os.open(mounted.path / "stalled.bin", os.O_RDONLY | os.O_DIRECT)
    try:
        with pytest.raises(TimeoutError), mmap.mmap(-1, 4096) as buffer:
            os.preadv(fd, [buffer], 0)
    finally:
        os.close(fd)
    assert mounted.calls()["stuck"] >= 2


def test_sigterm_wakes_waiting_reads(filled: Mounted) -> None:
    with stuck(filled, cats(filled, 3)) as readers:
        os.kill(filled.pid, signal.SIGTERM)
        wait_until(filled.ended, BUSY_SECONDS)
        assert os.waitpid(filled.pid, 0) == (filled.pid, 0)
        assert [reader.wait(BUSY_SECONDS) for reader in readers] == [1, 1, 1]
    assert not os.path.ismount(filled.path)
    assert "the process exits" not in filled.log.read_text()


def test_the_daemon_ends_even_if_waits_do_not(root: Path, mount: Callable[..., Mounted]) -> None:
    (root / "stalled-0.bin").write_bytes(b"x" * 10)
    mounted = mount(stops=False)
    with stuck(mounted, cats(mounted, 1)) as readers:
        os.kill(mounted.pid, signal.SIGTERM)
        wait_until(mounted.ended)
        assert readers[0].wait(60) == 1
    assert not os.path.ismount(mounted.path)
    assert "the process exits" in mounted.log.read_text()


def test_a_woken_read_fails_with_its_error(filled: Mounted) -> None:
    command = (
        "import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "try: os.pread(fd, 10, 0)\nexcept OSError as e: sys.exit(e.errno)"
    )
    reader = [sys.executable, "-S", "-c", command, str(filled.path / "stalled-0.bin")]
    with stuck(filled, [reader]) as waiting:
        os.kill(filled.pid, signal.SIGTERM)
        # The read fails with the error Stopping, or with the error for the end of the mount if the
        # mount ends first.
        assert waiting[0].wait(60) in (errno.ESHUTDOWN, errno.ECONNABORTED, errno.ENOTCONN)

"""A server that stalls: what does not need it stays as quick as ever, and all ends."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.conftest import Mounted
from tests.running import drop_pages, wait_until

GOOD = 12
GOOD_SIZE = 4 << 20
#: maps a file and touches its first byte: a read that the kernel does not count
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
    """Start readers, and go on when each of them waits."""
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
            reader.wait(10)


def cats(mounted: Mounted, number: int) -> list[list[str]]:
    return [["cat", str(mounted.path / f"stalled-{each}.bin")] for each in range(number)]


def timings(mounted: Mounted, run: str) -> dict[str, list[float]]:
    """Seconds for a listing, the stat of a name never asked for, and a cold read."""
    good = mounted.path / "good"

    def listing(_number: int) -> None:
        subprocess.run(["ls", "-l", good], stdout=subprocess.DEVNULL, check=True, timeout=60)

    def missing(number: int) -> None:
        assert not (good / f"{run}-{number}").exists()

    def cold_read(number: int) -> None:
        assert len((good / f"{number}.bin").read_bytes()) == GOOD_SIZE

    taken: dict[str, list[float]] = {}
    for number in range(GOOD):
        drop_pages(good / f"{number}.bin")
        for action in (listing, missing, cold_read):
            started = time.perf_counter()
            action(number)
            taken.setdefault(action.__name__, []).append(time.perf_counter() - started)
    return taken


@pytest.mark.parametrize("readers", [14, 40, 200])
def test_others_do_not_notice(filled: Mounted, readers: int) -> None:
    idle = timings(filled, "idle")
    with stuck(filled, cats(filled, readers)) as waiting:
        under = timings(filled, "stuck")
        assert all(reader.poll() is None for reader in waiting)
    for action, taken in under.items():
        allowed = 3 * statistics.median(idle[action]) + 0.050
        assert statistics.median(taken) <= allowed, action
        assert max(taken) < 2.0, action


def test_others_do_not_notice_page_faults(filled: Mounted) -> None:
    idle = timings(filled, "idle")
    files = [filled.path / f"stalled-{number}.bin" for number in range(40)]
    with stuck(filled, [[sys.executable, "-S", "-c", TOUCH, str(file)] for file in files]):
        under = timings(filled, "stuck")
    for action, taken in under.items():
        assert statistics.median(taken) <= 3 * statistics.median(idle[action]) + 0.050, action


def test_a_reader_waits_for_one_deadline_only(root: Path, mount: Callable[..., Mounted]) -> None:
    (root / "stalled.bin").write_bytes(b"x" * 3_000_000)
    mounted = mount(deadline=3)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        (mounted.path / "stalled.bin").read_bytes()
    assert 2.9 < time.monotonic() - started < 5.5
    # Later, it is tried again.
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 0.6)
    fd = os.open(mounted.path / "stalled.bin", os.O_RDONLY | os.O_DIRECT)
    try:
        with pytest.raises(TimeoutError), mmap.mmap(-1, 4096) as buffer:
            os.preadv(fd, [buffer], 0)
    finally:
        os.close(fd)
    assert mounted.calls()["stuck"] >= 2


def test_sigterm_wakes_what_waits(filled: Mounted) -> None:
    with stuck(filled, cats(filled, 3)) as readers:
        started = time.monotonic()
        os.kill(filled.pid, signal.SIGTERM)
        wait_until(filled.ended)
        assert os.waitpid(filled.pid, 0) == (filled.pid, 0)
        assert [reader.wait(10) for reader in readers] == [1, 1, 1]
        assert time.monotonic() - started < 8
    assert not os.path.ismount(filled.path)


def test_the_daemon_ends_even_when_waits_do_not(root: Path, mount: Callable[..., Mounted]) -> None:
    (root / "stalled-0.bin").write_bytes(b"x" * 10)
    mounted = mount(stops=False)
    with stuck(mounted, cats(mounted, 1)) as readers:
        os.kill(mounted.pid, signal.SIGTERM)
        wait_until(mounted.ended, 15)
        assert readers[0].wait(10) == 1
    assert not os.path.ismount(mounted.path)
    assert "leaving without them" in mounted.log.read_text()


def test_the_error_of_a_read_that_is_woken(filled: Mounted) -> None:
    command = (
        "import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "try: os.pread(fd, 10, 0)\nexcept OSError as e: sys.exit(e.errno)"
    )
    reader = [sys.executable, "-S", "-c", command, str(filled.path / "stalled-0.bin")]
    with stuck(filled, [reader]) as waiting:
        os.kill(filled.pid, signal.SIGTERM)
        # Its own answer, or the end of the connection when that is quicker.
        assert waiting[0].wait(10) in (errno.ESHUTDOWN, errno.ECONNABORTED, errno.ENOTCONN)

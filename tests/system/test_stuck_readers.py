"""Readers that a silent server holds up do not hold up anybody else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from onefs.demo.folder import FolderLaboratory
from onefs.demo.serve import Servers
from tests.laboratories import Stalling, account
from tests.running import Home, Mounted, drop_pages, process, wait_until

SESSION = "lab/mouse/2021-03-04/001"
READERS = (14, 40, 200)
TIMES = 15
#: what stuck readers may cost others: this many times the idle median, and seconds
FACTOR, EXTRA = 3, 0.050
_READER = Path(__file__).parent / "stuck_readers.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One session: files that will be silent, a good one, and many that nobody has looked at."""
    folder = tmp_path_factory.mktemp("stuck")
    session = folder / "lab/Subjects/mouse/2021-03-04/001"
    for name, count in {"silent": max(READERS), "fresh": TIMES * (len(READERS) + 1)}.items():
        (session / name).mkdir(parents=True)
        for number in range(count):
            (session / name / f"raw.part{number:03d}.bin").write_bytes(bytes(300_000))
    (session / "alf").mkdir()
    np.save(session / "alf/good.times.npy", np.arange(250_000))
    return folder


@pytest.fixture(scope="module")
def mounted(shared_home: Home, folder: Path) -> Iterator[Mounted]:
    source = Stalling(FolderLaboratory(folder), "/silent/")
    with Servers(source) as servers:
        try:
            yield shared_home.mount(**account(servers))
        finally:
            source.release()


class Clock:
    """Measures the worst of what others do on a mount: list, ask for attributes, read."""

    def __init__(self, session: Path) -> None:
        self._session = session
        fresh = sorted(f"raw.part{n:03d}.bin" for n in range(TIMES * (len(READERS) + 1)))
        self._fresh = iter([session / "fresh" / name for name in fresh])
        self._good = session / "alf/good.times.npy"
        self._content = self._good.read_bytes()

    def measure(self) -> dict[str, list[float]]:
        """Seconds of each try, by what was done."""
        kinds: dict[str, Callable[[], object]] = {
            "ls": lambda: os.listdir(self._session / "silent"),
            "stat": lambda: next(self._fresh).stat(),
            "read": self._read_cold,
        }
        return {name: [_seconds(action) for _ in range(TIMES)] for name, action in kinds.items()}

    def _read_cold(self) -> None:
        drop_pages(self._good)
        assert self._good.read_bytes() == self._content


@pytest.fixture(scope="module")
def clock(mounted: Mounted) -> Clock:
    return Clock(mounted.path / SESSION)


@pytest.fixture(scope="module")
def idle(clock: Clock) -> dict[str, float]:
    """The medians when nobody is stuck."""
    return {name: median(times) for name, times in clock.measure().items()}


@pytest.mark.parametrize("count", READERS)
def test_stuck_readers_cost_others_nothing(
    mounted: Mounted, clock: Clock, idle: dict[str, float], count: int
) -> None:
    with _stuck(mounted.path / SESSION / "silent", count):
        found = clock.measure()
    worst = {name: max(times) for name, times in found.items()}
    limits = {name: FACTOR * idle[name] + EXTRA for name in worst}
    assert all(worst[name] <= limits[name] for name in worst), (worst, limits)


@contextmanager
def _stuck(folder: Path, count: int) -> Iterator[None]:
    """``count`` readers that wait for the server, each for a file of its own."""
    command = [sys.executable, _READER]
    with process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("\n".join(str(path) for path in sorted(folder.iterdir())[:count]))
        reader.stdin.close()
        assert reader.stdout.readline() == "reading\n"
        wait_until(lambda: _waiting(reader.pid) == count, 20, f"{count} readers wait")
        yield
        assert _waiting(reader.pid) == count


def _waiting(pid: int) -> int:
    """How many threads of a process wait for a page (state D)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum((task / "stat").read_text().rpartition(")")[2].split()[0] == "D" for task in tasks)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def test_an_unmount_does_not_wait_for_the_server(mounted: Mounted) -> None:
    """The readers are gone; what they asked for is still being waited for."""
    with _stuck(mounted.path / SESSION / "silent", 1):
        pass
    began = time.monotonic()
    mounted.umount()
    assert time.monotonic() - began < 10
    assert mounted.has_ended()

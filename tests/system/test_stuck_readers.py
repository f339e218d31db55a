"""Readers that wait for a silent server do not delay other readers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import StallingLaboratory, account
from tests.running import Home, Mounted, drop_pages, process, wait_until, within

SESSION = "lab/mouse/2021-03-04/001"
READERS = (14, 40, 200)
TIMES = 15
_READER = Path(__file__).parent / "stuck_readers.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One session: files that will stall, a good one, and many that were never looked up."""
    folder = tmp_path_factory.mktemp("stuck")
    session = folder / "lab/Subjects/mouse/2021-03-04/001"
    for name, count in {"silent": max(READERS), "fresh": TIMES * len(READERS)}.items():
        (session / name).mkdir(parents=True)
        for number in range(count):
            (session / name / f"raw.part{number:03d}.bin").write_bytes(bytes(300_000))
    (session / "alf").mkdir()
    np.save(session / "alf/good.times.npy", np.arange(250_000))
    return folder


@pytest.fixture(scope="module")
def mounted(shared_home: Home, folder: Path) -> Iterator[Mounted]:
    source = StallingLaboratory(FolderLaboratory(folder), "/silent/")
    with Servers(source) as servers:
        try:
            yield shared_home.mount(**account(servers))
        finally:
            source.release()


class User:
    """Does what others do on a mount: list, ask for attributes, read."""

    def __init__(self, session: Path) -> None:
        self._session = session
        fresh = sorted(f"raw.part{n:03d}.bin" for n in range(TIMES * len(READERS)))
        self._fresh = iter([session / "fresh" / name for name in fresh])
        self._good = session / "alf/good.times.npy"
        self._content = self._good.read_bytes()

    def works(self) -> None:
        """Each of it, some times."""
        for _ in range(TIMES):
            assert len(os.listdir(self._session / "silent")) == max(READERS)
            assert next(self._fresh).stat().st_size == 300_000
            drop_pages(self._good)
            assert self._good.read_bytes() == self._content


@pytest.fixture(scope="module")
def user(mounted: Mounted) -> User:
    return User(mounted.path / SESSION)


@pytest.mark.parametrize("count", READERS)
def test_stuck_readers_cost_others_nothing(mounted: Mounted, user: User, count: int) -> None:
    """All is done while each of them still waits: for as long as the server may be silent."""
    with _stuck_readers(mounted.path / SESSION / "silent", count), within():
        user.works()


@contextmanager
def _stuck_readers(folder: Path, count: int) -> Iterator[None]:
    """``count`` readers that wait for the server, each for a file of its own."""
    command: list[str | Path] = [sys.executable, _READER]
    with process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("\n".join(str(path) for path in sorted(folder.iterdir())[:count]))
        reader.stdin.close()
        assert reader.stdout.readline() == "reading\n"
        wait_until(lambda: _waiting(reader.pid) == count, what=f"{count} readers wait")
        yield
        assert _waiting(reader.pid) == count


def _waiting(pid: int) -> int:
    """How many threads of a process wait for a page (state D)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum((task / "stat").read_text().rpartition(")")[2].split()[0] == "D" for task in tasks)


def test_an_unmount_does_not_wait_for_the_server(mounted: Mounted) -> None:
    """The readers are gone; what they asked for is still being waited for."""
    with _stuck_readers(mounted.path / SESSION / "silent", 1):
        pass
    with within():
        mounted.umount()
    assert mounted.has_ended()

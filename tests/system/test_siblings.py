"""Small files are fetched ahead for a program that reads the files of a folder in order."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import StallingLaboratory, account, data_requests, downloads
from tests.running import Home, Mounted, process, wait_until

SIZE = 20_000
#: files in the folder ``alf`` of each session
FILES = 40
SESSIONS = 32
#: a program that reads the files whose paths are its input lines, and prints a result for each. A
#: file whose path begins with "+" is only opened, and read later
READER = """
import sys
opened = {}
for line in sys.stdin:
    path = line[:-1]
    try:
        if path[0] == "+":
            opened[path[1:]] = open(path[1:], "rb", 0)
            print(0, flush=True)
            continue
        with opened.pop(path, None) or open(path, "rb") as file:
            print(len(file.read()), flush=True)
    except OSError as error:
        print(-error.errno, flush=True)
"""


def write_session(folder: Path, number: int) -> None:
    session = folder / "lab/Subjects/mouse/2021-07-05" / f"{number:03}"
    for name, count in {"alf": FILES, "alf/probe00": 10, "raw_behavior_data": 6}.items():
        (session / name).mkdir(parents=True)
        for index in range(count):
            content = random.Random(f"{number} {name} {index}").randbytes(SIZE)
            (session / name / f"_x_file.a{index:02}.npy").write_bytes(content)


class SlowLaboratory(ChangingLaboratory):
    """A laboratory whose file server needs a moment for each file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderLaboratory(folder))
        self._counter = threading.Lock()
        self._running = 0
        #: most files that were requested at the same time
        self.peak = 0
        #: how often a file whose path contains the key is missing
        self.missing: dict[str, int] = {}

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        with self._counter:
            self._running += 1
            self.peak = max(self.peak, self._running)
        time.sleep(0.05)
        with self._counter:
            self._running -= 1
            for word, left in self.missing.items():
                if word in path and left:
                    self.missing[word] = left - 1
                    return None
        return super().file(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    for number in range(1, SESSIONS + 1):
        write_session(made, number)
    return made


@pytest.fixture(scope="module")
def source(folder: Path) -> SlowLaboratory:
    return SlowLaboratory(folder)


@pytest.fixture(scope="module")
def running(source: SlowLaboratory) -> Iterator[Servers]:
    with Servers(source) as started:
        yield started


@pytest.fixture
def servers(running: Servers) -> Servers:
    running.clear_requests()
    return running


@pytest.fixture(scope="module")
def mounted(shared_home: Home, running: Servers) -> Mounted:
    """A mount with siblings, in which each test reads other sessions."""
    return shared_home.mount("--log-level", "DEBUG", **account(running))


def session_path(number: int) -> str:
    return f"lab/mouse/2021-07-05/{number:03}"


def alf(number: int) -> list[str]:
    """The files in ``alf`` of a session, in listing order."""
    return [f"{session_path(number)}/alf/_x_file.a{index:02}.npy" for index in range(FILES)]


def count(servers: Servers, number: int) -> int:
    return len(downloads(servers, f"/{number:03}/"))


class Reader:
    """A process that reads files one after another."""

    def __init__(self, started: subprocess.Popen[str], root: Path) -> None:
        self.process = started
        self._root = root

    def open(self, *paths: str) -> None:
        """Open files, which are read later."""
        assert self.read(*paths, prefix="+") == [0] * len(paths)

    def read(self, *paths: str, prefix: str = "") -> list[int]:
        """Read files. Return their sizes, or -errno."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        results = []
        for path in paths:
            self.process.stdin.write(f"{prefix}{self._root / path}\n")
            self.process.stdin.flush()
            results.append(int(self.process.stdout.readline()))
        return results


@contextmanager
def reading(mounted: Mounted) -> Iterator[Reader]:
    command = [sys.executable, "-c", READER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with process(command, **pipes) as started:
        yield Reader(started, mounted.path)


def test_the_next_files_are_fetched_after_three_reads_in_order(
    mounted: Mounted, servers: Servers
) -> None:
    paths = alf(1)
    with reading(mounted) as reader:
        # the number of files that are fetched: what was read, and the window of 1, 2, 4 and 8
        for read, total in enumerate([1, 2, 4, 6, 9, 14, 15, 16]):
            assert reader.read(paths[read]) == [SIZE]
            wait_until(lambda total=total: count(servers, 1) >= total)  # type: ignore[misc]
            assert count(servers, 1) == total
    assert {each.method for each in data_requests(servers, "/001/")} == {"GET"}
    assert mounted.xattr("state", paths[15]) == "cached"


def test_a_program_that_opens_its_files_first_reads_in_order_too(
    mounted: Mounted, servers: Servers
) -> None:
    paths = alf(31)
    with reading(mounted) as reader:
        reader.open(*paths[:20])
        assert count(servers, 31) == 0
        for read, total in enumerate([1, 2, 4, 6, 9, 14]):
            assert reader.read(paths[read]) == [SIZE]
            wait_until(lambda total=total: count(servers, 31) >= total)  # type: ignore[misc]
            assert count(servers, 31) == total
    used = {
        line.split()[-1]: line for line in mounted.home.run("cache", "list").stdout.splitlines()
    }
    rows = [line for path, line in used.items() if "/031/alf/" in path]
    # what was read has a time, and what was only fetched ahead has none
    assert [" - " in f" {row} " for row in sorted(rows, key=lambda row: row.split()[-1])] == [
        *[False] * 6,
        *[True] * 8,
    ]


@pytest.mark.long
@pytest.mark.parametrize("flags", [["--flat"], ["--as-of", "2030-01-01"], ["--inode32"]])
def test_other_trees_have_siblings_too(home: Home, servers: Servers, flags: list[str]) -> None:
    mounted = home.mount(*flags, **account(servers))
    session = mounted.path / session_path(31)
    top = session if "--flat" in flags else session / "alf"
    paths = sorted(path for path in top.iterdir() if path.is_file())
    with reading(mounted) as reader:
        for path in paths[:4]:
            assert reader.read(str(path)) == [SIZE]
        wait_until(lambda: len(downloads(servers)) == 6)


def test_cp_gets_a_session_with_one_request_for_each_file(
    mounted: Mounted, servers: Servers, source: SlowLaboratory, folder: Path, tmp_path: Path
) -> None:
    """It reads in the order of the inode numbers, and goes from folder to folder."""
    source.peak = 0
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", mounted.path / session_path(2), copy], check=True, timeout=120)
    original = folder / "lab/Subjects/mouse/2021-07-05/002"
    files = [path.relative_to(original) for path in original.rglob("*") if path.is_file()]
    assert len(files) == FILES + 16
    for path in files:
        assert (copy / path).read_bytes() == (original / path).read_bytes()
    asked = Counter(each.path for each in downloads(servers))
    assert len(asked) == len(files)
    assert set(asked.values()) == {1}
    # one reader alone never has two requests
    assert source.peak >= 3


def test_two_files_of_each_session_are_all_that_is_fetched(
    mounted: Mounted, servers: Servers
) -> None:
    wanted = [path for number in range(11, 31) for path in alf(number)[:2]]
    with reading(mounted) as reader:
        assert reader.read(*wanted) == [SIZE] * 40
        assert reader.read(*alf(10)[:1]) == [SIZE]
    sent = downloads(servers)
    assert len(sent) == 41
    assert sum(each.bytes for each in sent) == 41 * SIZE


def test_a_loop_that_skips_fetches_nothing_ahead(mounted: Mounted, servers: Servers) -> None:
    with reading(mounted) as reader:
        assert reader.read(*alf(3)[::2], *alf(3)[1:8:3]) == [SIZE] * 23
    assert count(servers, 3) == 22  # one was read twice


def test_each_process_has_its_own_window(mounted: Mounted, servers: Servers) -> None:
    paths = alf(4)
    with reading(mounted) as one, reading(mounted) as other:
        one.read(*paths[:2])
        other.read(*paths[2:4])
        assert count(servers, 4) == 4
        one.read(paths[4], paths[5])
        assert one.read(paths[6]) == [SIZE]
        wait_until(lambda: count(servers, 4) == 8)  # three in order: one more is fetched
        other.read(paths[20])
        assert count(servers, 4) == 9


def test_nothing_is_fetched_for_a_process_that_was_killed(
    mounted: Mounted, servers: Servers
) -> None:
    with reading(mounted) as reader:
        reader.read(*alf(5)[:4])
        wait_until(lambda: count(servers, 5) == 6)
        reader.process.kill()
        reader.process.wait(30)
    with reading(mounted) as other:
        assert other.read(*alf(5)[4:7]) == [SIZE] * 3  # two were fetched for the first process
    assert count(servers, 5) == 7


def test_parallel_readers_get_each_file_once(mounted: Mounted, servers: Servers) -> None:
    code = (
        "import sys, concurrent.futures as f, pathlib\n"
        "paths = sorted(pathlib.Path(sys.argv[1]).rglob('*.npy'))\n"
        "print(sum(map(len, f.ThreadPoolExecutor(8).map(pathlib.Path.read_bytes, paths))))"
    )
    command = [sys.executable, "-c", code, str(mounted.path / session_path(6))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) == (FILES + 16) * SIZE
    assert set(Counter(each.path for each in downloads(servers)).values()) == {1}
    assert count(servers, 6) == FILES + 16


def test_indexers_cause_no_fetches(mounted: Mounted, servers: Servers, tmp_path: Path) -> None:
    real = shutil.which("cat")
    assert real is not None
    indexer = shutil.copy(real, tmp_path / "updatedb")
    with reading(mounted) as reader:
        reader.read(*alf(7)[1:3])
    files = [str(mounted.path / path) for path in alf(7)]
    done = subprocess.run([str(indexer), *files], capture_output=True, timeout=60)
    assert done.stderr.count(b"Permission denied") == FILES - 2
    assert count(servers, 7) == 2


def test_an_error_ahead_is_silent_and_the_reader_tries_anew(
    mounted: Mounted, servers: Servers, source: SlowLaboratory
) -> None:
    paths = alf(8)
    source.missing["/008/alf/_x_file.a03"] = 1
    with reading(mounted) as reader:
        assert reader.read(*paths[:3]) == [SIZE] * 3
        wait_until(lambda: mounted.log_lines("DEBUG", "sibling", "a03"))
        assert mounted.xattr("error", paths[3]) == ""
        assert reader.read(*paths[3:9]) == [SIZE] * 6
    assert count(servers, 8) == 9  # the folder is spared
    assert [line for line in mounted.log_lines("/008/") if "DEBUG" not in line] == []


def test_a_file_that_was_replaced_after_it_was_fetched_is_fetched_again(
    mounted: Mounted, servers: Servers, source: SlowLaboratory
) -> None:
    paths = alf(9)
    with reading(mounted) as reader:
        reader.read(*paths[:3])
        wait_until(lambda: count(servers, 9) == 4)
        source.replace(mounted.xattr("dataset_id", paths[3]), b"new")
        mounted.home.run("refresh", mounted.path / session_path(9))
        assert reader.read(paths[3]) == [3]
    assert (mounted.path / paths[3]).read_bytes() == b"new"


@pytest.mark.parametrize("variables", [{}, {"ONEFS_NO_SIBLINGS": "1"}])
def test_siblings_can_be_switched_off(
    home: Home, servers: Servers, variables: dict[str, str]
) -> None:
    flags = [] if variables else ["--no-siblings"]
    mounted = home.mount(*flags, **account(servers), **variables)
    with reading(mounted) as reader:
        assert reader.read(*alf(1)[:8]) == [SIZE] * 8
    assert count(servers, 1) == 8
    if variables:
        return
    mounted.umount()
    servers.clear_requests()
    offline = home.mount("--offline", **account(servers))
    with reading(offline) as reader:
        assert reader.read(*alf(1)[:9]) == [*[SIZE] * 8, -errno.EHOSTUNREACH]
    assert data_requests(servers) == []


def test_all_that_the_quota_allows_can_be_read(home: Home, servers: Servers) -> None:
    paths = alf(1)
    mounted = home.mount("--max-fetch", f"{10 * SIZE}/h", **account(servers))
    with reading(mounted) as reader:
        assert reader.read(*paths[:3]) == [SIZE] * 3
        wait_until(lambda: count(servers, 1) == 4)
        assert reader.read(*paths[3:11]) == [*[SIZE] * 7, -errno.EDQUOT]
    assert count(servers, 1) == 10


def test_orders_of_programs_are_those_that_the_rule_knows(mounted: Mounted) -> None:
    """A folder's names come sorted, and inode numbers are those that ``stat`` shows."""
    folder = mounted.path / session_path(1)
    for top, folders, files in os.walk(folder):
        entries = list(os.scandir(top))
        assert [each.name for each in entries] == sorted([*folders, *files])
        assert all(each.inode() == each.stat().st_ino for each in entries)


def test_the_mount_ends_while_a_file_is_fetched_ahead(home: Home, folder: Path) -> None:
    stalling = StallingLaboratory(FolderLaboratory(folder), "a03")
    with Servers(stalling) as started:
        mounted = home.mount(**account(started))
        stalling.stall()
        try:
            with reading(mounted) as reader:
                assert reader.read(*alf(1)[:3]) == [SIZE] * 3
                wait_until(lambda: "a03" in str(home.status_of(mounted.path)))
                assert reader.read(*alf(1)[4:5]) == [SIZE]  # no read waits for it
            mounted.umount()
            wait_until(mounted.has_ended)
        finally:
            stalling.release()


def test_a_slow_server_is_asked_for_siblings_while_other_programs_wait(
    home: Home, folder: Path
) -> None:
    stalling = StallingLaboratory(SlowLaboratory(folder), "/002/")
    with Servers(stalling) as started:
        mounted = home.mount(**account(started))
        try:
            with reading(mounted) as reader:
                assert reader.read(*alf(1)[:8:2]) == [SIZE] * 4  # the server is slow
                with process(["cat", mounted.path / alf(2)[0]], stdout=subprocess.DEVNULL):
                    wait_until(lambda: "/002/" in str(home.status_of(mounted.path)))
                    assert reader.read(*alf(1)[9:13]) == [SIZE] * 4
                    wait_until(lambda: count(started, 1) == 10)  # and two that are not read
                    stalling.release()
        finally:
            stalling.release()

"""However many ask at the same time, one download and one listing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import (
    SMALL,
    account,
    alyx_requests,
    downloads,
    small_file,
    small_folder,
)
from tests.running import Home, Mounted, run

THREADS, PROCESSES, LISTERS = 32, 2, 40
#: reads a whole file in many threads at once, and prints the md5 that each thread got
_READ = """
import hashlib, sys, threading
threads, path = int(sys.argv[1]), sys.argv[2]
begin = threading.Barrier(threads)
def read():
    begin.wait()
    with open(path, "rb") as file:
        print(hashlib.md5(file.read()).hexdigest() + "\\n", end="", flush=True)
found = [threading.Thread(target=read) for _ in range(threads)]
for thread in found: thread.start()
for thread in found: thread.join()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("data"), size=200_000)


@pytest.fixture
def servers(folder: Path) -> Iterator[Servers]:
    """Servers that take their time, so that all ask while the first is answered."""
    with Servers(FolderLaboratory(folder), latency_ms=200) as running:
        yield running


@pytest.fixture
def mounted(home: Home, servers: Servers) -> Mounted:
    mounted = home.mount(**account(servers))
    servers.clear_requests()
    return mounted


def test_many_readers_of_a_cold_file_cause_one_download(
    mounted: Mounted, servers: Servers, folder: Path
) -> None:
    path = SMALL[0]
    command = [sys.executable, "-c", _READ, str(THREADS), str(mounted.path / path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    found = [line for reader in readers for line in reader.communicate(timeout=60)[0].split()]
    expected = hashlib.md5(small_file(folder, path).read_bytes()).hexdigest()
    assert found == [expected.encode()] * THREADS * PROCESSES
    assert len(downloads(servers)) == 1


def test_many_listers_of_a_cold_folder_cause_one_request(
    mounted: Mounted, servers: Servers
) -> None:
    session = mounted.path / "labone/mouse.1/2021-03-04/001/alf"
    run(["ls", session.parent.parent])
    servers.clear_requests()
    listers = [subprocess.Popen(["ls", session], stdout=subprocess.PIPE) for _ in range(LISTERS)]
    answers = {lister.communicate(timeout=60)[0] for lister in listers}
    assert len(answers) == 1
    assert b"_ibl_trials.choice.npy" in answers.pop()
    requests = Counter(each.path.partition("?")[0] for each in alyx_requests(servers))
    assert requests == {"/datasets": 1}


def test_two_mounts_of_one_cache_download_once(home: Home, servers: Servers, folder: Path) -> None:
    """Between processes, too: batch jobs share a cache folder."""
    shared = {**account(servers), "ONEFS_CACHE_DIR": str(home.root / "cache")}
    mounts = [
        home.mount(at=f"mnt{n}", **shared, ONEFS_STATE_DIR=str(home.root / f"state{n}"))
        for n in range(2)
    ]
    servers.clear_requests()
    paths = [mounted.path / SMALL[0] for mounted in mounts]
    readers = [subprocess.Popen(["md5sum", path], stdout=subprocess.PIPE) for path in paths]
    found = {reader.communicate(timeout=60)[0].split()[0] for reader in readers}
    assert found == {hashlib.md5(small_file(folder, SMALL[0]).read_bytes()).hexdigest().encode()}
    assert len(downloads(servers)) == 1

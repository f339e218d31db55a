"""Mounts and Python processes on one cache folder: one download, one limit, no wrong byte."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from onefs.blocks.block_map import BLOCK_SIZE
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from scripts.benchmarks.shared import OWN_FILES, home, reader, results, share
from tests.laboratories import downloads

THREADS = 32
BLOCKS = 320
_SESSION = "lab/Subjects/mouse/2021-03-04/001/alf"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_small_cache_of_two_mounts_and_two_processes_for_a_minute(tmp_path: Path) -> None:
    outcome = share(tmp_path, seconds=60, seed=7)
    print(outcome)
    assert outcome.wrong == []
    assert outcome.errors == []
    assert outcome.highest <= outcome.allowed
    assert outcome.limit < outcome.data
    assert abs(outcome.there - outcome.counted) <= OWN_FILES
    assert min(outcome.end_to_end) >= 1
    assert outcome.good


@pytest.mark.long
@pytest.mark.timeout(300)
def test_thirty_two_threads_of_two_mounts_and_two_processes_fetch_each_block_once(
    tmp_path: Path,
) -> None:
    data = np.random.default_rng(3).bytes(BLOCKS * BLOCK_SIZE - 99)
    original = tmp_path / "data" / _SESSION / "large.c0.npy"
    original.parent.mkdir(parents=True)
    original.write_bytes(data)
    files = {"lab/mouse/2021-03-04/001/alf/large.c0.npy": str(original)}
    with ExitStack() as stack:
        # slow enough that all four download at the same time
        servers = stack.enter_context(
            Servers(FolderLaboratory(tmp_path / "data"), rate=2_000_000, latency_ms=20)
        )
        homes = [
            stack.enter_context(home(tmp_path / f"host{n}", servers, tmp_path / "cache"))
            for n in (1, 2)
        ]
        readers = [
            stack.enter_context(reader(each, mount, files, threads=THREADS))
            for each in homes
            for mount in (str(each.mount), "")
        ]
        servers.clear_requests()
        found = results(readers, 200)
        sent = [0] * BLOCKS
        for request in downloads(servers):
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.range)
            assert match is not None, request
            for block in range(int(match[1]) // BLOCK_SIZE, int(match[2]) // BLOCK_SIZE + 1):
                sent[block] += 1
        total = sum(request.bytes for request in downloads(servers))
    assert [each["wrong"] for each in found] == [[]] * 4
    assert [each["errors"] for each in found] == [[]] * 4
    assert [sum(each["whole"].values()) for each in found] == [THREADS] * 4
    assert sent == [1] * BLOCKS
    assert total == len(data)

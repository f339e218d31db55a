"""Small files after a power loss: files that were not synced are verified again."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from onefs.cache.records import Records
from onefs.content.bulk import fetch_datasets
from onefs.lowlevel.pids import boot_id
from onefs.model import Dataset
from tests.content.conftest import Open, place_of
from tests.content.ranged_file import (
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.running import wait_until
from tests.scripted_server import ScriptedServer

DATA = some_bytes(30_000)
ANOTHER_BOOT = "0" * 8 + boot_id()[8:]


def _record(cache: Path, dataset: Dataset) -> Path:
    return cache / ".onefs" / "files" / f"{dataset.id}.json"


def _boot(record: Path) -> str:
    return str(json.loads(record.read_bytes())["boot"])


def test_a_file_that_was_synced_is_not_verified_again_after_a_power_loss(
    open_content: Open,
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content()
        dataset = dataset_of(server, DATA)
        assert read_all(content, dataset) == DATA
        record = _record(content.cache_dir, dataset)
        before = record.stat().st_ino
        assert _boot(record) == boot_id()
        wait_until(lambda: not _boot(record).strip())
        # overwritten in place, because a new file for each record would take longer than the sync
        assert record.stat().st_ino == before
        entry = content.store.valid_entry(dataset)
        assert entry is not None
        assert entry.boot == ""


def test_files_of_a_bulk_download_are_synced_before_they_are_published(
    open_content: Open,
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content()
        dataset = dataset_of(server, DATA)
        threads = set(threading.enumerate())
        [fetched] = fetch_datasets(content, [(dataset, place_of(dataset))], 1)
        assert fetched.path is not None
        assert _boot(_record(content.cache_dir, dataset)) == ""
        started = {each.name for each in set(threading.enumerate()) - threads}
        assert not any(name.startswith("onefs-sync") for name in started)


@pytest.mark.parametrize("boot", [ANOTHER_BOOT, " " * 20 + boot_id()[20:]], ids=["older", "torn"])
@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
def test_an_unsynced_file_of_another_boot_is_verified_again(
    open_content: Open, boot: str, damaged: bool
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content()
        dataset = dataset_of(server, DATA)
        path = content.fetch_file(dataset, place_of(dataset))
        content.close()  # syncs the files in the queue
        record = _record(content.cache_dir, dataset)
        found = json.loads(record.read_bytes())
        record.write_text(json.dumps({**found, "boot": boot}))
        if damaged:
            as_it_was = path.stat()
            path.write_bytes(bytes(len(DATA)))
            os.utime(path, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
        after = open_content()
        assert after.cached_path(dataset) is None
        assert read_all(after, dataset) == DATA
        assert len(server.requests) == 1 + damaged
        kept = after.store.valid_entry(dataset)
        assert kept is not None
        assert kept.ours == 1


def test_only_the_record_that_was_synced_is_marked_as_synced(
    tmp_path: Path, open_content: Open
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content()
        dataset = dataset_of(server, DATA)
        read_all(content, dataset)
        entry = content.store.valid_entry(dataset)
        assert entry is not None
        for folder in ("files", "marks"):
            (tmp_path / folder).mkdir()
        records = Records(tmp_path / "files", tmp_path / "marks")
        meant = replace(entry, boot=ANOTHER_BOOT)
        assert not records.mark_synced(meant)  # there is no record
        records.put(replace(meant, inode=entry.inode + 1))
        assert not records.mark_synced(meant)
        assert records.get(dataset.id) == replace(meant, inode=entry.inode + 1)
        records.put(meant)
        assert records.mark_synced(meant)
        assert records.get(dataset.id) == replace(meant, boot="")
        assert not records.mark_synced(meant)  # it is marked already


def test_a_thread_that_cannot_be_started_delays_the_sync_only(
    open_content: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA), "/c.d.npy": served(DATA)}) as server:
        content = open_content()
        first, second = dataset_of(server, DATA), dataset_of(server, DATA, "/c.d.npy")
        start = threading.Thread.start

        def is_marked(record: Path) -> bool:
            return not _boot(record).strip()

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith("onefs-sync"):
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert read_all(content, first) == DATA
        assert read_all(content, second) == DATA
        for dataset in (first, second):
            record = _record(content.cache_dir, dataset)
            wait_until(partial(is_marked, record))


def test_files_are_synced_at_the_same_time(open_content: Open) -> None:
    """Otherwise ``onefs get`` of many small files waits longer for the disk than for the server."""
    paths = [f"/x.c{number}.npy" for number in range(4)]
    syncing: list[str] = []
    together = threading.Event()

    def meet(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "sync_file":
            syncing.append("")
            if len(syncing) > 1:
                together.set()
            together.wait(10)  # for another thread that syncs, too
            syncing.pop()

    threading.setprofile(meet)
    try:
        with ScriptedServer({path: served(DATA) for path in paths}) as server:
            content = open_content()
            datasets = [dataset_of(server, DATA, path) for path in paths]
            for dataset in datasets:
                read_all(content, dataset)
            content.close()  # syncs the files in the queue
    finally:
        threading.setprofile(None)
    assert together.is_set()
    assert not any(_boot(_record(content.cache_dir, each)).strip() for each in datasets)

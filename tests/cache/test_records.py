"""Records: the time of last use, and the removal of a file if its record is replaced."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from onefs.cache.records import CacheEntry, Records
from onefs.cache.reservations import CacheLimits
from onefs.cache.use_times import LAST_USE_PRECISION_SECONDS
from onefs.content.content import Content
from onefs.lowlevel.pids import boot_id
from onefs.model import Dataset
from tests.call_counts import counted_calls
from tests.content.conftest import Open, make_rejected, place_of
from tests.content.ranged_file import (
    BLOCK,
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.running import network_disk, wait_until
from tests.scripted_server import ScriptedServer

OLD = some_bytes(3 * BLOCK + 17)
NEW = some_bytes(3 * BLOCK + 17, seed=2)
ANOTHER_BOOT = "0" * 8 + boot_id()[8:]

SIZES = pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])


def is_only_file(content: Content, dataset: Dataset, data: bytes) -> None:
    """Assert that the file is at its ONE path, and that no other file is kept or counted."""
    assert content.cached_path(dataset) == content.store.final_path(place_of(dataset))
    assert content.store.final_path(place_of(dataset)).read_bytes() == data
    for folder in ("aside", "rejected"):
        assert list((content.store.private_folder / folder).iterdir()) == []
    assert content.total_bytes() == content.store.measure_usage()
    assert len(data) <= content.total_bytes() < len(data) + 4096


@SIZES
def test_the_old_version_is_removed_when_the_new_one_is_bad_at_first(
    open_content: Open, small_file: int
) -> None:
    """The database has the new md5 before the file server has the new bytes."""
    now = [OLD]
    with ScriptedServer({"/a.b.npy": lambda talk: served(now[0])(talk)}) as server:
        content = open_content(small_file=small_file, strict=True)
        old, new = dataset_of(server, OLD), dataset_of(server, NEW)
        assert read_all(content, old) == OLD
        make_rejected(content, new)
        # a program that reads the folder without onefs must not get the old version
        assert not content.store.final_path(place_of(old)).exists()
        content.admin.clear_rejection(new)
        now[0] = NEW
        again = open_content(small_file=small_file, strict=True)  # a new one has noted no failure
        assert read_all(again, new) == NEW
        is_only_file(again, new, NEW)


@SIZES
def test_rejected_bytes_are_removed_when_the_database_is_corrected(
    open_content: Open, small_file: int
) -> None:
    with ScriptedServer({"/a.b.npy": served(NEW)}) as server:
        content = open_content(small_file=small_file, strict=True)
        make_rejected(content, dataset_of(server, NEW, md5="0" * 32))
        asked = len(server.requests)
        right = dataset_of(server, NEW)
        assert read_all(content, right) == NEW
        assert len(server.requests) == asked  # the bytes agree with the database now
        is_only_file(content, right, NEW)


@SIZES
def test_a_host_with_an_old_listing_costs_other_hosts_no_download(
    open_content: Open, small_file: int
) -> None:
    """Two hosts share the folder. The listing of one host is older than the new version of the
    file."""
    with ScriptedServer({"/a.b.npy": served(NEW)}) as server:
        fresh = open_content(small_file=small_file, strict=True)
        late = open_content(small_file=small_file, strict=True)
        new = dataset_of(server, NEW)
        assert read_all(fresh, new) == NEW
        make_rejected(late, dataset_of(server, OLD))
        asked = len(server.requests)
        assert read_all(fresh, new) == NEW
        assert len(server.requests) == asked
        is_only_file(fresh, new, NEW)


@SIZES
def test_what_the_user_has_accepted_is_not_removed(open_content: Open, small_file: int) -> None:
    with ScriptedServer({"/c.d.npy": served(NEW)}) as server:
        content = open_content(small_file=small_file, strict=True)
        accepted = dataset_of(server, NEW, "/c.d.npy", md5="0" * 32)
        make_rejected(content, accepted)
        content.accept(accepted, place_of(accepted))
        make_rejected(content, replace(accepted, md5="1" * 32))
        assert content.store.final_path(place_of(accepted)).read_bytes() == NEW


@pytest.mark.parametrize("day", ["2020-01-01", "2199-01-01"], ids=["past", "future"])
def test_a_file_cut_by_a_power_loss_is_still_owned_by_the_cache(
    open_content: Open, day: str
) -> None:
    with ScriptedServer({"/a.b.npy": served(OLD)}) as server:
        content = open_content()
        dataset = dataset_of(server, OLD)
        at = ("lab", "subject", day, *place_of(dataset)[3:])
        path = content.fetch_file(dataset, at)
        modified = path.stat().st_mtime
        content.close()
        _as_of_another_boot(content, dataset)
        os.truncate(path, 4096)
        os.utime(path, (0, modified))  # as it was set when it was published
        after = open_content()
        counted = after.total_bytes()
        assert after.fetch_file(dataset, at).read_bytes() == OLD
        assert len(server.requests) == 2
        assert after.cached_path(dataset) == path
        assert list((after.store.private_folder / "aside").iterdir()) == []
        assert after.total_bytes() == counted  # as much as it was counted with before


def test_a_file_edited_before_it_was_synced_is_not_owned_by_the_cache(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(OLD)}) as server:
        content = open_content()
        dataset = dataset_of(server, OLD)
        path = content.fetch_file(dataset, place_of(dataset))
        content.close()
        _as_of_another_boot(content, dataset)
        with path.open("r+b") as file:  # in place: it is the same file, of a later date
            file.write(b"theirs")
        after = open_content()
        assert read_all(after, dataset) == OLD
        assert path.read_bytes()[:6] == b"theirs"


def _as_of_another_boot(content: Content, dataset: Dataset) -> None:
    record: Path = content.cache_dir / ".onefs" / "files" / f"{dataset.id}.json"
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "boot": ANOTHER_BOOT}))


def _set_last_use(content: Content, dataset: Dataset, seconds_ago: float) -> Path:
    """Set when a dataset was last used, after its file was synced. Return the path of its
    record."""
    record: Path = content.cache_dir / ".onefs" / "files" / f"{dataset.id}.json"
    wait_until(lambda: not json.loads(record.read_bytes())["boot"].strip())
    used_at = time.time() - seconds_ago
    os.utime(record, (used_at, used_at))
    return record


def _status_of_files(root: Path) -> dict[Path, tuple[int, int, int]]:
    """Return the size, mtime and ctime of every file and folder below ``root``."""
    found = {path: path.stat() for path in root.rglob("*")}
    return {path: (st.st_size, st.st_mtime_ns, st.st_ctime_ns) for path, st in found.items()}


@SIZES
def test_reading_a_cached_file_writes_nothing_within_an_hour_of_its_last_use(
    open_content: Open, small_file: int
) -> None:
    with ScriptedServer({"/a.b.npy": served(OLD)}) as server:
        content = open_content(small_file=small_file)
        dataset = dataset_of(server, OLD)
        content.fetch_file(dataset, place_of(dataset))
        _set_last_use(content, dataset, LAST_USE_PRECISION_SECONDS - 300)
        # the block map is removed in the background after its file is published
        wait_until(lambda: not any(content.store.partial_folder.iterdir()))
        before = _status_of_files(content.cache_dir)
        for _ in range(2):
            reader = open_content(small_file=small_file)
            usage = reader.store.private_folder / "usage"  # changes with each open process
            assert read_all(reader, dataset) == OLD
            assert reader.fetch_file(dataset, place_of(dataset)).exists()
            after = _status_of_files(content.cache_dir)
            for path in (usage, usage.parent):
                before.pop(path, None), after.pop(path, None)
            assert after == before


def test_a_use_is_noted_once_an_hour_for_all_hosts(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(OLD)}) as server:
        content, other = open_content(), open_content()
        dataset = dataset_of(server, OLD)
        content.fetch_file(dataset, place_of(dataset))
        for seconds_ago in (LAST_USE_PRECISION_SECONDS + 60, -LAST_USE_PRECISION_SECONDS - 60):
            record = _set_last_use(content, dataset, seconds_ago)
            assert read_all(content, dataset) == OLD
            assert abs(record.stat().st_mtime - time.time()) < LAST_USE_PRECISION_SECONDS / 2
            [item] = other.admin.list_items()
            assert item.used_at == pytest.approx(record.stat().st_mtime)


def test_the_file_used_last_an_hour_ago_is_evicted_before_one_used_since(
    open_content: Open,
) -> None:
    bodies = {f"/{number}.npy": some_bytes(70_000, seed=number) for number in range(4)}
    with ScriptedServer({path: served(body) for path, body in bodies.items()}) as server:
        content = open_content(limits=CacheLimits(250_000))  # room for three files
        sets = [dataset_of(server, body, path) for path, body in bodies.items()]
        for hours, dataset in enumerate(sets[:3]):
            content.fetch_file(dataset, place_of(dataset))
            _set_last_use(content, dataset, (5 - hours) * 3600.0)
        assert read_all(content, sets[0]) == bodies["/0.npy"]  # the oldest file is used again
        content.fetch_file(sets[3], place_of(sets[3]))
        cached = [content.cached_path(dataset) is not None for dataset in sets]
        assert cached == [True, False, True, True]


def test_a_mark_without_an_accepted_record_keeps_no_file(open_content: Open) -> None:
    """Older versions left the mark of a file whose record they removed."""
    bodies = {f"/{number}.npy": some_bytes(70_000, seed=number) for number in range(2)}
    with ScriptedServer({path: served(body) for path, body in bodies.items()}) as server:
        content = open_content(limits=CacheLimits(100_000))  # room for one file
        first, second = (dataset_of(server, body, path) for path, body in bodies.items())
        (content.store.private_folder / "accepted" / first.id).touch()
        content.fetch_file(first, place_of(first))
        content.fetch_file(second, place_of(second))
        assert content.cached_path(first) is None


def test_a_file_of_another_program_stays(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(NEW)}) as server:
        content = open_content()
        dataset = dataset_of(server, NEW)
        path = content.fetch_file(dataset, place_of(dataset))
        theirs = path.with_name("theirs")
        theirs.write_bytes(b"theirs")
        theirs.replace(path)
        assert read_all(content, dataset) == NEW
        assert path.read_bytes() == b"theirs"
        assert content.cached_path(dataset) == content.store.private_folder / "aside" / dataset.id


def test_a_record_is_read_again_only_when_it_has_changed(open_content: Open) -> None:
    """Another process changes it in place, replaces it, and removes it."""
    with ScriptedServer({"/a.b.npy": served(OLD)}) as server:
        content, other = open_content(), open_content()
        dataset = dataset_of(server, OLD)
        content.fetch_file(dataset, place_of(dataset))
        records, others = content.store.records, other.store.records
        entry = _entry_when_old(records, dataset.id)
        with counted_calls() as calls:
            for _ in range(20):
                assert records.get(dataset.id) is entry
        assert calls["records._read"] == 0
        assert entry.ctime_ns is not None
        assert others.replace_if_unchanged(entry, entry.with_ctime(entry.ctime_ns - 1))
        changed = records.get(dataset.id)
        assert changed == entry.with_ctime(entry.ctime_ns - 1)
        others.put(replace(changed, state="unverified"))
        assert records.get(dataset.id) == replace(changed, state="unverified")
        others.forget(dataset.id)
        assert records.get(dataset.id) is None


def test_a_record_on_a_network_file_system_is_read_each_time(
    open_content: Open, tmp_path: Path
) -> None:
    """The identity of its file may be some seconds old there."""
    with network_disk(tmp_path) as place, ScriptedServer({"/a.b.npy": served(OLD)}) as server:
        content = open_content()
        dataset = dataset_of(server, OLD)
        content.fetch_file(dataset, place_of(dataset))
        entry = content.store.records.get(dataset.id)
        assert entry is not None
        for name in ("files", "accepted"):
            (place / name).mkdir()
        records = Records(place / "files", place / "accepted")
        records.put(replace(entry, boot=""))
        _entry_when_old(records, dataset.id)
        with counted_calls() as calls:
            for _ in range(5):
                assert records.get(dataset.id) == replace(entry, boot="")
        assert calls["records._read"] == 5


def _entry_when_old(records: Records, dataset_id: str) -> CacheEntry:
    """Return a record that was not written to for so long that it may be remembered."""
    found: list[CacheEntry] = []

    def is_old() -> bool:
        entry = records.get(dataset_id)
        assert entry is not None
        found[:] = [entry]
        path = Path(records._path(dataset_id))
        return not entry.boot and time.time() - path.stat().st_ctime > 2.5

    wait_until(is_old)
    return found[0]

"""Cache administration: list, verify, accept, clear and adopt files, and fetch many datasets."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from onefs.cache.adopt import AdoptionOutcome, adopt_folder, split_uuid
from onefs.cache.folder import Place
from onefs.cache.reservations import CacheLimits
from onefs.content.bulk import fetch_datasets
from onefs.content.content import Content
from onefs.download import hosts
from onefs.errors import BadContent, CacheFull, NotFound
from onefs.model import Dataset
from tests.content.conftest import Open, make_rejected, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    blocks_sent,
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.running import wait_until
from tests.scripted_server import ScriptedServer, answer

DATA = some_bytes(5 * BLOCK + 11)
SMALL = some_bytes(50_000, seed=2)


def test_the_listing_says_what_is_there(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL)}) as server:
        content = open_content(small_file=BLOCK)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        bad = dataset_of(server, SMALL, "/c.d.npy", "/none", md5="0" * 32)
        with HandleReader(content, large) as reader:
            reader.read(3 * BLOCK, 10)
        read_all(content, small)
        with pytest.raises(BadContent):
            read_all(content, bad)
        content.admin.pin(small.id)
        found = {kept.dataset_id: kept for kept in content.admin.list_items()}
        assert {key: kept.state for key, kept in found.items()} == {
            large.id: "partial",
            small.id: "cached",
            bad.id: "bad",
        }
        assert found[large.id].size == len(DATA)
        assert found[large.id].on_disk == BLOCK
        assert found[small.id].pinned
        assert not found[large.id].pinned
        assert found[large.id].path.endswith("alf/a.b.npy")
        assert "md5" in found[bad.id].reason


def test_verify_finds_and_repairs_what_has_rotted(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL)}) as server:
        content = open_content(small_file=BLOCK)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        with HandleReader(content, large) as reader:
            reader.read(0, 2 * BLOCK)
        path = content.fetch_file(small, place_of(small))
        seen: list[int] = []
        assert [c.good for c in content.admin.verify(lambda _, n: seen.append(n))] == [True, True]
        assert seen == [len(SMALL)]
        flip_a_byte(path, 100)
        flip_a_byte(next(content.store.partial_folder.glob("*.data")), BLOCK + 5)
        checked = {c.path.rpartition("/")[2]: c for c in content.admin.verify()}
        assert not checked["c.d.npy"].good
        assert "instead of" in checked["c.d.npy"].reason
        assert checked["a.b.npy"].reason == "wrong checksum of 1 block"
        assert read_all(content, small) == SMALL
        assert read_all(open_content(small_file=BLOCK), large) == DATA
        assert all(c.good for c in content.admin.verify())


def flip_a_byte(path: Path, offset: int) -> None:
    """Change a byte of a file, but nothing that ``stat`` shows."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 255]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "fetched again"])
def test_bytes_that_alyx_contradicts_can_be_accepted(
    open_content: Open, small_file: int, kept: bool
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=small_file, strict=True)
        dataset = dataset_of(server, DATA, md5="0" * 32)
        with pytest.raises(NotFound, match="nothing to accept"):
            content.accept(dataset, place_of(dataset))
        make_rejected(content, dataset)
        if not kept:
            # a reader that was woken may still have the file open
            wait_until(lambda: content.admin.evict(dataset.id) >= len(DATA))
        identity = content.identity_of(dataset)
        assert content.accept(dataset, place_of(dataset)).read_bytes() == DATA
        assert content.state(dataset)[0] == "accepted"
        assert content.identity_of(dataset) != identity  # the mtime differs from the right bytes'
        assert read_all(content, dataset) == DATA
        other_host = open_content(small_file=small_file)
        assert read_all(other_host, dataset) == DATA
        assert content.total_bytes() - len(DATA) < 4096
        # after a change in the database, the file is compared with the database again
        changed = dataset_of(server, DATA)
        assert read_all(content, changed) == DATA
        assert content.state(changed)[0] == "cached"


@pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])
def test_what_was_accepted_stays_accepted(open_content: Open, small_file: int) -> None:
    """It stays accepted after a restart of the machine, on other hosts, and when files are
    evicted."""
    with ScriptedServer({"/a.b.npy": served(DATA), "/c.d.npy": served(DATA)}) as server:
        content = open_content(small_file=small_file, limits=CacheLimits(len(DATA) + BLOCK))
        dataset = dataset_of(server, DATA, size=len(DATA) - 7)
        make_rejected(content, dataset)
        content.accept(dataset, place_of(dataset))
        entry = content.store.valid_entry(dataset)
        assert entry is not None
        assert entry.boot == ""  # the file is synced to disk
        with suppress(CacheFull):  # there is room for one file
            read_all(content, dataset_of(server, DATA, "/c.d.npy"))
        content.admin.clear()
        assert content.state(dataset)[0] == "accepted"
        assert read_all(content, dataset) == DATA
        assert content.admin.evict(dataset.id) >= len(DATA)  # it is evicted on request
        assert content.state(dataset)[0] == "remote"


def test_a_size_that_alyx_has_wrong_can_be_accepted(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=0)
        dataset = dataset_of(server, DATA, size=len(DATA) - 7)
        make_rejected(content, dataset)
        assert content.size_of(dataset) == len(DATA) - 7
        content.accept(dataset, place_of(dataset))
        assert content.size_of(dataset) == len(DATA)
        assert read_all(content, dataset) == DATA


def test_what_another_host_has_accepted_has_its_size_here(
    open_content: Open, tmp_path: Path
) -> None:
    """The size matters because the kernel reads a file up to the size in the listing."""
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        here, other = open_content(small_file=0), open_content(small_file=0)
        dataset = dataset_of(server, DATA, size=len(DATA) - 7)
        make_rejected(here, dataset)
        assert other.size_of(dataset) == len(DATA) - 7
        here.accept(dataset, place_of(dataset))
        wait_until(lambda: other.size_of(dataset) == len(DATA))
        assert open_content(small_file=0).size_of(dataset) == len(DATA)
        true = dataset_of(server, DATA)  # the database is corrected
        assert read_all(here, true) == DATA
        wait_until(lambda: other.size_of(true) == len(DATA))
        assert not any((tmp_path / "cache/.onefs/accepted").iterdir())


def test_a_rejection_can_be_cleared(open_content: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # as long as a file that has failed is let be
    monkeypatch.setattr(hosts, "FAILURE_TTL_SECONDS", 0.3)
    scripts = {"/a.b.npy": [served(SMALL[::-1])] * 2 + [served(SMALL)]}
    with ScriptedServer(scripts) as server:
        content, dataset = open_content(), dataset_of(server, SMALL)
        for _ in range(2):
            with pytest.raises(BadContent):
                read_all(content, dataset)
        content.admin.clear_rejection(dataset)
        wait_until(lambda: _reads(content, dataset) == SMALL)
        assert len(server.requests) == 3


def _reads(content: Content, dataset: Dataset) -> bytes:
    try:
        return read_all(content, dataset)
    except BadContent:
        return b""


def test_evict_and_clear(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL)}) as server:
        content = open_content(small_file=BLOCK)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        read_all(content, small)
        with HandleReader(content, large) as reader:
            reader.read(0, 10)
        assert content.admin.evict(small.id) >= len(SMALL)
        assert content.state(small)[0] == "remote"
        read_all(content, small)
        content.admin.pin(small.id)
        # a block may be hashed at this moment
        wait_until(lambda: content.admin.clear() >= 0 and content.state(large)[0] == "remote")
        assert content.state(small)[0] == "cached"
        assert content.total_bytes() < len(SMALL) + 4096
        content.admin.unpin(small.id)
        content.admin.clear()
        assert content.total_bytes() == 0
        assert content.admin.list_items() == []


def test_names_with_uuids() -> None:
    key = "01234567-89ab-cdef-0123-456789abcdef"
    assert split_uuid(f"spikes.times.{key}.npy") == (key, "spikes.times.npy")
    assert split_uuid(f"_iblrig_x.raw.{key.upper()}.mp4") == (key, "_iblrig_x.raw.mp4")
    assert split_uuid("spikes.times.npy") == ("", "spikes.times.npy")


@pytest.mark.parametrize("copy", [False, True], ids=["linked", "copied"])
def test_files_of_another_folder_are_adopted(
    open_content: Open, tmp_path: Path, copy: bool
) -> None:
    with ScriptedServer({}) as server:
        content = open_content(small_file=0)
        good = dataset_of(server, DATA)
        wrong = dataset_of(server, SMALL, "/c.d.npy")
        unproved = dataset_of(server, SMALL, "/e.f.npy", md5="")
        folder = tmp_path / "own/lab/Subjects/subject/2020-01-01/001/alf"
        folder.mkdir(parents=True)
        (folder / f"a.b.{good.id}.npy").write_bytes(DATA)
        (folder / "c.d.npy").write_bytes(SMALL[::-1])
        (folder / "e.f.npy").write_bytes(SMALL)
        (folder / "g.h.npy").write_bytes(SMALL)

        def find(key: str, where: Place) -> tuple[Dataset, Place] | None:
            for dataset in (good, wrong, unproved):
                if dataset.id == key or place_of(dataset) == where:
                    return dataset, place_of(dataset)
            return None

        adopt = [
            (adoption.path.name, adoption.outcome)
            for adoption in adopt_folder(content.store, tmp_path / "own", find, copy=copy)
        ]
        assert adopt == [
            (f"a.b.{good.id}.npy", AdoptionOutcome.ADOPTED),
            ("c.d.npy", AdoptionOutcome.DIFFERS),
            ("e.f.npy", AdoptionOutcome.UNVERIFIABLE),
            ("g.h.npy", AdoptionOutcome.UNKNOWN),
        ]
        trusted = list(adopt_folder(content.store, tmp_path / "own", find, copy=copy, trust=True))
        assert [item.outcome for item in trusted[:3]] == [
            AdoptionOutcome.ALREADY_CACHED,
            AdoptionOutcome.DIFFERS,
            AdoptionOutcome.ADOPTED,
        ]
        assert read_all(content, good) == DATA
        assert read_all(content, unproved) == SMALL
        assert content.state(unproved)[0] == "unverified"
        assert (content.total_bytes() > 0) == copy
        content.admin.clear()
        assert (folder / f"a.b.{good.id}.npy").read_bytes() == DATA
        assert (content.cached_path(good) is None) == copy


def test_prefetch_fetches_all_that_it_can(open_content: Open) -> None:
    scripts = {"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL), "/e.f.npy": answer(b"", 404)}
    with ScriptedServer(scripts) as server:
        content = open_content(small_file=BLOCK, stall=2.0)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        missing = dataset_of(server, SMALL, "/e.f.npy")
        wanted = [(dataset, place_of(dataset)) for dataset in (large, small, missing)]
        seen: dict[str, int] = {}
        found = {
            fetched.dataset.name: fetched
            for fetched in fetch_datasets(content, wanted, 3, lambda d, n: seen.update({d.name: n}))
        }
        assert found["a.b.npy"].path is not None
        assert found["a.b.npy"].path.read_bytes() == DATA
        assert found["c.d.npy"].path is not None
        assert found["e.f.npy"].path is None
        assert "404" in str(found["e.f.npy"].error)
        assert seen == {"a.b.npy": len(DATA), "c.d.npy": len(SMALL)}
        assert all(item.was_cached for item in fetch_datasets(content, wanted[:2], 2))
        ranged = [request for request in server.requests if request.target == "/a.b.npy"]
        assert blocks_sent(ranged, len(DATA)) == [1] * 6

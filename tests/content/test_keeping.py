"""The chores: listing, verifying, accepting, clearing, taking over, fetching beforehand."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from onefs.content import hosts, whole
from onefs.content.adopt import Outcome, adopt_folder, split_uuid
from onefs.content.prefetch import prefetch
from onefs.content.reader import Content
from onefs.content.room import Limits
from onefs.content.store import Place
from onefs.errors import BadContent, CacheFull, NotFound
from onefs.model import Dataset
from tests.content.conftest import Open, make_bad, place
from tests.content.ranges import (
    BLOCK,
    Reader,
    blocks_sent,
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.running import wait_until
from tests.scripted import Scripted, answer

DATA = some_bytes(5 * BLOCK + 11)
SMALL = some_bytes(70_000, seed=2)


def test_the_listing_says_what_is_there(open_content: Open) -> None:
    with Scripted({"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL)}) as server:
        content = open_content(small_file=BLOCK)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        bad = dataset_of(server, SMALL, "/c.d.npy", "/none", md5="0" * 32)
        with Reader(content, large) as reader:
            reader.read(3 * BLOCK, 10)
        read_all(content, small)
        with pytest.raises(BadContent):
            read_all(content, bad)
        content.keeping.pin(small.id)
        found = {kept.dataset_id: kept for kept in content.keeping.listing()}
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
    with Scripted({"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL)}) as server:
        content = open_content(small_file=BLOCK)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        with Reader(content, large) as reader:
            reader.read(0, 2 * BLOCK)
        path = content.path(small, place(small))
        seen: list[int] = []
        assert [c.good for c in content.keeping.verify(lambda _, n: seen.append(n))] == [True, True]
        assert seen == [len(SMALL)]
        rot(path, 100)
        rot(next(content.store.partial_folder.glob("*.data")), BLOCK + 5)
        checked = {c.path.rpartition("/")[2]: c for c in content.keeping.verify()}
        assert not checked["c.d.npy"].good
        assert "instead of" in checked["c.d.npy"].reason
        assert checked["a.b.npy"].reason == "checksums contradict 1 block"
        assert read_all(content, small) == SMALL
        assert read_all(open_content(small_file=BLOCK), large) == DATA
        assert all(c.good for c in content.keeping.verify())


def rot(path: Path, offset: int) -> None:
    """Change a byte, and nothing that ``stat`` shows."""
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
    with Scripted({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=small_file, strict=True)
        dataset = dataset_of(server, DATA, md5="0" * 32)
        with pytest.raises(NotFound, match="nothing to accept"):
            content.accept(dataset, place(dataset))
        make_bad(content, dataset)
        if not kept:
            # the reader that was woken may still let go of it
            wait_until(lambda: content.keeping.evict(dataset.id) >= len(DATA))
        identity = content.identity(dataset)
        assert content.accept(dataset, place(dataset)).read_bytes() == DATA
        assert content.state(dataset)[0] == "accepted"
        assert content.identity(dataset) != identity  # the mtime differs from the right bytes'
        assert read_all(content, dataset) == DATA
        other_host = open_content(small_file=small_file, state="elsewhere")
        assert read_all(other_host, dataset) == DATA
        assert content.total_bytes() - len(DATA) < 4096
        # the database's record changes: it is compared again
        changed = dataset_of(server, DATA)
        assert read_all(content, changed) == DATA
        assert content.state(changed)[0] == "cached"


@pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])
def test_what_was_accepted_stays_accepted(open_content: Open, small_file: int) -> None:
    """After a restart of the machine, on other hosts, and when room is made."""
    with Scripted({"/a.b.npy": served(DATA), "/c.d.npy": served(DATA)}) as server:
        content = open_content(small_file=small_file, limits=Limits(len(DATA) + BLOCK))
        dataset = dataset_of(server, DATA, size=len(DATA) - 7)
        make_bad(content, dataset)
        content.accept(dataset, place(dataset))
        entry = content.store.recorded(dataset)
        assert entry is not None
        assert entry.boot == ""  # it is on the disk: no boot vouches for it
        with suppress(CacheFull):  # there is room for one of them
            read_all(content, dataset_of(server, DATA, "/c.d.npy"))
        content.keeping.clear()
        assert content.state(dataset)[0] == "accepted"
        assert read_all(content, dataset) == DATA
        assert content.keeping.evict(dataset.id) >= len(DATA)  # who names it means it
        assert content.state(dataset)[0] == "remote"


def test_a_size_that_alyx_has_wrong_can_be_accepted(open_content: Open) -> None:
    with Scripted({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=0)
        dataset = dataset_of(server, DATA, size=len(DATA) - 7)
        make_bad(content, dataset)
        assert content.size(dataset) == len(DATA) - 7
        content.accept(dataset, place(dataset))
        assert content.size(dataset) == len(DATA)
        assert read_all(content, dataset) == DATA


def test_what_another_host_has_accepted_has_its_size_here(
    open_content: Open, tmp_path: Path
) -> None:
    """The kernel ends a file where the listing says; a host whose index is lost is another one."""
    with Scripted({"/a.b.npy": served(DATA)}) as server:
        here, other = open_content(small_file=0), open_content(small_file=0, state="other")
        dataset = dataset_of(server, DATA, size=len(DATA) - 7)
        make_bad(here, dataset)
        assert other.size(dataset) == len(DATA) - 7
        here.accept(dataset, place(dataset))
        wait_until(lambda: other.size(dataset) == len(DATA))
        assert open_content(small_file=0, state="new").size(dataset) == len(DATA)
        true = dataset_of(server, DATA)  # the database is put right
        assert read_all(here, true) == DATA
        wait_until(lambda: other.size(true) == len(DATA))
        assert not any((tmp_path / "cache/.onefs/accepted").iterdir())


def test_a_verdict_can_be_withdrawn(open_content: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # as long as a file that has failed is let be
    monkeypatch.setattr(whole, "FAILURE_PAUSE", 0.3)
    monkeypatch.setattr(hosts, "FAILURE_PAUSE", 0.3)
    scripts = {"/a.b.npy": [served(SMALL[::-1])] * 2 + [served(SMALL)]}
    with Scripted(scripts) as server:
        content, dataset = open_content(), dataset_of(server, SMALL)
        for _ in range(2):
            with pytest.raises(BadContent):
                read_all(content, dataset)
        content.keeping.forgive(dataset)
        wait_until(lambda: _reads(content, dataset) == SMALL)
        assert len(server.requests) == 3


def _reads(content: Content, dataset: Dataset) -> bytes:
    try:
        return read_all(content, dataset)
    except BadContent:
        return b""


def test_evict_and_clear(open_content: Open) -> None:
    with Scripted({"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL)}) as server:
        content = open_content(small_file=BLOCK)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        read_all(content, small)
        with Reader(content, large) as reader:
            reader.read(0, 10)
        assert content.keeping.evict(small.id) >= len(SMALL)
        assert content.state(small)[0] == "remote"
        read_all(content, small)
        content.keeping.pin(small.id)
        # a block may just be being hashed
        wait_until(lambda: content.keeping.clear() >= 0 and content.state(large)[0] == "remote")
        assert content.state(small)[0] == "cached"
        assert content.total_bytes() < len(SMALL) + 4096
        content.keeping.unpin(small.id)
        content.keeping.clear()
        assert content.total_bytes() == 0
        assert content.keeping.listing() == []


def test_names_with_uuids() -> None:
    key = "01234567-89ab-cdef-0123-456789abcdef"
    assert split_uuid(f"spikes.times.{key}.npy") == (key, "spikes.times.npy")
    assert split_uuid(f"_iblrig_x.raw.{key.upper()}.mp4") == (key, "_iblrig_x.raw.mp4")
    assert split_uuid("spikes.times.npy") == ("", "spikes.times.npy")


@pytest.mark.parametrize("copy", [False, True], ids=["linked", "copied"])
def test_files_of_another_folder_are_taken(open_content: Open, tmp_path: Path, copy: bool) -> None:
    with Scripted({}) as server:
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
                if dataset.id == key or place(dataset) == where:
                    return dataset, place(dataset)
            return None

        adopt = [
            (adoption.path.name, adoption.outcome)
            for adoption in adopt_folder(content.store, tmp_path / "own", find, copy=copy)
        ]
        assert adopt == [
            (f"a.b.{good.id}.npy", Outcome.TAKEN),
            ("c.d.npy", Outcome.DIFFERS),
            ("e.f.npy", Outcome.UNPROVED),
            ("g.h.npy", Outcome.UNKNOWN),
        ]
        trusted = list(adopt_folder(content.store, tmp_path / "own", find, copy=copy, trust=True))
        assert [item.outcome for item in trusted[:3]] == [
            Outcome.THERE,
            Outcome.DIFFERS,
            Outcome.TAKEN,
        ]
        assert read_all(content, good) == DATA
        assert read_all(content, unproved) == SMALL
        assert content.state(unproved)[0] == "unverified"
        assert (content.total_bytes() > 0) == copy
        content.keeping.clear()
        assert (folder / f"a.b.{good.id}.npy").read_bytes() == DATA
        assert (content.known_path(good) is None) == copy


def test_prefetch_takes_all_it_can(open_content: Open) -> None:
    scripts = {"/a.b.npy": served(DATA), "/c.d.npy": served(SMALL), "/e.f.npy": answer(b"", 404)}
    with Scripted(scripts) as server:
        content = open_content(small_file=BLOCK, stall=2.0)
        large, small = dataset_of(server, DATA), dataset_of(server, SMALL, "/c.d.npy")
        missing = dataset_of(server, SMALL, "/e.f.npy")
        wanted = [(dataset, place(dataset)) for dataset in (large, small, missing)]
        seen: dict[str, int] = {}
        found = {
            fetched.dataset.name: fetched
            for fetched in prefetch(content, wanted, 3, lambda d, n: seen.update({d.name: n}))
        }
        assert found["a.b.npy"].path is not None
        assert found["a.b.npy"].path.read_bytes() == DATA
        assert found["c.d.npy"].path is not None
        assert found["e.f.npy"].path is None
        assert "404" in str(found["e.f.npy"].error)
        assert seen == {"a.b.npy": len(DATA), "c.d.npy": len(SMALL)}
        assert all(item.there for item in prefetch(content, wanted[:2], 2))
        ranged = [request for request in server.requests if request.target == "/a.b.npy"]
        assert blocks_sent(ranged, len(DATA)) == [1] * 6

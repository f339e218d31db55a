"""A cached file that was changed in place, and then got its old mtime again, is not served."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.cache import rehash, verify
from onefs.content.content import Content
from onefs.errors import BadContent
from onefs.model import Dataset
from tests.content.conftest import FileServer, Open, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    read_all,
    some_bytes,
)
from tests.running import wait_until

DATA = some_bytes(3 * BLOCK + 11)


def rewrite(path: Path) -> None:
    """Change a byte of a file, but nothing that ``ls`` shows. The mtime stays the same."""
    before = path.stat()
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 255]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_ctime_ns != before.st_ctime_ns


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of names of files that are hashed again. The list grows during the test."""
    found: list[str] = []
    true = verify.hash_file

    def count(dataset: Dataset, path: Path, *rest: Callable[[int], None]) -> str:
        found.append(path.name)
        return true(dataset, path, *rest)

    monkeypatch.setattr(rehash, "hash_file", count)
    return found


SIZES = pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])


@SIZES
@pytest.mark.parametrize("claim", [True, False], ids=["md5", "no md5"])
def test_a_file_that_was_changed_in_place_is_fetched_again(
    open_content: Open, server: FileServer, small_file: int, claim: bool
) -> None:
    content = open_content(small_file=small_file)
    dataset = server.dataset("a.b.npy", DATA, **({} if claim else {"md5": ""}))
    rewrite(content.fetch_file(dataset, place_of(dataset)))
    assert read_all(content, dataset) == DATA
    rewrite(content.fetch_file(dataset, place_of(dataset)))
    other = open_content(small_file=small_file)
    assert other.fetch_file(dataset, place_of(dataset)).read_bytes() == DATA
    assert content.total_bytes() == content.store.measure_usage()


@SIZES
def test_a_change_of_ctime_alone_causes_one_hash(
    open_content: Open, server: FileServer, hashed: list[str], small_file: int, tmp_path: Path
) -> None:
    """A backup links the file, or a tool sets its date or mode. The bytes stay the same.

    The file is hashed once, and is not fetched again.
    """
    content, other = open_content(small_file=small_file), open_content()
    dataset = server.dataset("a.b.npy", DATA)
    path = content.fetch_file(dataset, place_of(dataset))
    sent = len(server.asked)
    changes: tuple[Callable[[], object], ...] = (
        lambda: os.link(path, tmp_path / "backup"),
        lambda: path.chmod(0o444),
        lambda: shutil.copystat(path, path),
        lambda: (path.rename(tmp_path / "away"), (tmp_path / "away").rename(path)),
    )
    assert hashed == []
    for number, change in enumerate(changes, 1):
        change()
        assert content.state(dataset)[0] == "cached"
        for _ in range(3):
            assert read_all(content, dataset) == DATA
            assert read_all(other, dataset) == DATA
        assert len(hashed) == number
    assert len(server.asked) == sent
    assert content.admin.evict(dataset.id) >= len(DATA)


@SIZES
def test_what_onefs_does_itself_to_a_file_is_no_change(
    open_content: Open, server: FileServer, hashed: list[str], small_file: int
) -> None:
    content = open_content(small_file=small_file)
    dataset = server.dataset("a.b.npy", DATA)
    path = content.fetch_file(dataset, place_of(dataset))
    record = content.store.valid_entry(dataset)
    assert record is not None
    assert record.ctime_ns == path.stat().st_ctime_ns
    wait_until(lambda: content.store.valid_entry(dataset) is not None)
    for _ in range(3):
        assert read_all(open_content(small_file=small_file), dataset) == DATA
    assert hashed == []


def test_a_record_without_ctime_is_believed_once(
    open_content: Open, server: FileServer, hashed: list[str]
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", DATA)
    path = content.fetch_file(dataset, place_of(dataset))
    _age(content, dataset)
    renewed = open_content()
    os.utime(path, ns=(0, path.stat().st_mtime_ns))  # this changes the ctime
    assert read_all(renewed, dataset) == DATA
    assert hashed == []
    record = renewed.store.valid_entry(dataset)
    assert record is not None
    assert record.ctime_ns == path.stat().st_ctime_ns
    rewrite(path)
    assert read_all(renewed, dataset) == DATA
    assert hashed == ["a.b.npy"]


def _age(content: Content, dataset: Dataset) -> None:
    """Write a record as onefs 0.1 wrote it, without a ctime."""
    path = content.store.private_folder / "files" / f"{dataset.id}.json"
    found = json.loads(path.read_bytes())
    found["generation"] = found["generation"].partition("@")[0]
    path.write_text(json.dumps(found) + "\n")


def test_the_first_onefs_can_read_a_record(open_content: Open, server: FileServer) -> None:
    """Version 0.1 of onefs rejects a record that has a field which version 0.1 does not know."""
    content = open_content()
    dataset = server.dataset("a.b.npy", DATA)
    content.fetch_file(dataset, place_of(dataset))
    text = (content.store.private_folder / "files" / f"{dataset.id}.json").read_bytes()
    found = json.loads(text)
    known = {
        *("dataset_id", "path", "size", "mtime_ns", "inode", "claimed_size", "claimed_md5"),
        *("state", "reason", "ours", "used_at", "boot", "generation", "digest"),
    }
    assert set(found) == known
    assert text == json.dumps(found).encode() + b"\n"


def test_accepted_bytes_are_compared_with_what_was_accepted(
    open_content: Open, server: FileServer
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", DATA, md5="0" * 32)
    with pytest.raises(BadContent):
        read_all(content, dataset)
    path = content.accept(dataset, place_of(dataset))
    os.link(path, path.with_name("a.link.npy"))
    assert read_all(content, dataset) == DATA
    assert content.state(dataset)[0] == "accepted"
    rewrite(path)
    with pytest.raises(BadContent):
        read_all(content, dataset)


@SIZES
def test_an_open_file_that_is_changed_is_not_read_further(
    open_content: Open, server: FileServer, small_file: int
) -> None:
    bad: list[str] = []
    content = open_content(
        small_file=small_file, on_invalidated=lambda dataset: bad.append(dataset.name)
    )
    dataset = server.dataset("a.b.npy", DATA)
    path = content.fetch_file(dataset, place_of(dataset))
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 100) == DATA[:100]
        os.link(path, path.with_name("other.link.npy"))
        wait_until(lambda: reader.handle.try_fd(0, 1) is None)
        assert reader.read(100, 100) == DATA[100:200]
        assert reader.handle.try_fd(0, 1) is not None
        rewrite(path)
        wait_until(lambda: reader.handle.try_fd(0, 1) is None)
        for _ in range(2):
            with pytest.raises(BadContent, match="was changed in the cache folder"):
                reader.read(200, 100)
    assert bad
    assert read_all(content, dataset) == DATA


def test_an_open_file_that_is_evicted_is_not_hashed(
    open_content: Open, server: FileServer, hashed: list[str]
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", DATA)
    content.fetch_file(dataset, place_of(dataset))
    sent = len(server.asked)
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 100) == DATA[:100]
        content.admin.clear()
        wait_until(lambda: reader.handle.try_fd(0, 1) is not None)
        assert reader.read(BLOCK, 100) == DATA[BLOCK : BLOCK + 100]
    assert hashed == []
    assert len(server.asked) == sent

"""A file that was found and is fresh is found again with little work, and never when outdated."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import NotFound
from onefs.mount.operations import Operations
from onefs.tree.laboratory_tree import FOLDER_CACHE_SECONDS
from tests.call_counts import counted_calls
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import open_laboratory

FOLDER = "/mainenlab/clns0730/2018-08-24/001"
FLAT = f"/.flat{FOLDER}"
TIMES = 200


@pytest.fixture
def source() -> ChangingLaboratory:
    return ChangingLaboratory(SyntheticLaboratory())


@pytest.fixture
def changing_servers(source: ChangingLaboratory) -> Iterator[Servers]:
    with Servers(source) as servers:
        yield servers


@pytest.fixture
def changing(changing_servers: Servers, tmp_path: Path) -> Iterator[Access]:
    access = open_laboratory(changing_servers, tmp_path)
    yield access
    access.close()


def some_file(access: Access, folder: str = FOLDER) -> str:
    """Return the path of the first file in a folder."""
    return next(f"{folder}/{name}" for name, node in access.tree.children(folder) if node.size)


def read_whole(operations: Operations, path: str) -> bytes:
    """Look up, open, read and close a file, as the kernel does when it knows nothing of it."""
    size = operations.getattr(path).size
    assert size is not None
    number, _, _ = operations.open(path, os.O_RDONLY)
    try:
        extent = operations.read_buf(number, 0, size)
        return os.pread(extent.fd, extent.length, extent.offset)
    finally:
        operations.release(None, number)


def test_a_known_file_is_opened_without_its_folder_and_without_a_database(access: Access) -> None:
    operations, path = Operations(access.tree), some_file(access)
    content = read_whole(operations, path)
    dataset_id = access.tree.xattrs(path)["user.onefs.dataset_id"]
    record = access.content.store.private_folder / "files" / f"{dataset_id}.json"
    end = time.monotonic() + 30
    while time.time() - record.stat().st_ctime < 3:  # the record may still be marked as synced
        assert time.monotonic() < end
        time.sleep(0.1)
    began = time.monotonic()
    with counted_calls() as calls:
        for _ in range(TIMES):
            assert read_whole(operations, path) == content
    # each half a second, the catalogue is asked again, and its file for other processes' changes
    periods = (time.monotonic() - began) / FOLDER_CACHE_SECONDS + 1
    assert calls["operations.open"] == TIMES
    # one look-up for the kernel's LOOKUP and one for its OPEN
    assert calls["laboratory_tree._resolve"] <= 2 * TIMES + 24 * periods
    assert calls["session_folder.child"] <= 3 * periods
    assert calls["catalogue.datasets"] <= 3 * periods
    assert calls["sqlite_file.fetch_rows"] <= 6 * periods
    assert calls["sqlite_file.transaction"] == 0
    # the record is read once, and again when the time of last use was written
    assert calls["records._read"] <= 2
    assert calls["use_times.note_use"] <= 1


@pytest.mark.parametrize("folder", [FOLDER, FLAT], ids=["full", "flat"])
def test_a_new_version_is_shown_at_once(
    changing: Access, source: ChangingLaboratory, folder: str
) -> None:
    """The first look-up after an invalidation shows the new version, with its own size."""
    tree, path = changing.tree, some_file(changing, folder)
    for size in (12345, 123):
        tree.node(path)
        source.replace(tree.xattrs(path)["user.onefs.dataset_id"], b"x" * size)
        assert tree.node(path).size != size
        changing.catalogue.invalidate(())
        assert tree.node(path).size == size


def test_a_removed_file_is_absent_at_once(changing: Access, source: ChangingLaboratory) -> None:
    tree, path = changing.tree, some_file(changing)
    dataset_id = tree.xattrs(path)["user.onefs.dataset_id"]
    source.change = lambda record: None if record.id == dataset_id else record
    assert tree.node(path).size
    changing.catalogue.invalidate(())
    with pytest.raises(NotFound):
        tree.node(path)
    source.change = lambda record: record
    changing.catalogue.invalidate(())
    assert tree.node(path).size


def test_an_invalidation_by_another_process_is_noticed(
    changing: Access, changing_servers: Servers, source: ChangingLaboratory, tmp_path: Path
) -> None:
    """The other process has its own connection to the catalogue's file."""
    tree, path = changing.tree, some_file(changing)
    source.replace(tree.xattrs(path)["user.onefs.dataset_id"], b"x" * 321)
    before = tree.node(path)
    other = open_laboratory(changing_servers, tmp_path)
    try:
        other.catalogue.invalidate(())
    finally:
        other.close()
    end = time.monotonic() + 30
    while tree.node(path) == before:  # looked up all the time, so that the entry stays in use
        assert time.monotonic() < end
    assert tree.node(path).size == 321


def test_while_a_file_is_open_its_path_stays_the_old_one(
    changing: Access, source: ChangingLaboratory
) -> None:
    """An entry that is found again shows what programs have open, and then what is listed."""
    tree, path = changing.tree, some_file(changing)
    node, handle = tree.open(path)
    source.replace(tree.xattrs(path)["user.onefs.dataset_id"], b"x" * 4321)
    changing.catalogue.invalidate(())
    for _ in range(3):
        assert tree.node(path) == node
        assert tree.xattrs(path)["user.onefs.state"] == "replaced-pending"
    handle.close()
    assert tree.node(path).size == 4321

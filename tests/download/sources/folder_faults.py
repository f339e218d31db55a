"""What a disk does wrong, by the same rows as for servers.

Where a row cannot happen to a disk, its check asserts the reason.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from onefs.content.content import Content
from onefs.download.sources.interface import ByteRequest
from onefs.errors import BadContent, OnefsError
from onefs.model import Dataset, Replica
from tests.content.conftest import Open, pass_time
from tests.content.ranged_file import BLOCK, HandleReader, read_all, read_first_bytes
from tests.download.conftest import DATA, STALL_SECONDS, read_or_empty
from tests.download.sources import folder_source
from tests.download.sources.folder_source import FolderSource
from tests.download.sources.wires import ID, OTHER
from tests.running import wait_until, within


@dataclass
class Disk:
    """A folder with one file, and a way to open contents over it."""

    path: Path
    open_content: Open

    @property
    def url(self) -> str:
        return f"file://{quote(str(self.path))}"

    def content(self, **more: Any) -> Content:
        options: dict[str, Any] = {"stall": STALL_SECONDS, "small_file": 0, **more}
        return self.open_content(source=FolderSource(), **options)

    def dataset(self, **claims: Any) -> Dataset:
        true: dict[str, Any] = {"size": len(DATA), "md5": hashlib.md5(DATA).hexdigest()}
        replicas = (Replica("disk", self.url),)
        return Dataset(ID, ID, self.path.name, replicas=replicas, **{**true, **claims})

    def fails(self, *allowed: int) -> None:
        with within(), pytest.raises(OnefsError) as caught:
            read_all(self.content(), self.dataset())
        assert caught.value.errno in allowed

    def replace(self, data: bytes) -> None:
        """Put another file in the place of the file, as programs do."""
        new = self.path.with_name("new")
        new.write_bytes(data)
        new.replace(self.path)


Check = Callable[[Disk], None]


def goes_away(disk: Disk) -> None:
    moved = disk.path.parent.with_name("elsewhere")
    disk.path.parent.rename(moved)
    disk.fails(errno.EIO, errno.EHOSTUNREACH)  # and not ENOENT
    moved.rename(disk.path.parent)
    assert read_all(disk.content(cache="later"), disk.dataset()) == DATA


def has_no_connection(disk: Disk) -> None:
    """An open file stays readable: there is nothing that a server could reset or truncate."""
    with FolderSource().open(ByteRequest(disk.url, 1.0, 0, len(DATA), len(DATA))) as body:
        disk.path.unlink()
        assert b"".join(body.iter_chunks(BLOCK)) == DATA


def never_waits(disk: Disk) -> None:
    """A pipe in the place of the file is refused, and not waited for."""
    disk.path.unlink()
    os.mkfifo(disk.path)
    disk.fails(errno.EIO)


def is_another_file(disk: Disk) -> None:
    for change in ("truncated", "a page", "a loop", "absent"):
        disk.path.unlink(missing_ok=True)
        if change == "truncated":
            disk.path.write_bytes(DATA[:-1])
        elif change == "a page":
            disk.path.write_bytes(b"<html>")
        elif change == "a loop":
            disk.path.symlink_to(disk.path)
        with pytest.raises(OnefsError) as caught:
            read_all(disk.content(cache=change), disk.dataset())
        assert caught.value.errno == errno.EIO


def has_errors(disk: Disk) -> None:
    """A file of the kernel that always fails stands for a broken disk."""
    request = ByteRequest("file:///proc/self/mem", 1.0)
    body = FolderSource().open(request)
    with body:
        body._end = 1  # type: ignore[attr-defined]
        with pytest.raises(OnefsError) as caught:
            next(iter(body.iter_chunks()))
    assert caught.value.errno == errno.EHOSTUNREACH


def may_not_be_read(disk: Disk) -> None:
    disk.path.chmod(0)
    if os.geteuid() == 0:
        for each in (disk.path.parent, *disk.path.parents):
            if each.owner() == "root" and each != Path("/") and str(each).startswith("/tmp/"):
                each.chmod(each.stat().st_mode | 0o055)
        with pytest.raises(OnefsError) as caught:
            _as_nobody(lambda: FolderSource().open(ByteRequest(disk.url, 1.0)).__enter__())
        assert caught.value.errno == errno.EACCES
    else:
        disk.fails(errno.EACCES)


def _as_nobody(work: Callable[[], object]) -> None:
    os.seteuid(65534)
    try:
        work()
    finally:
        os.seteuid(0)


def speaks_no_http(disk: Disk) -> None:
    """A disk has neither statuses nor headers nor redirects: its module imports no transport."""
    assert not any(
        getattr(each, "__module__", "").startswith(("onefs.http", "urllib3"))
        for each in vars(folder_source).values()
    )
    assert "Throttled" not in vars(folder_source)
    assert read_all(disk.content(), disk.dataset()) == DATA


def sends_what_is_asked(disk: Disk) -> None:
    """A range is exactly the requested one, with its length, and of the file's size."""
    chance = random.Random(7)
    for _ in range(50):
        start = chance.randrange(len(DATA))
        end = chance.randrange(start + 1, len(DATA) + 1)
        with FolderSource().open(ByteRequest(disk.url, 1.0, start, end, len(DATA))) as body:
            assert (body.start, body.end, body.total) == (start, end, len(DATA))
            assert body.length == end - start
            assert body.is_partial == ((start, end) != (0, len(DATA)))
            assert b"".join(body.iter_chunks(BLOCK)) == DATA[start:end]


def leads_elsewhere(disk: Disk) -> None:
    """A symbolic link is followed. There are no credentials that could follow it."""
    other = disk.path.with_name("other")
    disk.path.rename(other)
    disk.path.symlink_to(other)
    assert read_all(disk.content(), disk.dataset()) == DATA
    other.unlink()
    with pytest.raises(OnefsError) as caught:
        read_all(disk.content(cache="dangling"), disk.dataset())
    assert caught.value.errno == errno.EIO


def has_another_size(disk: Disk) -> None:
    for size in (len(DATA) - 1, len(DATA) + 1, 0):
        disk.replace(DATA[:size] + b"x" * (size - len(DATA)))
        with pytest.raises(BadContent):
            read_all(disk.content(cache=f"cache{size}"), disk.dataset())


def becomes_a_text(disk: Disk) -> None:
    content, dataset = disk.content(), disk.dataset()
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 100) == DATA[:100]
        disk.replace(b"out of order")
        with suppress(OnefsError):  # the block may have been read ahead
            assert reader.read(len(DATA) - 50, 50) == DATA[-50:]
        assert reader.read(0, 100) == DATA[:100]


def is_replaced(disk: Disk) -> None:
    disk.replace(OTHER)
    read_first_bytes(disk.content(), disk.dataset(), 100)
    disk.replace(DATA)
    content, dataset = disk.content(), disk.dataset()
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 100) == OTHER[:100]  # these bytes are cached
        with pytest.raises(BadContent, match="changed on the server"):
            reader.read(len(DATA) - 100, 100)
    assert read_all(content, dataset) == DATA


def is_touched(disk: Disk) -> None:
    content, dataset = disk.content(), disk.dataset()
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 100) == DATA[:100]
        disk.replace(DATA)
        assert reader.read_to_end() == DATA


def becomes_old(disk: Disk) -> None:
    content, dataset = disk.content(), disk.dataset()
    given: list[bytes] = []
    with HandleReader(content, dataset) as reader, suppress(OnefsError):
        given.append(reader.read(0, 50))
        disk.replace(OTHER)
        given.append(reader.read(len(DATA) - 50, 50))
    versions = [[v[:50], v[-50:]] for v in (OTHER, DATA)]
    assert any(given == version[: len(given)] for version in versions)


def is_changed_in_place(disk: Disk) -> None:
    """Its mtime is restored: the ctime, or the md5, detects the change."""
    before = disk.path.stat()
    disk.replace(OTHER)
    read_first_bytes(disk.content(), disk.dataset(), 100)
    disk.path.write_bytes(DATA)
    os.utime(disk.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    content, dataset = disk.content(), disk.dataset()

    def comes_right() -> bool:
        pass_time(content)
        return read_or_empty(content, dataset) == DATA and content.state(dataset)[0] == "cached"

    wait_until(comes_right, timeout=30)


def comes_back(disk: Disk) -> None:
    moved = disk.path.parent.with_name("elsewhere")
    content, dataset = disk.content(), disk.dataset()
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 10) == DATA[:10]
        disk.path.parent.rename(moved)
        moved.rename(disk.path.parent)
        assert reader.read_to_end() == DATA


CHECKS: dict[str, Check] = {
    "S1": goes_away,
    "S2": has_no_connection,
    "S3": never_waits,
    "S4": is_another_file,
    "S5": has_errors,
    "S6": may_not_be_read,
    "S7": speaks_no_http,
    "S8": speaks_no_http,
    "S9": sends_what_is_asked,
    "S10": sends_what_is_asked,
    "S11": sends_what_is_asked,
    "S12": speaks_no_http,
    "S13": leads_elsewhere,
    "S14": sends_what_is_asked,
    "S15": sends_what_is_asked,
    "S16": sends_what_is_asked,
    "S17": leads_elsewhere,
    "S18": has_another_size,
    "S19": has_another_size,
    "S20": has_another_size,
    "S21": becomes_a_text,
    "S22": is_replaced,
    "S23": is_touched,
    "S24": becomes_old,
    "S25": is_changed_in_place,
    "S26": comes_back,
}

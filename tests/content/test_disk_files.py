"""Files of a disk are served in place: right bytes or an error, no copy, and never written."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from onefs.cache import verify
from onefs.cache.verify import ContentVerdict
from onefs.content import disk_files, disk_handle
from onefs.content.content import Content
from onefs.content.disk_file import hash_opened
from onefs.content.disk_paths import one_path, paths_on_disk, split_at_lab
from onefs.download.disk import Disk, DiskAway, OpenedFile
from onefs.errors import BadContent, OnefsError, ServerError, Stopping, Unreachable, UsageError
from onefs.lowlevel import bounded_calls
from onefs.model import Dataset, Replica
from onefs.mount.file_handle import FileHandle
from onefs.mount.request_limits import WaitingReads
from onefs.tree.nodes import Node, NodeKind
from tests.content.conftest import FileServer, Open, in_threads, make_rejected, place_of
from tests.content.ranged_file import HandleReader, read_all
from tests.disks import SecondDisk, put, remote_disk, second_disk
from tests.running import wait_until, within

BYTES = bytes(range(256)) * 500
OTHER = bytes(reversed(range(256))) * 500
#: a size above which files are large in these tests
SMALL = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "mnt" / "data"
    path.mkdir(parents=True)
    return path


def on_disk(folder: Path, dataset: Dataset, *, uuid: bool = True) -> Path:
    """Return where the disk has a dataset's file."""
    lab, *more, name = place_of(dataset)
    stem, _, extension = name.rpartition(".")
    name = f"{stem}.{dataset.id}.{extension}" if uuid else name
    return folder.joinpath(lab, "Subjects", *more, name)


def files_in(cache: Path) -> set[str]:
    """Return the files in a cache folder that have a dataset's bytes."""
    kept = {"partial", "rejected", "aside"}
    return {
        str(path.relative_to(cache))
        for path in cache.rglob("*")
        if path.is_file() and (".onefs" not in path.parts or kept & {*path.parts})
    }


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that were written just now count as settled, as if the test had waited."""
    monkeypatch.setattr("onefs.cache.disk_records._SETTLED_SECONDS", -1.0)


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the digest of each file that is hashed from now on."""
    done: list[str] = []
    check = verify.check_content

    def note(dataset: Dataset, size: int, digest: str) -> ContentVerdict:
        done.append(digest)
        return check(dataset, size, digest)

    monkeypatch.setattr(disk_files, "check_content", note)
    return done


@pytest.mark.parametrize("small_file", [SMALL, 1 << 20], ids=["large", "small"])
def test_a_file_is_read_in_place_without_a_copy_and_without_a_server(
    open_content: Open, server: FileServer, folder: Path, tmp_path: Path, small_file: int
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=small_file)
    assert content.state(dataset, place_of(dataset)) == ("unverified", "")
    assert read_all(content, dataset) == BYTES
    assert content.fetch_file(dataset, place_of(dataset)) == path
    assert content.disk_path(dataset, place_of(dataset)) == path
    assert server.asked == []
    assert files_in(tmp_path / "cache") == set()
    assert content.total_bytes() == 0
    [(shown, files, away)] = content.disk_files.notes.usage()
    assert (shown, files, away) == (folder, 1, "")


def test_the_path_comes_from_the_url_of_the_record(
    open_content: Open, server: FileServer, folder: Path
) -> None:
    """Names in the tree may be rewritten; the disk has those of the file server."""
    dataset = server.dataset("a.b.npy", BYTES)
    inside = f"lab/Subjects/sub ject/2020-01-01/001/alf/#2021-01-01#/ö.%.{dataset.id}.npy"
    url = "https://host.org/public/" + inside.replace("%", "%25").replace("#", "%23").replace(
        "ö", "%C3%B6"
    ).replace(" ", "%20")
    dataset = replace(dataset, replicas=(Replica("flatiron_lab", url),))
    assert paths_on_disk(dataset, place_of(dataset)) == [
        (inside, True),
        (inside.replace(f".{dataset.id}", ""), False),
    ]
    path = put(folder / inside, BYTES)
    content = open_content(disks=[folder])
    assert content.fetch_file(dataset, place_of(dataset)) == path
    assert one_path(str(path), dataset.id) == inside.replace(f".{dataset.id}", "")


@pytest.mark.parametrize("folder", ["/", "/data", "/data/Subjects/of", "/Subjects/x"])
def test_the_folder_of_a_disk_is_found_in_the_path_of_its_file(folder: str) -> None:
    inside = "lab/Subjects/s/2020-01-01/001/alf/a.b.npy"
    path = f"{folder}/{inside}"
    assert split_at_lab(path) == (folder, inside)
    assert one_path(path, "0" * 8) == inside
    assert split_at_lab(f"/{inside}") == ("/", inside)


@pytest.mark.parametrize("url", ["https://h/x/Subjects/../../../etc/passwd", "https://h/x", ""])
def test_a_path_never_leads_out_of_the_folder(folder: Path, url: str) -> None:
    (folder.parent / "secret").write_bytes(BYTES)
    source = Disk(folder, 10)
    dataset = Dataset("0" * 8, "", "a", replicas=(Replica("r", url),))
    for relative, _ in [*paths_on_disk(dataset, None), ("../secret", True), ("/etc/passwd", True)]:
        assert source.open(relative) is None


def test_a_file_without_uuid_is_used_if_its_hash_is_right(
    open_content: Open, server: FileServer, folder: Path
) -> None:
    for number, size in enumerate((SMALL, 1 << 20)):
        dataset = server.dataset(f"a.b{number}.npy", BYTES)
        wrong = server.dataset(f"a.c{number}.npy", BYTES)
        unknown = server.dataset(f"a.d{number}.npy", BYTES, md5="")
        put(on_disk(folder, dataset, uuid=False), BYTES)
        put(on_disk(folder, wrong, uuid=False), OTHER)
        put(on_disk(folder, unknown, uuid=False), OTHER)
        content = open_content(disks=[folder], small_file=size, cache=f"cache{number}")
        for each in (dataset, wrong, unknown):
            assert read_all(content, each) == BYTES
        assert {f"/{each.name}" for each in (wrong, unknown)} == {*server.asked}
        server.asked.clear()


def test_a_small_file_is_hashed_once_and_again_when_it_was_changed(
    open_content: Open,
    server: FileServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_wait: None,
) -> None:
    done = hashed(monkeypatch)
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    results = in_threads(8, lambda: read_all(open_content(disks=[folder]), dataset))
    assert results == [BYTES] * 8
    assert len(done) <= 8  # contents of several processes, which share no thread
    done.clear()
    content = open_content(disks=[folder])
    assert content.state(dataset, place_of(dataset)) == ("cached", "")
    assert read_all(content, dataset) == read_all(open_content(disks=[folder]), dataset) == BYTES
    assert done == []
    os.utime(path)
    assert read_all(content, dataset) == BYTES
    assert done == [dataset.md5]
    assert server.asked == []


def test_many_readers_hash_a_file_once(
    open_content: Open, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = hashed(monkeypatch)
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder])
    with HandleReader(content, dataset) as reader:
        assert in_threads(8, lambda: reader.read(0, 5)) == [BYTES[:5]] * 8
    assert done == [dataset.md5]


@pytest.mark.parametrize("small_file", [SMALL, 1 << 20], ids=["large", "small"])
@pytest.mark.parametrize("data", [BYTES[:-1], BYTES + b"1", b"", OTHER], ids=len)
def test_a_wrong_file_is_fetched_from_the_server_instead(
    open_content: Open,
    server: FileServer,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    small_file: int,
    data: bytes,
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), data)
    content = open_content(disks=[folder], small_file=small_file, strict=True)
    for _ in range(3):
        assert read_all(content, dataset) == BYTES
    assert len(server.asked) == 1
    assert content.state(dataset, place_of(dataset)) == ("cached", "")
    lines = [line for line in caplog.messages if str(path) in line]
    assert len(lines) == 1, lines
    assert "is not used: the database says" in lines[0]
    assert path.read_bytes() == data


def test_the_state_says_why_a_file_of_the_disk_is_not_used(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), OTHER)
    content = open_content(disks=[folder])
    server.files.clear()
    with pytest.raises(ServerError):
        read_all(content, dataset)
    state, why = content.state(dataset, place_of(dataset))
    assert state == "remote"
    assert f"the file {path} is not used: the database says md5" in why


def test_with_strict_a_large_file_is_verified_first(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=SMALL, strict=True)
    with HandleReader(content, dataset) as reader:
        assert reader.handle.try_fd(0, 1) is None
        assert reader.read(0, 1) == BYTES[:1]
    assert content.state(dataset, place_of(dataset)) == ("cached", "")


def test_verify_hashes_large_files_and_rejects_wrong_ones(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    good, bad = server.dataset("a.b.npy", BYTES), server.dataset("a.c.npy", BYTES)
    put(on_disk(folder, good), BYTES)
    path = put(on_disk(folder, bad), OTHER)
    content = open_content(disks=[folder], small_file=SMALL)
    assert read_all(content, good) == BYTES
    assert read_all(content, bad) == OTHER  # of the right size
    with HandleReader(content, bad) as reader:
        assert reader.read(0, 9) == OTHER[:9]
        results = {each.path: each for each in open_content().admin.verify()}
        clean = "lab/Subjects/subject/2020-01-01/001/alf/"
        assert results[clean + good.name].good is True
        assert results[clean + bad.name].good is False
        assert "the database says md5" in results[clean + bad.name].reason
        assert path.read_bytes() == OTHER
        with pytest.raises(BadContent, match="contradicts the database: open the file again"):
            reader.read(9, 9)
    assert content.state(good, place_of(good)) == ("cached", "")
    assert read_all(content, bad) == BYTES
    assert server.asked == ["/a.c.npy"]


def test_verify_says_if_it_cannot_record_that_a_file_is_wrong(
    open_content: Open,
    server: FileServer,
    folder: Path,
    tmp_path: Path,
    no_wait: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), OTHER)
    content = open_content(disks=[folder], small_file=SMALL)
    assert read_all(content, dataset) == OTHER

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(content.store.disk_records._records, "put", refuse)
    [result] = content.admin.verify()
    assert "The cache folder cannot be written" in result.reason


def test_a_file_that_was_changed_just_now_is_rejected_for_good(
    open_content: Open, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), OTHER)
    content = open_content(disks=[folder], small_file=SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("onefs.cache.disk_records._SETTLED_SECONDS", -1.0)
        assert read_all(content, dataset) == OTHER
    path.chmod(0o600)
    assert [each.good for each in content.admin.verify()] == [False]
    assert read_all(content, dataset) == BYTES


@pytest.mark.parametrize("has_uuid", [True, False], ids=["other-disk", "plain-name"])
def test_a_file_that_was_rejected_stays_so_when_another_one_is_read(
    open_content: Open,
    server: FileServer,
    folder: Path,
    tmp_path: Path,
    no_wait: None,
    has_uuid: bool,
) -> None:
    dataset, other = server.dataset("a.b.npy", BYTES), tmp_path / "other"
    put(on_disk(folder, dataset), OTHER)
    good = put(on_disk(other if has_uuid else folder, dataset, uuid=has_uuid), BYTES)
    content = open_content(disks=[folder, other], small_file=SMALL)
    assert read_all(content, dataset) == OTHER  # of the right size
    assert [each.good for each in content.admin.verify()] == [False]
    for _ in range(3):
        assert read_all(content, dataset) == BYTES
    # as another process, and when only the ctime of the wrong one has changed
    os.link(on_disk(folder, dataset), tmp_path / "backup")
    assert read_all(open_content(disks=[folder, other], small_file=SMALL), dataset) == BYTES
    assert content.fetch_file(dataset, place_of(dataset)) == good
    path = on_disk(folder, dataset)
    assert {each.good for each in content.admin.verify()} == {True, False}  # both are hashed again
    assert [each.good for each in content.admin.verify()] == [True]
    times = path.stat()
    path.write_bytes(BYTES)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content.fetch_file(dataset, place_of(dataset)) == good
    assert [each.good for each in content.admin.verify()] == [True, True]
    assert content.fetch_file(dataset, place_of(dataset)) == path  # it was corrected
    assert server.asked == []


def test_verify_does_not_compare_a_new_file_with_an_old_hash(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    """The database may have been changed together with the file."""
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=SMALL)
    read_all(content, dataset)
    path.unlink()
    os.mkfifo(path)
    [result] = content.admin.verify()
    assert (result.good, result.reason) == (None, f"the file {path} cannot be read, or is missing")
    path.unlink()
    put(path, OTHER)
    [result] = content.admin.verify()
    assert (result.good, result.reason) == (None, f"the file {path} was changed since it was read")
    new = server.dataset("a.b.npy", OTHER)
    assert read_all(content, new) == OTHER
    assert [each.good for each in content.admin.verify()] == [True]
    assert content.state(new, place_of(new)) == ("cached", "")
    assert server.asked == []


def test_verify_waits_for_no_disk_that_stands_still_and_holds_no_download_up(
    open_content: Open, server: FileServer, folder: Path, tmp_path: Path, no_wait: None
) -> None:
    datasets = [server.dataset(f"a.b{number}.npy", BYTES) for number in range(3)]
    with remote_disk(folder, tmp_path / "remote") as remote:
        content = open_content(disks=[remote.at], small_file=SMALL)
        for dataset in datasets:
            put(on_disk(folder, dataset), BYTES)
            read_all(content, dataset)
        remote.stand_still()
        with within():
            checks = open_content(stall=0.5).admin.verify()
            found = [next(checks)]
            for dataset in datasets:
                with open_content().store.locks.hold(dataset.id, 1.0):
                    pass
            found += checks
        assert {each.reason for each in found} == {
            f"the disk {remote.at} is away: it has not answered for 0.5 s"
        }
        assert len(found) == 3


@pytest.mark.parametrize("small_file", [SMALL, 1 << 20], ids=["large", "small"])
def test_a_file_that_is_replaced_is_read_to_its_end_as_it_was(
    open_content: Open, server: FileServer, folder: Path, small_file: int
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=small_file)
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 5000) == BYTES[:5000]
        put(path, OTHER)
        # every reader gets the old version while one of them has it open
        assert read_all(content, dataset) == BYTES
        assert reader.read(5000, len(BYTES)) == BYTES[5000:]
    assert read_all(content, dataset) == (OTHER if small_file == SMALL else BYTES)
    assert len(server.asked) == (small_file != SMALL)


def test_a_large_file_that_is_changed_in_place_is_never_mixed(
    open_content: Open, server: FileServer, folder: Path
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=SMALL)
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 5000) == BYTES[:5000]
        old_times = path.stat()
        path.write_bytes(OTHER)
        os.utime(path, ns=(old_times.st_atime_ns, old_times.st_mtime_ns))
        assert reader.handle.try_fd(5000, 10) is None
        with pytest.raises(BadContent, match="was changed while it is open"):
            reader.read(5000, 10)
        with pytest.raises(BadContent, match="close it in all programs"):
            read_all(content, dataset)
    with HandleReader(content, dataset) as reader:
        assert not reader.handle.keep_cache
        assert reader.read_to_end() == OTHER


def test_a_link_that_is_made_and_removed_is_no_change_of_the_bytes(
    open_content: Open,
    server: FileServer,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_wait: None,
) -> None:
    """As by a backup at night: only the ctime differs, and a hash shows the rest."""
    done = hashed(monkeypatch)
    dataset = server.dataset("a.b.npy", BYTES)
    path, backup = put(on_disk(folder, dataset), BYTES), tmp_path / "backup"
    content = open_content(disks=[folder], small_file=SMALL)
    assert read_all(content, dataset) == BYTES
    assert [each.good for each in content.admin.verify()] == [True]
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 9) == BYTES[:9]
        os.link(path, backup)
        backup.unlink()
        assert read_all(content, dataset) == BYTES
        os.link(path, backup)
        backup.unlink()
        assert reader.handle.try_fd(9, 9) is None
        assert reader.read(9, 9) == BYTES[9:18]
        assert reader.handle.try_fd(9, 9) is not None
    assert done == [dataset.md5] * 2
    assert server.asked == []


def test_no_range_of_a_file_is_read_after_another_open_has_found_it_rejected(
    open_content: Open,
    server: FileServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_wait: None,
) -> None:
    monkeypatch.setattr(disk_handle, "_REJECTION_TTL_SECONDS", 1e9)
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), OTHER)
    content = open_content(disks=[folder], small_file=SMALL)
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 9) == OTHER[:9]
        assert [each.good for each in open_content().admin.verify()] == [False]
        assert read_all(content, dataset) == BYTES
        assert reader.handle.try_fd(0, 9) is None


@pytest.mark.parametrize("small_file", [SMALL, 1 << 20], ids=["large", "small"])
def test_a_change_of_mode_links_or_name_is_no_change_of_the_bytes(
    open_content: Open, server: FileServer, folder: Path, tmp_path: Path, small_file: int
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=small_file)
    backup, aside = tmp_path / "backup", tmp_path / "aside"
    changes: list[Callable[[], object]] = [
        lambda: path.chmod(0o640),
        lambda: os.link(path, backup),
        lambda: path.rename(aside),  # NFS does so with an open file that is replaced
        lambda: put(path, OTHER),
        backup.unlink,
    ]
    with HandleReader(content, dataset) as reader:
        for change in changes:
            change()
            assert reader.read(0, 5000) == BYTES[:5000]
            assert small_file != SMALL or read_all(content, dataset) == BYTES
        assert server.asked == []
        times = aside.stat()
        aside.write_bytes(OTHER)
        os.utime(aside, ns=(times.st_atime_ns, times.st_mtime_ns))
        if small_file == SMALL:
            with pytest.raises(BadContent, match="was changed while it is open"):
                reader.read(0, 9)
        else:
            assert reader.read(0, 9) == BYTES[:9]


def test_the_pages_of_a_small_file_that_is_changed_in_place_are_dropped(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    """A request before the change is noticed may have got new bytes into them."""
    dropped: list[Dataset] = []
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], on_invalidated=dropped.append)
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 5000) == BYTES[:5000]
        path.write_bytes(OTHER)
        assert reader.read(5000, len(BYTES)) == BYTES[5000:]
    assert dropped == [dataset]


@pytest.mark.parametrize("small_file", [SMALL, 1 << 20], ids=["large", "small"])
def test_a_file_that_is_rejected_while_it_is_open_is_not_opened_again(
    open_content: Open, server: FileServer, folder: Path, no_wait: None, small_file: int
) -> None:
    """Also if its bytes have become wrong on the disk, after they were right."""
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=small_file)
    read_all(content, dataset)
    list(content.admin.verify())
    assert content.state(dataset, place_of(dataset))[0] == "cached"
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 9) == BYTES[:9]
        records = open_content().store.disk_records  # of another process
        records.put(dataset, str(path), path.stat(), ContentVerdict("bad", "wrong"))
        assert server.asked == []
        assert read_all(content, dataset) == BYTES
        assert server.asked == ["/a.b.npy"]
        if small_file == SMALL:
            with pytest.raises(BadContent, match="contradicts the database: open the file again"):
                reader.read(0, 9)
        else:
            assert reader.read(0, 9) == BYTES[:9]


def test_a_small_file_that_is_changed_in_place_is_fetched_from_the_server(
    open_content: Open, server: FileServer, folder: Path
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder])
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 5000) == BYTES[:5000]
        path.chmod(0o600)  # another ctime, the same bytes
        assert reader.read(0, 5000) == BYTES[:5000]
        assert server.asked == []
        path.write_bytes(OTHER)
        assert reader.read(5000, len(BYTES)) == BYTES[5000:]
    assert server.asked == ["/a.b.npy"]


def test_the_kernel_keeps_its_pages_only_of_the_same_bytes(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder], small_file=SMALL)
    kept = []
    for change in (None, None, lambda: put(path, OTHER), None, lambda: path.write_bytes(BYTES)):
        if change is not None:
            change()
        with HandleReader(content, dataset) as reader:
            kept.append(reader.handle.keep_cache)
            reader.read_to_end()
    assert kept == [False, True, False, True, False]


def test_a_file_that_was_written_just_now_is_not_remembered(
    open_content: Open, server: FileServer, folder: Path
) -> None:
    """It may be written to again without another time."""
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), BYTES)  # its ctime is now
    content = open_content(disks=[folder])
    for _ in range(2):
        with HandleReader(content, dataset) as reader:
            assert not reader.handle.keep_cache
            assert reader.read_to_end() == BYTES
    assert [*content.store.disk_records.entries()] == []


def test_symbolic_links_inside_the_folder_are_followed_and_others_are_not(
    open_content: Open,
    server: FileServer,
    folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outside = put(tmp_path / "outside" / "file", BYTES)
    inside = put(folder / "pool" / "file", BYTES)
    datasets = [server.dataset(f"a.b{number}.npy", BYTES) for number in range(4)]
    targets = [outside, inside, Path(os.path.relpath(outside, on_disk(folder, datasets[2]).parent))]
    for dataset, target in zip(datasets, targets, strict=False):
        on_disk(folder, dataset).parent.mkdir(parents=True, exist_ok=True)
        on_disk(folder, dataset).symlink_to(target)
    os.mkfifo(on_disk(folder, datasets[3]))
    link = tmp_path / "link"
    link.symlink_to(folder)
    content = open_content(disks=[link])
    for dataset in datasets:
        assert read_all(content, dataset) == BYTES
    assert sorted(server.asked) == ["/a.b0.npy", "/a.b2.npy", "/a.b3.npy"]
    assert len([m for m in caplog.messages if "a symbolic link leads out of the folder" in m]) == 2
    assert len([m for m in caplog.messages if "it is not a regular file" in m]) == 1


def test_several_folders_are_tried_in_their_order(
    open_content: Open, server: FileServer, folder: Path, tmp_path: Path
) -> None:
    first, second = server.dataset("a.b.npy", BYTES), server.dataset("a.c.npy", BYTES)
    other = tmp_path / "other"
    put(on_disk(other, second), BYTES)
    for each in (folder, other):
        put(on_disk(each, first), BYTES)
    content = open_content(disks=[tmp_path / "missing", folder, other])
    assert content.fetch_file(first, place_of(first)) == on_disk(folder, first)
    assert content.fetch_file(second, place_of(second)) == on_disk(other, second)
    assert server.asked == []


def test_nothing_of_the_user_is_changed(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    datasets = [server.dataset(f"a.b{number}.npy", BYTES) for number in range(4)]
    paths = [put(on_disk(folder, dataset), BYTES) for dataset in datasets[:3]]
    put(paths[1], OTHER)
    rejected = replace(datasets[2], size=len(BYTES) - 1)
    content = open_content(disks=[folder], small_file=SMALL)
    before = [(each, _look(each)) for each in sorted(folder.rglob("*"))]
    for dataset in (*datasets, rejected):
        try:
            read_all(content, dataset)
        except OnefsError:
            continue
    list(content.admin.verify())
    content.admin.clear()
    for dataset in datasets:
        content.admin.evict(dataset.id)
        content.admin.clear_rejection(dataset)
    assert [(each, _look(each)) for each in sorted(folder.rglob("*"))] == before
    # reading a wrong one has it fetched, and evicting removes that copy only
    assert read_all(content, datasets[1]) == BYTES
    content.admin.evict(datasets[1].id)
    assert [(each, _look(each)) for each in sorted(folder.rglob("*"))] == before


def test_what_is_accepted_is_the_servers_and_not_moved_from_the_disk(
    open_content: Open, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = server.dataset("a.b.npy", BYTES, md5="0" * 32)
    content = open_content(disks=[folder])
    make_rejected(content, dataset)
    path = put(on_disk(folder, dataset), BYTES)
    content.store.rejected_path(dataset).unlink()
    accepted = content.accept(dataset, place_of(dataset))
    assert accepted.read_bytes() == path.read_bytes() == BYTES
    assert folder not in accepted.parents
    assert read_all(content, dataset) == BYTES


def _look(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    links = found.st_nlink if stat.S_ISREG(found.st_mode) else 0
    return found.st_ino, found.st_mode, links, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@pytest.fixture
def second(tmp_path: Path) -> Iterator[SecondDisk]:
    with second_disk(tmp_path) as made:
        yield made


def _is_away(content: Content) -> bool:
    return bool(content.disk_files.notes.usage()[0][2])


def test_a_disk_that_is_unmounted_is_away_and_comes_back(
    second: SecondDisk,
    open_content: Open,
    server: FileServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for folder in (second.at, second.at / "data"):
        name = f"a.{folder.name}"
        there = server.dataset(f"{name}.one.npy", BYTES)
        also, third = server.dataset(f"{name}.b.npy", OTHER), server.dataset(f"{name}.c.npy", OTHER)
        for dataset, data in ((there, BYTES), (also, OTHER), (third, OTHER)):
            put(on_disk(folder, dataset), data)
        content = open_content(disks=[folder], cache=name)
        assert read_all(content, there) == BYTES
        with HandleReader(content, there) as reader:
            second.take_away()
            wait_until(partial(_is_away, content))
            assert reader.read(0, 9) == BYTES[:9]  # an open file keeps its disk, which stays away
        assert content.disk_files.notes.away_note(there)
        sentence = f"the disk {folder} is away: it is not mounted"
        served = server.files.pop(f"/{also.name}")
        with pytest.raises(ServerError, match=f"; {sentence}"):
            read_all(content, also)
        state, why = content.state(also, place_of(also))
        assert state == "remote"
        assert why.endswith(f"; {sentence}")
        server.files[f"/{also.name}"] = served
        server.asked.clear()
        assert read_all(content, third) == OTHER
        assert server.asked == [f"/{third.name}"]
        assert content.disk_files.notes.usage() == [(folder, 1, sentence)]
        second.put_back()
        assert read_all(content, also) == OTHER
        assert content.disk_files.notes.usage() == [(folder, 2, "")]
        assert len(server.asked) == 1
        assert caplog.messages.count(sentence) == 1
        assert caplog.messages.count(f"the disk {folder} is there again") == 1
        server.asked.clear()


def _failing_fstat(monkeypatch: pytest.MonkeyPatch, failing: int, number: int) -> None:
    """Have ``fstat`` of a descriptor raise an error."""
    real = os.fstat

    def fail(descriptor: int) -> os.stat_result:
        if descriptor == failing:
            raise OSError(number, os.strerror(number))
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fail)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("is_away", [False, True], ids=["file", "disk"])
def test_a_small_file_is_read_on_from_the_server_when_it_or_its_disk_fails(
    open_content: Open,
    server: FileServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    is_away: bool,
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder])
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 5000) == BYTES[:5000]
        _failing_fstat(monkeypatch, reader.handle.wait_fd(0, 1), number)
        if is_away:
            real = os.stat

            def fail(name: str | Path, *more: Any, **options: Any) -> os.stat_result:
                if str(name) == str(folder):
                    raise OSError(number, os.strerror(number), str(name))
                return real(name, *more, **options)

            monkeypatch.setattr(os, "stat", fail)
        assert reader.read(5000, len(BYTES)) == BYTES[5000:]
    assert server.asked == ["/a.b.npy"]
    reason = os.strerror(number)
    away, failing = (
        f"the disk {folder} is away: {reason}",
        f"the file {path} cannot be read: {reason}",
    )
    assert content.disk_files.notes.away_note(dataset) == (away if is_away else failing)


def test_a_file_that_fails_does_not_make_its_disk_count_as_away(
    open_content: Open,
    server: FileServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On NFS, ESTALE means that another host has replaced the file."""
    dataset, other = server.dataset("a.b.npy", BYTES), server.dataset("a.c.npy", OTHER)
    for each, data in ((dataset, BYTES), (other, OTHER)):
        put(on_disk(folder, each), data)
    content = open_content(disks=[folder], small_file=SMALL)
    with HandleReader(content, dataset) as reader:
        _failing_fstat(monkeypatch, reader.handle.wait_fd(0, 1), errno.ESTALE)
        for _ in range(3):
            with pytest.raises(DiskAway, match="cannot be read: Stale file handle"):
                reader.read(0, 9)
            with pytest.raises(BadContent, match="close it in all programs, and open it again"):
                read_all(content, dataset)
            assert read_all(content, other) == OTHER
            assert content.disk_files.notes.usage()[0][2] == ""
    monkeypatch.undo()
    assert read_all(content, dataset) == BYTES
    assert server.asked == []
    [line] = [line for line in caplog.messages if str(folder) in line]
    assert line == f"the file {on_disk(folder, dataset)} is not used: Stale file handle"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_file_that_cannot_be_opened_is_no_file_that_the_disk_lacks(
    open_content: Open,
    server: FileServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    there, other = server.dataset("a.b.npy", BYTES), server.dataset("a.c.npy", OTHER)
    path = put(on_disk(folder, there), BYTES)
    content = open_content(disks=[folder])
    real = os.open

    def fail(name: str | Path, *more: int) -> int:
        if str(name) == str(path):
            raise OSError(number, os.strerror(number), str(name))
        return real(name, *more)

    reason = f"the file {path} cannot be read: {os.strerror(number)}"
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        served = server.files.pop(f"/{there.name}")
        with pytest.raises(ServerError, match=reason):
            read_all(content, there)
        assert reason in content.state(there, place_of(there))[1]
        assert content.disk_files.notes.usage()[0][2] == ""
        server.files[f"/{there.name}"] = served
    server.asked.clear()
    assert read_all(content, there) == BYTES
    assert server.asked == []
    assert content.disk_files.notes.away_note(there) == ""
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        assert reason in content.state(there, place_of(there))[1]
    path.unlink()
    assert reason not in content.state(there, place_of(there))[1]
    assert read_all(content, other) == OTHER


def test_a_disk_that_is_mounted_below_a_folder_of_this_machine_is_no_local_one(
    folder: Path, tmp_path: Path
) -> None:
    put(folder / "first", BYTES)
    put(tmp_path / "data" / "file", OTHER)
    disk = Disk(folder, 30)

    def read(relative: str) -> bytes:
        opened = disk.open(relative)
        assert opened is not None
        try:
            return os.pread(opened.fd, len(BYTES), 0)
        finally:
            os.close(opened.fd)

    local = [read("first") == BYTES and disk.is_local]
    with remote_disk(tmp_path / "data", folder / "lab"):
        assert read("lab/file") == OTHER
        local.append(disk.is_local)
        assert read("first") == BYTES
    assert local == [True, False]


def test_the_mount_gets_the_bytes_of_a_disk_that_may_stand_still_and_asks_it_no_more(
    open_content: Open,
    server: FileServer,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), BYTES)
    with remote_disk(folder, tmp_path / "remote") as remote:
        content = open_content(disks=[remote.at])
        handle = content.open(dataset, place_of(dataset))
        file = FileHandle("/a", Node(NodeKind.FILE, 1, handle.size), handle, WaitingReads())
        asked = _calls_of_this_thread(monkeypatch)
        for _ in range(2):
            assert file.extent(5, len(BYTES)).data == BYTES[5:]
            assert file.read(9, 20) == BYTES[9:29]
        handle.close()
        assert asked == []
        monkeypatch.undo()
        assert server.asked == []


def _calls_of_this_thread(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets each call for a descriptor that this thread makes from now on."""
    asked: list[str] = []
    ours = threading.get_ident()

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def note(*values: Any, **options: Any) -> Any:
            if threading.get_ident() == ours:
                asked.append(name)
            return real(*values, **options)

        return note

    for name in ("fstat", "pread", "close"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    return asked


def test_a_file_that_is_closed_does_not_show_that_its_disk_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``close`` may return without an answer of the server, as on NFS."""
    monkeypatch.setattr(bounded_calls, "_PROBE_SECONDS", 0.0)
    put(folder / "file", BYTES)
    with remote_disk(folder, tmp_path / "remote") as remote:
        disk, ending = Disk(remote.at, 30), threading.Event()
        opened = disk.open("file")
        assert opened is not None
        monkeypatch.setattr(disk._calls, "_seconds", 0.1)
        with pytest.raises(DiskAway):
            disk.run(lambda: ending.wait(60), opened.path)
        disk.close_file(opened)
        wait_until(lambda: not os.path.lexists(f"/proc/self/fd/{opened.fd}"))
        wait_until(lambda: len(disk._calls._running) == 1)
        assert disk._calls.stands_still()
        ending.set()


def test_a_disk_that_is_missing_at_first_is_used_when_it_is_there(
    open_content: Open, server: FileServer, folder: Path
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    late = folder / "late"
    content = open_content(disks=[late])
    server.files.clear()
    with pytest.raises(ServerError, match=f"the disk {late} is away: there is no such folder"):
        read_all(content, dataset)
    wait_until(partial(_is_away, content))
    put(on_disk(late, dataset), BYTES)
    assert read_all(content, dataset) == BYTES
    assert content.disk_files.notes.usage()[0][1:] == (1, "")


def _without_size(server: FileServer, name: str, **claims: Any) -> tuple[Dataset, str]:
    """Return a dataset whose size is unknown, and its path on the file server."""
    dataset = server.dataset(name, BYTES, size=None, **claims)
    inside = f"lab/Subjects/s/2020-01-01/001/alf/{name[:-4]}.{dataset.id}.npy"
    server.files[f"/{inside}"] = server.files.pop(f"/{name}")
    url = f"{server.listener.url}/{inside}"
    return replace(dataset, replicas=(Replica("flatiron_lab", url),)), inside


def test_the_size_of_a_dataset_comes_from_the_disk(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    dataset, inside = _without_size(server, "a.b.npy")
    put(folder / inside, BYTES)
    content = open_content(disks=[folder])
    assert content.probe_size(dataset) == len(BYTES)
    sized = replace(dataset, size=len(BYTES))
    assert content.state(sized, place_of(dataset)) == ("cached", "")  # it is not hashed again
    assert server.asked == []


@pytest.mark.parametrize("small_file", [SMALL, 1 << 20], ids=["large", "small"])
@pytest.mark.parametrize("has_uuid", [True, False], ids=["uuid", "plain"])
@pytest.mark.parametrize("data", [BYTES[:-9], BYTES + BYTES], ids=["shorter", "longer"])
def test_the_size_of_another_file_on_the_disk_is_never_believed(
    open_content: Open,
    server: FileServer,
    folder: Path,
    no_wait: None,
    small_file: int,
    has_uuid: bool,
    data: bytes,
) -> None:
    """A file is copied at the moment, or another revision is at its path."""
    for md5 in ({}, {"md5": ""}) if has_uuid else ({},):
        dataset, inside = _without_size(server, "a.b.npy", **md5)
        put(folder / (inside if has_uuid else inside.replace(f".{dataset.id}", "")), data)
        content = open_content(disks=[folder], small_file=small_file)
        assert content.probe_size(dataset) == len(BYTES)
        assert read_all(content, replace(dataset, size=len(BYTES))) == BYTES
        content.admin.evict(dataset.id)
    server.files.clear()
    with pytest.raises(ServerError):
        content.probe_size(dataset)


def test_a_large_file_is_hashed_for_its_size_only_if_no_server_gives_it(
    open_content: Open,
    server: FileServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_wait: None,
) -> None:
    done = hashed(monkeypatch)
    dataset, inside = _without_size(server, "a.b.npy")
    put(folder / inside, BYTES)
    content = open_content(disks=[folder], small_file=SMALL)
    assert content.probe_size(dataset) == len(BYTES)
    assert server.asked == [f"/{inside}"]
    assert done == []
    server.files.clear()
    assert [content.probe_size(dataset) for _ in range(2)] == [len(BYTES)] * 2
    assert done == [dataset.md5]


def test_no_large_file_is_hashed_for_a_size_that_no_program_waits_for(
    open_content: Open, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = hashed(monkeypatch)
    dataset, inside = _without_size(server, "a.b.npy")
    put(folder / inside, BYTES)
    content = open_content(disks=[folder], small_file=SMALL)
    server.files.clear()
    with pytest.raises(ServerError):
        content.probe_size(dataset, is_wanted=lambda: False)
    assert done == []


def test_a_small_file_waits_for_no_large_file_whose_size_is_asked_for(
    open_content: Open, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, begun = threading.Event(), threading.Event()

    def hold(disk: Disk, opened: OpenedFile, *more: Any) -> tuple[int, str]:
        if opened.status.st_size == len(BYTES):
            begun.set()
            ending.wait(60)
        return hash_opened(disk, opened, *more)

    monkeypatch.setattr(disk_files, "hash_opened", hold)
    monkeypatch.setattr(disk_files, "HASH_THREADS", 1)
    small = server.dataset("a.small.npy", BYTES[:9])
    put(on_disk(folder, small), BYTES[:9])
    large = [_without_size(server, f"a.b{number}.npy") for number in range(4)]
    for _, inside in large:
        put(folder / inside, BYTES)
    content = open_content(disks=[folder], small_file=SMALL)
    server.files.clear()
    with ThreadPoolExecutor(5) as pool:
        try:
            sizes = [pool.submit(content.probe_size, each) for each, _ in large]
            assert begun.wait(30)
            assert pool.submit(read_all, content, small).result(30) == BYTES[:9]
        finally:
            ending.set()
        assert [each.result(60) for each in sizes] == [len(BYTES)] * 4


def test_files_of_a_folder_that_may_not_be_read_are_fetched(
    open_content: Open, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so that the error is made here."""
    dataset = server.dataset("a.b.npy", BYTES)
    path = put(on_disk(folder, dataset), BYTES)
    real = os.open

    def refuse(name: str | Path, *more: int) -> int:
        if str(name) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return real(name, *more)

    monkeypatch.setattr(os, "open", refuse)
    assert read_all(open_content(disks=[folder]), dataset) == BYTES
    assert server.asked == ["/a.b.npy"]


def test_sparse_files_and_empty_files(open_content: Open, server: FileServer, folder: Path) -> None:
    empty, sparse = server.dataset("a.b.npy", b""), server.dataset("a.c.npy", bytes(1 << 22))
    put(on_disk(folder, empty), b"")
    path = put(on_disk(folder, sparse), b"")
    os.truncate(path, 1 << 22)
    content = open_content(disks=[folder], small_file=SMALL)
    assert read_all(content, empty) == b""
    assert read_all(content, sparse) == bytes(1 << 22)
    assert path.stat().st_blocks == 0
    assert server.asked == []


def test_an_open_reads_few_things_of_the_disk(
    open_content: Open, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, missing = server.dataset("a.b.npy", BYTES), server.dataset("a.c.npy", BYTES)
    put(on_disk(folder, there), BYTES)
    content = open_content(disks=[folder], small_file=SMALL)
    read_all(content, there)
    asked = _paths_asked(monkeypatch, folder)
    read_all(content, there)
    assert asked == [str(on_disk(folder, there))]
    asked.clear()
    with HandleReader(content, missing):
        assert len(asked) <= 4  # each of two names, and whether the disk is there


def _paths_asked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """Return a list that gets each path below ``folder`` that is looked at from now on."""
    asked: list[str] = []

    def noting(real: Callable[..., Any]) -> Callable[..., Any]:
        def note(path: object, *more: object, **options: object) -> Any:
            if str(path).startswith(str(folder)):
                asked.append(str(path))
            return real(path, *more, **options)

        return note

    for name in ("open", "stat", "lstat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    return asked


def test_the_records_of_a_disk_name_no_cached_file(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), BYTES)
    content = open_content(disks=[folder])
    read_all(content, dataset)
    assert content.admin.list_items() == []
    assert content.cached_path(dataset) is None
    assert [item.path for item in content.admin.list_disk_items()] == [
        f"lab/Subjects/subject/2020-01-01/001/alf/{dataset.name}"
    ]
    # a cache folder that another process uses without the disk
    assert read_all(open_content(), dataset) == BYTES
    assert server.asked == ["/a.b.npy"]


def test_two_versions_that_are_open_at_once_raise_an_error(
    open_content: Open, server: FileServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dataset = server.dataset("a.b.npy", BYTES, md5="")
    path = put(on_disk(folder, dataset), BYTES)
    content: Content = open_content(disks=[folder])
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 10) == BYTES[:10]
        path.write_bytes(OTHER)
        with pytest.raises(BadContent):
            content.open(dataset, place_of(dataset))
    assert read_all(content, dataset) == OTHER
    assert issubclass(DiskAway, Unreachable)


@pytest.mark.parametrize("small_file", [SMALL, 1 << 20], ids=["large", "small"])
@pytest.mark.parametrize("has_uuid", [True, False], ids=["uuid", "plain"])
def test_a_path_for_reading_is_never_that_of_a_file_that_may_not_be_served(
    open_content: Open, server: FileServer, folder: Path, small_file: int, has_uuid: bool
) -> None:
    good, bad = server.dataset("a.b.npy", BYTES), server.dataset("a.c.npy", BYTES)
    paths = [on_disk(folder, each, uuid=has_uuid) for each in (good, bad)]
    for path, data in zip(paths, (BYTES, OTHER), strict=True):
        put(path, data)
    content = open_content(disks=[folder], small_file=small_file)
    assert [content.disk_path(each, place_of(each)) for each in (good, bad)] == paths
    found = [content.cached_path(each, place_of(each)) for each in (good, bad)]
    if small_file == SMALL:  # a large one is served by its size, but only with its UUID
        assert found == (paths if has_uuid else [None, None])
    else:
        assert found == [paths[0], None]
    assert server.asked == []


def test_a_cache_folder_on_a_disk_that_is_a_source_is_refused(
    open_content: Open, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for disk in (tmp_path, tmp_path / "cache", tmp_path / "x" / ".."):
        with pytest.raises(UsageError, match="never writes to: choose another folder"):
            open_content(disks=[disk])
    with pytest.raises(UsageError, match="never writes to"):
        open_content(disks=[tmp_path], cache="link/cache")
    open_content(disks=[tmp_path / "cache2"])


def test_a_file_is_hashed_although_another_reader_that_was_to_do_it_has_closed_it(
    open_content: Open, server: FileServer, folder: Path, no_wait: None
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    put(on_disk(folder, dataset), BYTES)
    files = open_content(disks=[folder]).disk_files
    file, begun = files.open(dataset, place_of(dataset)), threading.Event()
    assert file is not None

    def find_it_closed() -> os.stat_result:
        begun.wait(30)
        raise Stopping("the file was closed")

    files._flight.start((dataset.id, dataset.md5, file.version), find_it_closed)
    threading.Timer(0.1, begun.set).start()
    files.verify(file)
    assert file.is_verified
    files.release(file)

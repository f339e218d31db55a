"""Permissions in a cache folder: modes, groups, symbolic links, and several users."""

from __future__ import annotations

import codecs
import os
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onefs.cache.permissions import check_cache_folder, check_folder
from onefs.content.content import Content
from onefs.download.sources.http import HttpSource
from onefs.errors import BadContent, CacheError, UsageError
from onefs.http import HostAuth, Transport
from tests.content.conftest import FileServer, Open, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    read_all,
    some_bytes,
)

SMALL = some_bytes(50_000)
LARGE = some_bytes(3 * BLOCK + 5, seed=2)
#: two users, and a group of which both are members
MOUSE, RAT, LAB = 45678, 45679, 45700

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def become(uid: int, groups: list[int], mask: int, work: Callable[[], None]) -> str:
    """Call a function as another user in a child process. Return its traceback, or '' if it
    succeeds."""
    for encoding in ("ascii", "latin-1", "idna"):  # the other user may not be able to import them
        codecs.lookup(encoding)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            os.umask(mask)
            work()
        except BaseException:
            said = traceback.format_exc()
        os.write(writer, said.encode()[-60_000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    """Return a folder that other users can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


def contents(cache: Path) -> Content:
    source = HttpSource(Transport(), HostAuth(None))
    return Content(cache, "lab.org", lambda: source, stall=5.0, small_file=BLOCK)


def modes(root: Path) -> dict[str, set[int]]:
    """Return the modes of ``root`` and of all folders and files below ``root``."""
    found: dict[str, set[int]] = {"folders": {stat.S_IMODE(root.stat().st_mode)}, "files": set()}
    for path in root.rglob("*"):
        kind = "folders" if path.is_dir() else "files"
        found[kind].add(stat.S_IMODE(path.stat().st_mode))
    return found


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_new_folders_are_for_their_owner_only(
    open_content: Open, server: FileServer, tmp_path: Path, mask: int
) -> None:
    with umask(mask):
        content = open_content(small_file=BLOCK)
        _fill(content, server)
    assert modes(tmp_path / "cache") == {"folders": {0o700}, "files": {0o600}}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o755, 0o750, 0o2770, 0o775])
def test_files_in_an_existing_folder_get_its_permissions(
    open_content: Open, server: FileServer, tmp_path: Path, mask: int, mode: int
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    if os.geteuid() == 0:
        os.chown(cache, -1, LAB)
    cache.chmod(mode)
    with umask(mask):
        content = open_content(small_file=BLOCK)
        _fill(content, server)
    assert modes(cache) == {"folders": {mode}, "files": {mode & 0o666}}
    assert {path.stat().st_gid for path in cache.rglob("*")} == {cache.stat().st_gid}


def _fill(content: Content, server: FileServer) -> None:
    """Store a file of each kind in the cache folder."""
    small = server.dataset("a.b.npy", SMALL)
    content.fetch_file(small, place_of(small))
    content.admin.pin(small.id)
    large = server.dataset("l.arge.npy", LARGE)
    with HandleReader(content, large) as reader:
        reader.read(0, 10)
    odd = server.dataset("o.dd.npy", SMALL, md5="0" * 32)
    with pytest.raises(BadContent, match="md5"):
        read_all(content, odd)
    content.accept(odd, place_of(odd))


@as_root
@pytest.mark.parametrize("masks", [(0o022, 0o077), (0o077, 0o022)])
def test_two_users_share_the_folder_of_their_group(
    open_to_all: Path, server: FileServer, masks: tuple[int, int]
) -> None:
    """Each user completes, evicts and replaces files of the other user, with any umask."""
    cache = open_to_all / "cache"
    cache.mkdir()
    os.chown(cache, MOUSE, LAB)
    cache.chmod(0o2770)
    small, large = server.dataset("a.b.npy", SMALL), server.dataset("l.arge.npy", LARGE)

    def begin() -> None:
        check_cache_folder(cache)
        content = contents(cache)
        content.fetch_file(small, place_of(small))
        with HandleReader(content, large) as reader:
            assert reader.read(0, 10) == LARGE[:10]

    def go_on() -> None:
        check_cache_folder(cache)
        content = contents(cache)
        sent = len(server.asked)
        assert content.fetch_file(small, place_of(small)).read_bytes() == SMALL
        assert len(server.asked) == sent
        assert content.fetch_file(large, place_of(large)).read_bytes() == LARGE
        assert content.admin.evict(small.id) >= len(SMALL)
        assert content.fetch_file(small, place_of(small)).read_bytes() == SMALL
        assert content.total_bytes() == content.store.measure_usage()

    def end() -> None:
        content = contents(cache)
        assert content.fetch_file(large, place_of(large)).read_bytes() == LARGE
        assert content.admin.clear() > len(LARGE)
        assert content.total_bytes() == 0

    assert become(MOUSE, [LAB], masks[0], begin) == ""
    assert become(RAT, [LAB], masks[1], go_on) == ""
    assert become(MOUSE, [LAB], masks[0], end) == ""


@as_root
def test_the_folder_of_another_user_is_read_where_it_cannot_be_written(
    open_to_all: Path, server: FileServer
) -> None:
    cache = open_to_all / "cache"
    cache.mkdir()
    os.chown(cache, MOUSE, MOUSE)
    cache.chmod(0o755)
    small, other = server.dataset("a.b.npy", SMALL), server.dataset("c.d.npy", SMALL)

    def fill() -> None:
        contents(cache).fetch_file(small, place_of(small))

    def look() -> None:
        check_cache_folder(cache)
        content = contents(cache)
        assert content.state(small)[0] == "cached"
        assert read_all(content, small) == SMALL
        assert [check.good for check in content.admin.verify()] == [True]
        with pytest.raises(CacheError, match="Permission denied"):
            read_all(content, other)
        with pytest.raises(CacheError, match="cannot be removed: Permission denied"):
            content.admin.evict(small.id)
        assert content.state(small)[0] == "cached"
        assert content.total_bytes() >= len(SMALL)

    assert become(MOUSE, [], 0o077, fill) == ""
    assert become(RAT, [], 0o022, look) == ""


@as_root
def test_a_file_without_a_record_in_a_read_only_folder_is_hashed_once(
    open_to_all: Path, server: FileServer
) -> None:
    cache = open_to_all / "cache"
    cache.mkdir(mode=0o755)
    dataset = server.dataset("a.b.npy", SMALL)

    def fill() -> None:
        contents(cache).fetch_file(dataset, place_of(dataset)).chmod(0o644)  # another ctime
        for record in (cache / ".onefs/files").iterdir():
            record.unlink()

    def look() -> None:
        content = contents(cache)
        assert content.state(dataset)[0] == "remote"
        for _ in range(2):
            assert read_all(content, dataset) == SMALL
            assert content.state(dataset)[0] == "cached"
            assert content.cached_path(dataset) is not None

    os.chown(cache, MOUSE, MOUSE)
    assert become(MOUSE, [], 0o022, fill) == ""
    asked = len(server.asked)
    assert become(RAT, [], 0o022, look) == ""
    assert len(server.asked) == asked


@pytest.mark.parametrize("where", ["", ".onefs", ".onefs/files"])
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_folder_that_every_user_may_write_to_is_refused(
    open_content: Open, tmp_path: Path, where: str, mode: int
) -> None:
    open_content()
    check_cache_folder(tmp_path / "cache")
    (tmp_path / "cache" / where).chmod(mode)
    with pytest.raises(UsageError, match=r"every user may write to .*--trust-cache-dir"):
        check_cache_folder(tmp_path / "cache")


def test_a_folder_that_every_user_may_replace_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for mode, fine in ((0o777, False), (0o1777, True), (0o755, True), (0o775, True)):
        shared.chmod(mode)
        for folder in (shared / "a/b", shared / "a"):
            if fine:
                check_folder(folder, "state")
            else:
                with pytest.raises(UsageError, match="every user may replace the state folder"):
                    check_folder(folder, "state")


@as_root
def test_what_another_user_has_put_where_all_may_write_is_refused(open_to_all: Path) -> None:
    shared = open_to_all / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    cache = shared / "cache"
    cache.mkdir(mode=0o755)
    os.chown(cache, RAT, RAT)

    def look() -> None:
        with pytest.raises(UsageError, match="belongs to another user"):
            check_cache_folder(cache)

    assert become(MOUSE, [], 0o022, look) == ""
    assert become(RAT, [], 0o022, lambda: check_cache_folder(cache)) == ""


@as_root
def test_a_group_may_write_where_its_owner_is_in_it(open_to_all: Path) -> None:
    cache = open_to_all / "cache"
    cache.mkdir()
    os.chown(cache, MOUSE, LAB)
    cache.chmod(0o2770)

    def look() -> None:
        with pytest.raises(UsageError, match="a group that this user is not in"):
            check_cache_folder(cache)

    assert become(MOUSE, [], 0o022, look) == ""
    assert become(MOUSE, [LAB], 0o022, lambda: check_cache_folder(cache)) == ""


@pytest.mark.parametrize(
    "name", [".onefs", ".onefs/partial", ".onefs/locks", ".onefs/usage", ".onefs/files", "lab"]
)
def test_links_in_the_places_of_our_files_are_refused(
    open_content: Open, server: FileServer, tmp_path: Path, name: str
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", SMALL)
    content.fetch_file(dataset, place_of(dataset))
    place_of_it = tmp_path / "cache" / name
    place_of_it.rename(tmp_path / "moved")
    place_of_it.symlink_to(tmp_path / "moved")
    with pytest.raises(UsageError, match="is a symbolic link"):
        check_cache_folder(tmp_path / "cache")


@pytest.mark.parametrize("depth", [1, 2, 4, 6])
def test_nothing_is_written_through_a_link_that_was_put_there_meanwhile(
    open_content: Open, server: FileServer, tmp_path: Path, depth: int
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", SMALL)
    outside = tmp_path / "outside"
    outside.mkdir()
    final = content.store.final_path(place_of(dataset))
    link = content.store.root.joinpath(*final.relative_to(content.store.root).parts[:depth])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(CacheError, match="through a symbolic link in the cache folder"):
        content.fetch_file(dataset, place_of(dataset))
    assert list(outside.rglob("*")) == []
    trusting = open_content(trusted=True)
    assert trusting.fetch_file(dataset, place_of(dataset)).read_bytes() == SMALL


def test_nothing_is_written_through_a_link_in_the_place_of_a_partial_file(
    open_content: Open, server: FileServer, tmp_path: Path
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", SMALL)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    content.store.download_path(dataset).symlink_to(victim)
    with pytest.raises(CacheError):
        content.fetch_file(dataset, place_of(dataset))
    assert victim.read_bytes() == b"mine"

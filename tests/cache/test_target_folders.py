"""Files that are moved into folders of the cache which are kept open."""

from __future__ import annotations

from pathlib import Path

import pytest

from onefs.cache.target_folders import TargetFolders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    return tmp_path / "root"


def _source(root: Path) -> Path:
    source = root / "partial"
    source.write_bytes(b"bytes")
    return source


def test_a_file_is_moved_into_an_open_folder(root: Path) -> None:
    folders, final = TargetFolders(root), root / "a" / "b" / "file"
    source = _source(root)
    assert folders.move(source, final, source.stat()) is None  # the folder was not checked
    folders.keep_open(final.parent)
    status = folders.move(source, final, source.stat())
    assert status is not None
    assert (status.st_ino, status.st_ctime_ns) == (final.stat().st_ino, final.stat().st_ctime_ns)
    assert (final.read_bytes(), source.exists()) == (b"bytes", False)


def test_no_file_is_moved_through_a_link_that_was_put_there_later(
    root: Path, tmp_path: Path
) -> None:
    folders, final = TargetFolders(root), root / "a" / "b" / "file"
    folders.keep_open(final.parent)
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    (root / "a").rename(root / "moved")
    (root / "a").symlink_to(outside)
    source = _source(root)
    assert folders.move(source, final, source.stat()) is None
    assert source.read_bytes() == b"bytes"
    assert not list((outside / "b").iterdir())
    assert not list((root / "moved" / "b").iterdir())


def test_a_folder_behind_a_link_is_not_kept_open(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside" / "b").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "outside")
    folders, final = TargetFolders(root), root / "link" / "b" / "file"
    folders.keep_open(final.parent)
    source = _source(root)
    assert folders.move(source, final, source.stat()) is None
    assert not final.exists()


def test_a_folder_that_was_removed_or_replaced_is_not_used(root: Path) -> None:
    folders, final = TargetFolders(root), root / "a" / "b" / "file"
    folders.keep_open(final.parent)
    source = _source(root)
    final.parent.rmdir()
    assert folders.move(source, final, source.stat()) is None
    final.parent.mkdir()
    assert folders.move(source, final, source.stat()) is None
    folders.keep_open(final.parent)
    assert folders.move(source, final, source.stat()) is not None
    assert final.read_bytes() == b"bytes"

"""Programs see the same on a mount as on the disk that it shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import Home, run
from tests.system import generated_tree

#: a small tree, and large ones: seed, sessions, and datasets of each
_SMALL = (1, 8, 10)
_LARGE = ((2, 25, 20), (3, 60, 5), (4, 3, 150))
_PATTERNS = 30

#: seconds; a glob may look at everything once for each pattern
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Pair:
    """A tree on a disk, and a mount of it."""

    disk: Path
    mount: Path
    patterns: list[generated_tree.Pattern]
    scratch: Path


@pytest.fixture(
    scope="module",
    params=[_SMALL, *(pytest.param(each, marks=pytest.mark.long) for each in _LARGE)],
    ids=lambda size: f"tree{size[0]}",
)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    seed, sessions, datasets = request.param
    root = tmp_path_factory.mktemp("same")
    disk = generated_tree.grow(root / "disk", seed, sessions, datasets)
    with Home(root) as home:
        mount = home.mount("--demo", "--demo-data", disk)
        yield Pair(disk, mount.path, generated_tree.patterns(disk, seed, _PATTERNS), root)
        mount.umount()


def test_walk(pair: Pair) -> None:
    assert generated_tree.walked(pair.mount) == generated_tree.walked(pair.disk)


def test_stat(pair: Pair) -> None:
    assert generated_tree.attributes(pair.mount) == generated_tree.attributes(pair.disk)
    first, second = generated_tree.moments(pair.mount), generated_tree.moments(pair.mount)
    assert first == second
    inodes = [inode for _, _, inode in first.values()]
    assert len(set(inodes)) == len(inodes)


def test_contents(pair: Pair) -> None:
    assert generated_tree.contents(pair.mount) == generated_tree.contents(pair.disk)
    run(["diff", "-r", "--no-dereference", pair.disk, pair.mount])


@pytest.mark.parametrize("arguments", generated_tree.FIND, ids=" ".join)
def test_find(pair: Pair, arguments: tuple[str, ...]) -> None:
    assert generated_tree.find(pair.mount, arguments) == generated_tree.find(pair.disk, arguments)


def test_find_newer(pair: Pair) -> None:
    """The times are not the disk's; but they are always the same."""
    (newest, *_) = generated_tree.find(pair.mount, ("-type", "f"))[1:]
    arguments = ("-newer", newest, "-mtime", "+1")
    assert generated_tree.find(pair.mount, arguments) == generated_tree.find(pair.mount, arguments)


@pytest.mark.parametrize(
    "by",
    [
        generated_tree.by_glob,
        generated_tree.by_path_glob,
        generated_tree.by_rglob,
        generated_tree.by_bash,
        generated_tree.by_fsspec,
        generated_tree.by_duckdb,
    ],
    ids=lambda by: by.__name__,
)
def test_glob(pair: Pair, by: generated_tree.Glob) -> None:
    if by in (generated_tree.by_fsspec, generated_tree.by_duckdb):
        pytest.importorskip(by.__name__.removeprefix("by_"))
    wanted = by(pair.disk, pair.patterns)
    assert sum(bool(each) for each in wanted) > _PATTERNS // 2
    found = by(pair.mount, pair.patterns)
    for pattern, here, there in zip(pair.patterns, found, wanted, strict=False):
        assert here == there, pattern.for_python()
    assert found == wanted


def test_duckdb_reads_each_row_once(pair: Pair) -> None:
    duckdb = pytest.importorskip("duckdb")
    for pattern in ("**/trials.table.csv", "*/*/*/*/alf/*.csv", "**/*.csv"):
        query = "select count(*), count(distinct filename), sum(a) from read_csv(?, filename=true)"
        here, there = (
            duckdb.execute(query, [f"{root}/{pattern}"]).fetchall()
            for root in (pair.mount, pair.disk)
        )
        assert here == there, pattern


def test_fsspec_finds_the_same(pair: Pair) -> None:
    local = pytest.importorskip("fsspec").filesystem("file")
    for look in (local.find, local.du):
        found = (look(str(root)) for root in (pair.mount, pair.disk))
        here, there = (
            {os.path.relpath(path, root) for path in each} if isinstance(each, list) else None
            for each, root in zip(found, (pair.mount, pair.disk), strict=True)
        )
        assert here == there


def test_rsync_moves_nothing_the_second_time(pair: Pair, tmp_path: Path) -> None:
    copies = {}
    for root in (pair.mount, pair.disk):
        copy = copies[root] = tmp_path / root.name
        command = ["rsync", "-a", "-i", f"{root}/", f"{copy}/"]
        assert run([*command]).stdout != ""
        assert run([*command]).stdout == ""
    # by checksum, both ways: neither has what the other lacks
    for source, copy in ((pair.mount, copies[pair.disk]), (pair.disk, copies[pair.mount])):
        options = ["-rlpgoD", "-c", "-i", "-n", "--delete"]
        assert run(["rsync", *options, f"{source}/", f"{copy}/"]).stdout == ""
    shutil.rmtree(copies[pair.mount])


@pytest.mark.parametrize("options", [(), ("--sparse",)], ids=["plain", "sparse"])
def test_tar(pair: Pair, tmp_path: Path, options: tuple[str, ...]) -> None:
    here, there = (
        generated_tree.tarred(root, tmp_path / f"{number}.tar", *options)
        for number, root in enumerate((pair.mount, pair.disk))
    )
    assert here == there


def test_copy(pair: Pair, tmp_path: Path) -> None:
    """A copy is its owner's to write to and to remove, as one of a disk is."""
    here, there = tmp_path / "here", tmp_path / "there"
    run(["cp", "-r", pair.mount, here])
    run(["cp", "-r", pair.disk, there])
    assert generated_tree.contents(here) == generated_tree.contents(there)
    assert generated_tree.attributes(here) == generated_tree.attributes(there)

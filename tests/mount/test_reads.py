"""Files of a mount are read by all methods that programs use."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.mount.conftest import Mounted
from tests.running import drop_pages, wait_until

SIZE = 5_000_123


@pytest.fixture
def content() -> bytes:
    return random.Random(1).randbytes(SIZE)


@pytest.fixture
def filled(root: Path, content: bytes, mount: Callable[..., Mounted]) -> Mounted:
    (root / "big.bin").write_bytes(content)
    (root / "empty.bin").touch()
    (root / "sub").mkdir()
    np.save(root / "sub" / "array.npy", np.arange(100_000).reshape(-1, 4))
    (root / "short.bin").write_bytes(content[:5000])
    return mount()


def test_whole_file(filled: Mounted, content: bytes) -> None:
    assert (filled.path / "big.bin").read_bytes() == content
    assert (filled.path / "empty.bin").read_bytes() == b""


def test_reads_at_random_offsets(filled: Mounted, content: bytes) -> None:
    chance = random.Random(2)
    fd = os.open(filled.path / "big.bin", os.O_RDONLY)
    try:
        for _ in range(300):
            offset, length = chance.randrange(SIZE + 5000), chance.randrange(1, 300_000)
            read = b""
            while len(read) < length:
                part = os.pread(fd, length - len(read), offset + len(read))
                if not part:
                    break
                read += part
            assert read == content[offset : offset + length]
            if chance.random() < 0.1:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def test_many_readers_at_once(filled: Mounted, content: bytes) -> None:
    readers = [
        subprocess.Popen(["md5sum", filled.path / "big.bin"], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    wanted = hashlib.md5(content).hexdigest()
    assert [reader.communicate(timeout=60)[0].split()[0] for reader in readers] == [wanted] * 8


def test_each_opening_costs_one_look_up(filled: Mounted) -> None:
    """Attributes, names and pages that the kernel has are not asked for."""
    path = filled.path / "sub" / "array.npy"
    content = path.read_bytes()
    before = filled.calls()
    for _ in range(20):
        assert path.read_bytes() == content
    asked = filled.since(before)
    assert asked["open"] == 20
    # the kernel forgets attributes after a minute at most, and asks again
    assert asked["node"] <= 10
    assert asked["fd"] <= 10


def test_mmap(filled: Mounted, content: bytes) -> None:
    with (
        (filled.path / "big.bin").open("rb") as file,
        mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped,
    ):
        assert mapped[1_234_567:1_300_000] == content[1_234_567:1_300_000]
        assert hashlib.md5(mapped).digest() == hashlib.md5(content).digest()


def test_numpy_maps_it(filled: Mounted) -> None:
    array = np.load(filled.path / "sub" / "array.npy", mmap_mode="r")
    assert int(array[12_345, 2]) == 12_345 * 4 + 2
    assert np.array_equal(array, np.load(filled.root / "sub" / "array.npy"))


def test_direct_io(filled: Mounted, content: bytes) -> None:
    fd = os.open(filled.path / "big.bin", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 20)
    try:
        assert os.preadv(fd, [buffer], 1 << 20) == 1 << 20
        assert buffer[:] == content[1 << 20 : 2 << 20]
    finally:
        os.close(fd)
        buffer.close()


def test_sendfile(filled: Mounted, content: bytes, tmp_path: Path) -> None:
    with (filled.path / "big.bin").open("rb") as source, (tmp_path / "copy").open("wb") as copy:
        sent = 0
        while sent < SIZE:
            sent += os.sendfile(copy.fileno(), source.fileno(), sent, SIZE - sent)
    assert (tmp_path / "copy").read_bytes() == content


def test_locks(filled: Mounted) -> None:
    with (filled.path / "big.bin").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        other = (
            "import fcntl, sys; f = open(sys.argv[1], 'rb');"
            "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
        )
        done = subprocess.run(
            [sys.executable, "-c", other, filled.path / "big.bin"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert "BlockingIOError" in done.stderr


def test_holes(filled: Mounted) -> None:
    with (filled.path / "big.bin").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == SIZE
        assert os.lseek(file.fileno(), 1000, os.SEEK_DATA) == 1000


@pytest.mark.parametrize("options", [[], ["--sparse"]])
def test_tar(filled: Mounted, tmp_path: Path, options: list[str]) -> None:
    names = ["big.bin", "empty.bin", "sub"]
    archive = tmp_path / "all.tar"
    subprocess.run(
        ["tar", "-C", filled.path, *options, "-cf", archive, *names], check=True, timeout=60
    )
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xf", archive], check=True, timeout=60)
    for name in names:
        difference: list[str | Path] = ["diff", "-r", filled.root / name, tmp_path / "out" / name]
        assert subprocess.run(difference, timeout=60).returncode == 0


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_sees_no_difference_until_there_is_one(filled: Mounted, tmp_path: Path) -> None:
    (filled.root / "short.bin").unlink()
    copy = tmp_path / "copy"
    shutil.copytree(filled.root, copy)
    command = ["rsync", "-rcni", "--delete", f"{copy}/", f"{filled.path}/"]
    assert subprocess.check_output(command, text=True, timeout=60) == ""
    with (copy / "big.bin").open("r+b") as file:
        file.write(b"other")
    assert "big.bin" in subprocess.check_output(command, text=True, timeout=60)


def test_the_kernel_caches_pages(filled: Mounted) -> None:
    file = filled.path / "big.bin"
    file.read_bytes()

    def asked() -> int:
        before = filled.calls()
        file.read_bytes()
        return filled.since(before)["fd"]

    wait_until(lambda: asked() == 0, what="a read out of the kernel's pages")  # may drop a few
    drop_pages(file)
    assert asked() > 0


def test_the_kernel_caches_no_pages_without_keep_cache(
    root: Path, mount: Callable[..., Mounted]
) -> None:
    (root / "unkept.bin").write_bytes(b"x" * 10_000)
    mounted = mount()
    (mounted.path / "unkept.bin").read_bytes()
    before = mounted.calls()
    (mounted.path / "unkept.bin").read_bytes()
    assert mounted.since(before)["fd"] == 1


def test_handles_are_closed(filled: Mounted) -> None:
    for _ in range(20):
        (filled.path / "big.bin").read_bytes()
    calls = filled.calls()
    assert calls["open"] == 20
    os.statvfs(filled.path)
    # The kernel reports a close with a delay, so the last two reports may not have arrived yet.
    assert calls["close"] >= 18


def test_too_few_bytes_are_an_error_and_not_the_end_of_the_file(filled: Mounted) -> None:
    assert (filled.path / "short.bin").stat().st_size == 10_000
    with pytest.raises(OSError, match="Input/output error") as caught:
        (filled.path / "short.bin").read_bytes()
    assert caught.value.errno == errno.EIO

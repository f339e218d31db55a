"""The mount refuses all writes, and returns for each error the errno of the error's class."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs import errors
from onefs.mount.operations import ErrorNumbers
from tests.mount.conftest import Mounted

Write = Callable[[Path], object]

#: operations that write, for a folder that contains ``file`` and ``folder``
WRITES: dict[str, Write] = {
    "open to write": lambda at: os.open(at / "file", os.O_WRONLY),
    "open to read and write": lambda at: os.open(at / "file", os.O_RDWR),
    "open to append": lambda at: os.open(at / "file", os.O_WRONLY | os.O_APPEND),
    "open and truncate": lambda at: os.open(at / "file", os.O_RDONLY | os.O_TRUNC),
    "create": lambda at: os.open(at / "new", os.O_WRONLY | os.O_CREAT),
    "create in a folder": lambda at: os.open(at / "folder" / "new", os.O_WRONLY | os.O_CREAT),
    "truncate": lambda at: os.truncate(at / "file", 0),
    "mkdir": lambda at: os.mkdir(at / "new"),
    "mknod": lambda at: os.mknod(at / "new"),
    "mkfifo": lambda at: os.mkfifo(at / "new"),
    "symlink": lambda at: os.symlink("file", at / "new"),
    "link": lambda at: os.link(at / "file", at / "new"),
    "rename": lambda at: os.rename(at / "file", at / "new"),
    "unlink": lambda at: os.unlink(at / "file"),
    "rmdir": lambda at: os.rmdir(at / "folder"),
    "chmod": lambda at: os.chmod(at / "file", 0o600),
    "chown": lambda at: os.chown(at / "file", os.getuid(), os.getgid()),
    "utime": lambda at: os.utime(at / "file"),
    "setxattr": lambda at: os.setxattr(at / "file", "user.onefs.eid", b"x"),
    "removexattr": lambda at: os.removexattr(at / "file", "user.onefs.eid"),
}

#: the name of every error class in :mod:`onefs.errors`
KINDS = sorted(
    kind.__name__
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.OnefsError)
)


@pytest.fixture
def filled(root: Path, mount: Callable[..., Mounted]) -> Mounted:
    (root / "file").write_bytes(b"bytes")
    (root / "folder").mkdir()
    return mount()


def test_writes(filled: Mounted) -> None:
    answers = {}
    for name, write in WRITES.items():
        try:
            write(filled.path)
        except OSError as error:
            answers[name] = error.errno
    assert answers == dict.fromkeys(WRITES, errno.EROFS)
    assert (filled.root / "file").read_bytes() == b"bytes"


def test_access(filled: Mounted) -> None:
    assert os.access(filled.path / "file", os.R_OK)
    assert not os.access(filled.path / "file", os.W_OK)
    assert not os.access(filled.path / "file", os.X_OK)
    assert os.access(filled.path / "folder", os.R_OK | os.X_OK)


def test_programs_get_erofs(filled: Mounted) -> None:
    assert shutil.which("touch")
    done = subprocess.run(
        ["touch", filled.path / "new"], capture_output=True, text=True, timeout=60
    )
    assert "Read-only file system" in done.stderr


def test_each_error_has_its_errno(root: Path, mount: Callable[..., Mounted]) -> None:
    for kind in KINDS:
        (root / f"open-{kind}.bin").write_bytes(b"bytes")
        (root / f"read-{kind}.bin").write_bytes(b"bytes")
        (root / f"list-{kind}").mkdir()
    mounted = mount()
    for kind in KINDS:
        wanted = getattr(errors, kind).errno
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is the point
            os.open(mounted.path / f"open-{kind}.bin", os.O_RDONLY)
        assert caught.value.errno == wanted, f"open: {kind}"
        with pytest.raises(OSError) as caught:  # noqa: PT011
            (mounted.path / f"read-{kind}.bin").read_bytes()
        assert caught.value.errno == wanted, f"read: {kind}"
        if wanted == errno.ENOENT:
            continue  # the C library treats ENOENT as the end of the listing of a removed folder
        with pytest.raises(OSError) as caught:  # noqa: PT011
            os.listdir(mounted.path / f"list-{kind}")
        assert caught.value.errno == wanted, f"readdir: {kind}"


def test_an_unexpected_exception_is_eio_and_logged_once(
    root: Path, mount: Callable[..., Mounted]
) -> None:
    (root / "read-Surprise.bin").write_bytes(b"bytes")
    mounted = mount()
    for _ in range(5):
        with pytest.raises(OSError, match="Input/output error") as caught:
            (mounted.path / "read-Surprise.bin").read_bytes()
        assert caught.value.errno == errno.EIO
    logged = mounted.log.read_text()
    assert logged.count("Traceback") == 1
    assert "Unforeseen: Surprise, as this test asks" in logged


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.Unreachable("away"), errno.EHOSTUNREACH),
        (errors.NotFound("no"), errno.ENOENT),
        (FileNotFoundError(errno.ENOENT, "no"), errno.ENOENT),
        (OSError("without a number"), errno.EIO),
        (BlockingIOError(errno.EAGAIN, "Python's files give None for it"), errno.EBUSY),
        (OSError(-5, "negative"), errno.EIO),
        (KeyError("surprise"), errno.EIO),
        (SystemExit(0), errno.EIO),
    ],
)
def test_exceptions_become_their_errno(error: BaseException, number: int) -> None:
    assert ErrorNumbers().errno_of(error, "read") == number

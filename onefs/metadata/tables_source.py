"""Where cache tables come from: a folder, a file, an archive, a server."""

from __future__ import annotations

import errno
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from onefs.errors import OnefsError, ServerError, UsageError
from onefs.metadata.alyx import Alyx

SESSIONS = "sessions.pqt"
DATASETS = "datasets.pqt"
ARCHIVE = "cache.zip"

#: bytes of the largest archive that is downloaded
MOST_PACKED = 2 << 30
#: bytes of the largest table that an archive may hold
MOST_UNPACKED = 8 << 30
#: how many times its archive's size a table may have, above SMALL_UNPACKED bytes: Parquet is
#: compressed already
MOST_TIMES = 50
SMALL_UNPACKED = 64 << 20
#: bytes a second below which a download is given up, after RATE_AFTER_SECONDS
LOWEST_RATE = 10_000
RATE_AFTER_SECONDS = 60.0
#: bytes unpacked at once
_PIECE = 1 << 20
#: bytes of an archive's list of members; ours have two members
_MOST_DIRECTORY = 1 << 20
#: bytes at an archive's end in which its last record begins
_END_SIZE = (1 << 16) + 64


class Pair(NamedTuple):
    """The two files of one set of tables."""

    sessions: Path
    datasets: Path


def find(given: Path, work: Path) -> Pair:
    """The tables of a folder, of an archive (unpacked into ``work``), or beside a table.

    Raises UsageError naming what is not there or not a table.
    """
    if given.is_dir():
        archive = given / ARCHIVE
        if not (given / SESSIONS).exists() and archive.exists():
            return unpack(archive, work)
        return _beside(given)
    if not given.exists():
        raise UsageError(f"{given} does not exist: give a folder, a table or an archive")
    if _is_archive(given):
        return unpack(given, work)
    if given.name not in (SESSIONS, DATASETS):
        raise UsageError(
            f"{given} is no cache table of ONE: give a folder with {SESSIONS} and {DATASETS}, one "
            f"of them, or {ARCHIVE}"
        )
    return _beside(given.parent)


def download(alyx: Alyx, target: Path, progress: Callable[[int, int], None]) -> None:
    """Write the server's archive to ``target``, telling how many of how many bytes have come.

    Raises ServerError when it has none after all, when the archive is larger than MOST_PACKED or
    comes more slowly than LOWEST_RATE, and what the transport raises.
    """
    url = f"{alyx.url}/{ARCHIVE}"
    with alyx.cache_zip() as stream, target.open("wb") as file:
        if stream.status != 200:
            raise ServerError(f"{url}: answer {stream.status}", stream.status)
        done, began = 0, time.monotonic()
        _check_packed(url, stream.length or 0)
        for chunk in stream.iter_chunks():
            done += len(chunk)
            _check_packed(url, done)
            seconds = time.monotonic() - began
            if seconds > RATE_AFTER_SECONDS and done < LOWEST_RATE * seconds:
                raise ServerError(f"{url} comes too slowly: {done} bytes in {seconds:.0f} s")
            file.write(chunk)
            progress(done, stream.length or 0)
    if not _is_archive(target):
        raise ServerError(f"{url} is no archive")


def unpack(archive: Path, work: Path) -> Pair:
    """The tables of an archive, unpacked into ``work``; nothing else of it is read.

    Raises UsageError naming the archive when it is damaged, holds anything but one of each table,
    or unpacks to more than MOST_UNPACKED or MOST_TIMES its size. Disk errors are raised as they
    are.
    """
    with _reading(archive):
        _check_directory(archive)
        opened = zipfile.ZipFile(archive)
    with opened:
        for name in (SESSIONS, DATASETS):
            _unpack_one(archive, opened, name, work / name)
    return Pair(work / SESSIONS, work / DATASETS)


def _unpack_one(archive: Path, opened: zipfile.ZipFile, name: str, target: Path) -> None:
    members = [member for member in opened.infolist() if member.filename == name]
    if len(members) != 1:
        raise UsageError(f"{archive} holds {len(members)} files {name}, it must hold one")
    most = min(MOST_UNPACKED, max(SMALL_UNPACKED, archive.stat().st_size * MOST_TIMES))
    done = 0
    with _reading(archive):
        packed = opened.open(members[0])
    with packed, target.open("wb") as file:
        while True:
            with _reading(archive):
                piece = packed.read(_PIECE)
            if not piece:
                return
            done += len(piece)
            if done > most:
                raise UsageError(f"{archive}: {name} unpacks to more than {most >> 20} MiB")
            file.write(piece)


def _check_packed(url: str, size: int) -> None:
    if size > MOST_PACKED:
        raise ServerError(f"{url} is larger than {MOST_PACKED >> 20} MiB: no cache tables are")


def _check_directory(archive: Path) -> None:
    """Raise BadZipFile when the list of members is longer than any that cache tables have.

    zipfile reads that list into memory, some hundred bytes for each entry.
    """
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_SIZE))
        tail = file.read()
    at = tail.find(b"PK\x05\x06")
    while at >= 0:
        if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
            raise zipfile.BadZipFile("it is written for more than 4 GiB (ZIP64)")
        if int.from_bytes(tail[at + 12 : at + 16], "little") > _MOST_DIRECTORY:
            raise zipfile.BadZipFile("its list of files is too long")
        at = tail.find(b"PK\x05\x06", at + 1)


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, whatever it holds."""
    with _reading(path):
        return zipfile.is_zipfile(path)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what reading a damaged archive raises into a UsageError that names it."""
    try:
        yield
    except (OnefsError, MemoryError):
        raise
    except Exception as error:  # zipfile and its decompressors raise more kinds than they document
        # the disk's trouble is not the archive's, but a place before its beginning is (EINVAL)
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UsageError(f"{archive} is damaged: {error or type(error).__name__}") from error


def identity(info: dict[str, Any]) -> str:
    """What ``/cache/info/`` says, in one spelling, to tell one set of tables from the next."""
    return json.dumps(info, sort_keys=True)


def _beside(folder: Path) -> Pair:
    pair = Pair(folder / SESSIONS, folder / DATASETS)
    for path in pair:
        if not path.is_file():
            raise UsageError(f"{path} is missing: {SESSIONS} and {DATASETS} belong together")
    return pair

"""Sources of cache tables: a folder, a file, an archive, or the server."""

from __future__ import annotations

import errno
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from onefs.alyx.client import AlyxClient
from onefs.errors import OnefsError, ServerError, UsageError

SESSIONS_FILE_NAME = "sessions.pqt"
DATASETS_FILE_NAME = "datasets.pqt"
ARCHIVE_FILE_NAME = "cache.zip"

#: bytes of the largest archive that is downloaded
MAX_ARCHIVE_BYTES = 2 << 30
#: bytes of the largest table that an archive may hold
MAX_TABLE_BYTES = 8 << 30
#: largest ratio of a table's size to its archive's, for tables above RATIO_EXEMPT_BYTES: Parquet is
#: compressed already
MAX_COMPRESSION_RATIO = 50
RATIO_EXEMPT_BYTES = 64 << 20
#: bytes per second below which a download is aborted, after RATE_GRACE_SECONDS
MIN_BYTES_PER_SECOND = 10_000
RATE_GRACE_SECONDS = 60.0
#: bytes unpacked per step
_CHUNK_BYTES = 1 << 20
#: largest list of members of an archive, in bytes; cache tables have two members
_MAX_DIRECTORY_BYTES = 1 << 20
#: bytes at the end of an archive in which its last record begins
_END_RECORD_SEARCH_BYTES = (1 << 16) + 64


class TablePair(NamedTuple):
    """The two Parquet files of one set of tables."""

    sessions: Path
    datasets: Path


def find_tables(path: Path, work: Path) -> TablePair:
    """The tables in a folder, in an archive (unpacked into ``work``), or in the folder of a table.

    Raises UsageError naming the file that is missing or is not a cache table.
    """
    if path.is_dir():
        archive = path / ARCHIVE_FILE_NAME
        if not (path / SESSIONS_FILE_NAME).exists() and archive.exists():
            return unpack_archive(archive, work)
        return _tables_in_folder(path)
    if not path.exists():
        raise UsageError(f"{path} does not exist: give a folder, a table or an archive")
    if _is_archive(path):
        return unpack_archive(path, work)
    if path.name not in (SESSIONS_FILE_NAME, DATASETS_FILE_NAME):
        raise UsageError(
            f"{path} is no cache table of ONE: give a folder with {SESSIONS_FILE_NAME} and "
            f"{DATASETS_FILE_NAME}, one of them, or {ARCHIVE_FILE_NAME}"
        )
    return _tables_in_folder(path.parent)


def download_archive(alyx: AlyxClient, target: Path, progress: Callable[[int, int], None]) -> None:
    """Write the server's archive to ``target``; call ``progress`` with the bytes received and
    expected (0 if unknown).

    Raises ServerError if there is none, or it is larger than MAX_ARCHIVE_BYTES or slower than
    MIN_BYTES_PER_SECOND, and the errors of the transport.
    """
    url = f"{alyx.url}/{ARCHIVE_FILE_NAME}"
    with alyx.cache_zip() as stream, target.open("wb") as file:
        if stream.status != 200:
            raise ServerError(f"{url}: answer {stream.status}", stream.status)
        done, began = 0, time.monotonic()
        _check_archive_size(url, stream.length or 0)
        for chunk in stream.iter_chunks():
            done += len(chunk)
            _check_archive_size(url, done)
            seconds = time.monotonic() - began
            if seconds > RATE_GRACE_SECONDS and done < MIN_BYTES_PER_SECOND * seconds:
                raise ServerError(f"{url} comes too slowly: {done} bytes in {seconds:.0f} s")
            file.write(chunk)
            progress(done, stream.length or 0)
    if not _is_archive(target):
        raise ServerError(f"{url} is no archive")


def unpack_archive(archive: Path, work: Path) -> TablePair:
    """The tables of an archive, unpacked into ``work``; its other members are not read.

    Raises UsageError naming the archive if it is damaged, does not contain each table once, or
    unpacks to more than MAX_TABLE_BYTES or MAX_COMPRESSION_RATIO times its size. Raises OSError for
    the disk.
    """
    with _translated_errors(archive):
        _check_directory(archive)
        opened = zipfile.ZipFile(archive)
    with opened:
        for name in (SESSIONS_FILE_NAME, DATASETS_FILE_NAME):
            _unpack_table(archive, opened, name, work / name)
    return TablePair(work / SESSIONS_FILE_NAME, work / DATASETS_FILE_NAME)


def _unpack_table(archive: Path, opened: zipfile.ZipFile, name: str, target: Path) -> None:
    members = [member for member in opened.infolist() if member.filename == name]
    if len(members) != 1:
        raise UsageError(f"{archive} holds {len(members)} files {name}, it must hold one")
    most = min(
        MAX_TABLE_BYTES, max(RATIO_EXEMPT_BYTES, archive.stat().st_size * MAX_COMPRESSION_RATIO)
    )
    done = 0
    with _translated_errors(archive):
        packed = opened.open(members[0])
    with packed, target.open("wb") as file:
        while True:
            with _translated_errors(archive):
                chunk = packed.read(_CHUNK_BYTES)
            if not chunk:
                return
            done += len(chunk)
            if done > most:
                raise UsageError(f"{archive}: {name} unpacks to more than {most >> 20} MiB")
            file.write(chunk)


def _check_archive_size(url: str, size: int) -> None:
    if size > MAX_ARCHIVE_BYTES:
        raise ServerError(
            f"{url} is larger than {MAX_ARCHIVE_BYTES >> 20} MiB: no cache tables are"
        )


def _check_directory(archive: Path) -> None:
    """Raise BadZipFile if the list of members is longer than that of any cache tables.

    zipfile reads that list into memory, some hundred bytes per entry.
    """
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_RECORD_SEARCH_BYTES))
        tail = file.read()
    at = tail.find(b"PK\x05\x06")
    while at >= 0:
        if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
            raise zipfile.BadZipFile("it is written for more than 4 GiB (ZIP64)")
        if int.from_bytes(tail[at + 12 : at + 16], "little") > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its list of files is too long")
        at = tail.find(b"PK\x05\x06", at + 1)


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, with any members."""
    with _translated_errors(path):
        return zipfile.is_zipfile(path)


@contextmanager
def _translated_errors(archive: Path) -> Iterator[None]:
    """Turn the exceptions of a damaged archive into a UsageError that names it."""
    try:
        yield
    except (OnefsError, MemoryError):
        raise
    except Exception as error:  # zipfile and its decompressors raise more kinds than they document
        # an error of the disk is not the archive's; EINVAL is, for an offset before its start
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UsageError(f"{archive} is damaged: {error or type(error).__name__}") from error


def _tables_in_folder(folder: Path) -> TablePair:
    pair = TablePair(folder / SESSIONS_FILE_NAME, folder / DATASETS_FILE_NAME)
    for path in pair:
        if not path.is_file():
            raise UsageError(
                f"{path} is missing: {SESSIONS_FILE_NAME} and {DATASETS_FILE_NAME} belong together"
            )
    return pair

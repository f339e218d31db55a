"""Get the two files of cache tables from a folder, a file, an archive, or the server."""

from __future__ import annotations

import errno
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from onefs.errors import OnefsError, ServerError, UsageError
from onefs.http import Stream

SESSIONS_FILE_NAME = "sessions.pqt"
DATASETS_FILE_NAME = "datasets.pqt"
ARCHIVE_FILE_NAME = "cache.zip"

#: size in bytes of the largest archive that is downloaded
MAX_ARCHIVE_BYTES = 2 << 30
#: size in bytes of the largest table that is unpacked from an archive
MAX_TABLE_BYTES = 8 << 30
#: largest ratio of a table's unpacked size to the size of its archive. A higher ratio is a sign of
#: a malicious archive, because Parquet files are already compressed. Tables of at most
#: RATIO_EXEMPT_BYTES may have any ratio.
MAX_COMPRESSION_RATIO = 50
RATIO_EXEMPT_BYTES = 64 << 20
#: smallest average rate of a download in bytes per second. A slower download is aborted, but not
#: in its first RATE_GRACE_SECONDS.
MIN_BYTES_PER_SECOND = 10_000
RATE_GRACE_SECONDS = 60.0
#: number of bytes that are unpacked at a time
_CHUNK_BYTES = 1 << 20
#: size in bytes of the longest list of members in an archive. An archive of cache tables has a
#: short list, because it has only two members.
_MAX_DIRECTORY_BYTES = 1 << 20
#: number of bytes at the end of an archive in which the archive's end record must begin
_END_RECORD_SEARCH_BYTES = (1 << 16) + 64


class TablePair(NamedTuple):
    """The paths of a sessions table and of the datasets table that belongs to it."""

    sessions: Path
    datasets: Path


def find_tables(path: Path, work: Path) -> TablePair:
    """Return the paths of the sessions table and the datasets table.

    ``path`` is an archive, a folder with both tables, or one of two tables in the same folder. An
    archive is unpacked into the folder ``work``. Raises UsageError, with the name of the file, if a
    file is missing or is neither a table nor an archive.
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
            f"{path} is no cache table of ONE: give {SESSIONS_FILE_NAME} or {DATASETS_FILE_NAME}, "
            f"a folder that has both, or {ARCHIVE_FILE_NAME}"
        )
    return _tables_in_folder(path.parent)


class TablesServer(Protocol):
    """A server of cache tables: Alyx, or a public bucket."""

    @property
    def url(self) -> str:
        """The address of the folder with the archive ``cache.zip``."""

    def cache_info(self) -> dict[str, Any] | None:
        """Return the description of the tables, or None if there are no tables."""

    def cache_zip(self) -> Stream:
        """Return a stream of the archive. The caller must check its HTTP status."""


def download_archive(
    server: TablesServer, target: Path, progress: Callable[[int, int], None]
) -> None:
    """Download the server's archive of cache tables to ``target``.

    ``progress`` is called with the bytes received and the bytes expected (0 if unknown). Raises
    ServerError in these cases:

    - The server has no archive, or the file is not an archive.
    - The archive is larger than MAX_ARCHIVE_BYTES.
    - The download is slower than MIN_BYTES_PER_SECOND.

    Also raises the errors of requests.
    """
    url = f"{server.url}/{ARCHIVE_FILE_NAME}"
    with server.cache_zip() as stream, target.open("wb") as file:
        if stream.status != 200:
            raise ServerError(f"{url} cannot be downloaded (HTTP {stream.status})", stream.status)
        done, began = 0, time.monotonic()
        _check_archive_size(url, stream.length or 0)
        for chunk in stream.iter_chunks():
            done += len(chunk)
            _check_archive_size(url, done)
            seconds = time.monotonic() - began
            if seconds > RATE_GRACE_SECONDS and done < MIN_BYTES_PER_SECOND * seconds:
                raise ServerError(
                    f"the download of {url} is too slow: {done} bytes in {seconds:.0f} s"
                )
            file.write(chunk)
            progress(done, stream.length or 0)
    if not _is_archive(target):
        raise ServerError(f"{url} is not a zip archive")


def unpack_archive(archive: Path, work: Path) -> TablePair:
    """Unpack the two tables of an archive into the folder ``work``. Return the tables' paths.

    Raises UsageError, with the name of the archive, in these cases:

    - The archive is damaged, or does not contain each table exactly once.
    - A table is larger than MAX_TABLE_BYTES.
    - A table of more than RATIO_EXEMPT_BYTES is larger than MAX_COMPRESSION_RATIO times the
      archive.

    Raises OSError if the disk fails.
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
        raise UsageError(f"{archive} must hold one file {name}, but holds {len(members)}")
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
                raise UsageError(
                    f"{archive}: {name} unpacks to more than {most >> 20} MiB, too large for a "
                    "table"
                )
            file.write(chunk)


def _check_archive_size(url: str, size: int) -> None:
    if size > MAX_ARCHIVE_BYTES:
        raise ServerError(
            f"{url} is larger than {MAX_ARCHIVE_BYTES >> 20} MiB, which is too large for cache "
            "tables"
        )


def _check_directory(archive: Path) -> None:
    """Raise BadZipFile if the archive's list of members is longer than _MAX_DIRECTORY_BYTES.

    Also raise BadZipFile for the format ZIP64, which archives of more than 4 GiB have.
    """
    # the module zipfile reads the list into memory: each entry needs a few hundred bytes
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_RECORD_SEARCH_BYTES))
        tail = file.read()
    at = tail.find(b"PK\x05\x06")
    while at >= 0:
        if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
            raise zipfile.BadZipFile(
                "the zip file uses ZIP64, the format for files of more than 4 GiB, which onefs "
                "does not read"
            )
        if int.from_bytes(tail[at + 12 : at + 16], "little") > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("the list of files in the zip file is too long")
        at = tail.find(b"PK\x05\x06", at + 1)


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive. The members of the archive are not checked."""
    with _translated_errors(path):
        return zipfile.is_zipfile(path)


@contextmanager
def _translated_errors(archive: Path) -> Iterator[None]:
    """Raise UsageError in place of the exceptions that a damaged archive causes.

    The message contains the path of the archive. Errors of the disk are not replaced.
    """
    try:
        yield
    except (OnefsError, MemoryError):
        raise
    except Exception as error:  # zipfile raises more types of exceptions than are documented
        # An OSError is an error of the disk, not of the archive. But EINVAL means that the archive
        # contains an offset before its beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UsageError(
            f"the archive {archive} cannot be read: {str(error) or type(error).__name__}"
        ) from error


def _tables_in_folder(folder: Path) -> TablePair:
    pair = TablePair(folder / SESSIONS_FILE_NAME, folder / DATASETS_FILE_NAME)
    for path in pair:
        if not path.is_file():
            raise UsageError(
                f"{path} is missing: {SESSIONS_FILE_NAME} and {DATASETS_FILE_NAME} belong together"
            )
    return pair

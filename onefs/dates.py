"""Modification times of files and folders. No I/O.

These times are computed from the date in the path and from the identity of a file's bytes. They do
not depend on dates that only Alyx has, because cache tables lack these dates. Otherwise the mtime
of a file would change when its listing comes from Alyx and no longer from cache tables.
"""

from __future__ import annotations

from datetime import date
from zlib import crc32

from onefs import alf
from onefs.model import Dataset

_DAY_SECONDS = 86_400
_EPOCH = date(1970, 1, 1)
#: the date that is used if there is no valid date; 1970 means "no date" to many programs
_FALLBACK_DATE = date(2000, 1, 1)
#: first and last year that file systems can store: ext4 ends in 2446
_FIRST_YEAR, _LAST_YEAR = 1971, 2445


def midnight(day: str) -> float:
    """Return midnight (UTC) of a day ``yyyy-mm-dd``, in seconds since the epoch.

    A day that is invalid, or that file systems cannot store, counts as 2000-01-01.
    """
    parsed = date.fromisoformat(day) if alf.is_calendar_day(day) else _FALLBACK_DATE
    if not _FIRST_YEAR <= parsed.year <= _LAST_YEAR:
        parsed = _FALLBACK_DATE
    return float((parsed - _EPOCH).days * _DAY_SECONDS)


def file_mtime(day: str, identity: bytes) -> float:
    """Return a file's mtime: midnight (UTC) of ``day``, plus less than a day.

    The added seconds are computed from ``identity``, which is equal only for files with equal
    bytes.
    """
    return midnight(day) + crc32(identity) % _DAY_SECONDS


def dataset_day(session_day: str, dataset: Dataset) -> str:
    """Return the date of a dataset: the date in the revision's name, or else the session's date."""
    revision = dataset.revision
    return revision[:10] if alf.is_revision_day(revision) else session_day


def dataset_identity(dataset: Dataset) -> bytes:
    """Return the identity of a dataset's bytes: the hash of the bytes.

    If the hash is unknown, return the dataset's size and UUID instead.
    """
    return (dataset.md5 or f"{dataset.size} {dataset.id}").encode()


def dataset_mtime(place: tuple[str, ...], dataset: Dataset) -> float:
    """Return the mtime of a dataset's file.

    ``place`` has the parts of the file's path, from the lab on.
    """
    session_day = place[2] if len(place) > 2 else ""
    return file_mtime(dataset_day(session_day, dataset), dataset_identity(dataset))

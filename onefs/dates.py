"""Modification times of files and folders, and times written as text. No I/O.

Modification times are computed from the date in the path and from the identity of a file's bytes.
They do not depend on dates that only Alyx has, because cache tables lack these dates. Otherwise the
mtime of a file would change when its listing comes from Alyx and no longer from cache tables.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timezone
from functools import lru_cache
from zlib import crc32

from onefs import alf
from onefs.model import Dataset

_DAY_SECONDS = 86_400
_EPOCH = date(1970, 1, 1)
#: the date that is used if there is no valid date; 1970 means "no date" to many programs
_FALLBACK_DATE = date(2000, 1, 1)
#: first and last year that file systems can store: ext4 ends in 2446
_FIRST_YEAR, _LAST_YEAR = 1971, 2445
#: a time in ISO 8601. ``datetime.fromisoformat`` of Python 3.10 wants 3 or 6 decimals of a second
#: and no ``Z``; with this pattern every release of Python reads the same texts
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


@lru_cache(maxsize=4096)  # needed for each file and each folder
def midnight(day: str) -> float:
    """Return midnight (UTC) of a day ``yyyy-mm-dd``, in seconds since the epoch.

    A day that is invalid, or that file systems cannot store, counts as 2000-01-01.
    """
    parsed = date.fromisoformat(day) if alf.is_calendar_day(day) else _FALLBACK_DATE
    if not _FIRST_YEAR <= parsed.year <= _LAST_YEAR:
        parsed = _FALLBACK_DATE
    return float((parsed - _EPOCH).days * _DAY_SECONDS)


def parse_timestamp(text: str) -> float | None:
    """Return a time written in ISO 8601 in seconds since the epoch, or None if it is invalid.

    A time without a time zone is treated as UTC.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    day, minutes, seconds, decimals, zone = match.groups()
    time = f"{minutes or '00:00'}:{seconds or '00'}.{(decimals or '').ljust(6, '0')[:6]}"
    offset = "+00:00" if zone in (None, "Z") else f"{zone[:3]}:{zone[3:].lstrip(':') or '00'}"
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{offset}")
        return moment.astimezone(timezone.utc).timestamp()
    except (ValueError, OverflowError):  # OverflowError is for years outside 1 to 9999 in UTC
        return None


def file_mtime(day: str, identity: bytes) -> float:
    """Return a file's mtime: midnight (UTC) of ``day``, plus less than a day.

    The added seconds are computed from ``identity``, which is equal only for files with equal
    bytes.
    """
    return midnight(day) + crc32(identity) % _DAY_SECONDS


def dataset_day(session_day: str, dataset: Dataset) -> str:
    """Return the date of a dataset: the date in the revision's name, or else the session's date."""
    revision = dataset.revision
    return revision[:10] if revision and alf.is_revision_day(revision) else session_day


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

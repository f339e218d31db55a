"""The dates that files and folders are shown with. Pure.

Cache tables do not know when a dataset was made, so a date must not come from what only Alyx says:
it would change with whatever brought the listing. All dates are made of the day in the path, and
of what tells a file's bytes from others.
"""

from __future__ import annotations

from datetime import date
from zlib import crc32

from onefs import alf
from onefs.model import Dataset

_DAY_SECONDS = 86_400
_EPOCH = date(1970, 1, 1)
#: the day of things without a usable day: programs take 1970 for "no date"
_FALLBACK_DATE = date(2000, 1, 1)
#: years that a file system can store: ext4 ends in 2446
_FIRST_YEAR, _LAST_YEAR = 1971, 2445


def midnight(day: str) -> float:
    """Return the midnight (UTC) of ``yyyy-mm-dd``, in seconds since the epoch.

    A text that is not a day of the calendar, or is a day that file systems cannot store, counts
    as 2000-01-01.
    """
    found = date.fromisoformat(day) if alf.is_calendar_day(day) else _FALLBACK_DATE
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        found = _FALLBACK_DATE
    return float((found - _EPOCH).days * _DAY_SECONDS)


def file_mtime(day: str, identity: bytes) -> float:
    """Return the mtime of a file of ``day``: midnight plus seconds that ``identity`` decides.

    ``identity`` is equal for equal bytes, and differs for others.
    """
    return midnight(day) + crc32(identity) % _DAY_SECONDS


def dataset_day(session_day: str, dataset: Dataset) -> str:
    """Return the day of a dataset: that of its revision if it names one, else its session's."""
    revision = dataset.revision
    return revision[:10] if alf.is_revision_day(revision) else session_day


def dataset_identity(dataset: Dataset) -> bytes:
    """Return what tells a dataset's bytes from others: its hash, or without one size and UUID."""
    return (dataset.md5 or f"{dataset.size} {dataset.id}").encode()


def dataset_mtime(place: tuple[str, ...], dataset: Dataset) -> float:
    """Return the mtime of a dataset's file at ``place``: lab, subject, date and what follows."""
    session_day = place[2] if len(place) > 2 else ""
    return file_mtime(dataset_day(session_day, dataset), dataset_identity(dataset))

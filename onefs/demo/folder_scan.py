"""The contents of a folder of sessions. Names that are not UTF-8 are decoded by ``os.fsdecode``.

A symbolic link is followed only if its target is inside the folder that is served.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from onefs import alf
from onefs.demo import alyx_rows
from onefs.demo.records import SessionRecord
from onefs.errors import reason_of

log = logging.getLogger(__name__)


@lru_cache(maxsize=1000)
def _log_skipped(path: str, reason: str | None) -> None:
    """Log that a folder cannot be read. Repeated calls with the same arguments log nothing."""
    log.warning("The folder %r is left out: %s", path, reason)


@dataclass(frozen=True, slots=True)
class ScannedSession:
    """A session folder that a scan found."""

    lab: str
    subject: str
    date: str
    #: the name of the folder. The names ``1`` and ``001`` both mean number 1
    number: str
    path: str


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file that was found in a session folder."""

    #: the path inside the session folder, with ``/``
    inside: str
    path: str
    stat: os.stat_result


class Scan:
    """The sessions in the folder ``root`` at the time of the scan.

    ``root`` is a path without symbolic links.
    """

    def __init__(self, root: str) -> None:
        #: lab -> the folder of its subjects
        self.labs: dict[str, str] = {}
        #: eid -> the session's folder
        self.places: dict[str, ScannedSession] = {}
        for lab, folder in _folders(root, root):
            inner = dict(_folders(folder, root))
            self.labs[lab] = inner.get(alf.SUBJECTS, folder)
            for place in _places(lab, self.labs[lab], root):
                self.places[alyx_rows.make_id(os.path.relpath(place.path, root))] = place
        sessions = (_session(eid, place) for eid, place in self.places.items())
        self.sessions = tuple(sorted(sessions, key=lambda s: (s.start_time, s.eid), reverse=True))


def _places(lab: str, folder: str, root: str) -> Iterator[ScannedSession]:
    for subject, subject_path in _folders(folder, root):
        for day, day_path in _folders(subject_path, root):
            if not alf.is_calendar_day(day):
                continue
            for number, path in _folders(day_path, root):
                if number.isascii() and number.isdigit() and len(number) <= 9:
                    yield ScannedSession(lab, subject, day, number, path)


def _folders(path: str, root: str) -> list[tuple[str, str]]:
    """Return (name, path) of each folder in ``path`` that is inside ``root``, sorted by name."""
    try:
        with os.scandir(path) as entries:
            return sorted((e.name, e.path) for e in entries if e.is_dir() and _belongs(e, root))
    except OSError as error:
        _log_skipped(path, reason_of(error, path))
        return []


def _belongs(entry: os.DirEntry[str], root: str) -> bool:
    return not entry.is_symlink() or is_inside(entry.path, root)


def is_inside(path: str, root: str) -> bool:
    """Whether ``path`` is below ``root`` after symbolic links are resolved."""
    return os.path.realpath(path).startswith(root.rstrip("/") + "/")


def files_below(folder: str, root: str) -> Iterator[ScannedFile]:
    """Yield every regular file below a session folder, sorted by name in each folder."""
    return _walk(folder, "", root, (os.path.realpath(folder),))


def _walk(folder: str, prefix: str, root: str, above: tuple[str, ...]) -> Iterator[ScannedFile]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        _log_skipped(folder, reason_of(error, folder))
        return
    for entry in entries:
        if not _belongs(entry, root):
            continue
        try:
            status = entry.stat()
        except OSError:
            continue  # the entry was removed since it was listed, or is a broken link
        if stat.S_ISREG(status.st_mode):
            yield ScannedFile(prefix + entry.name, entry.path, status)
        elif stat.S_ISDIR(status.st_mode):
            real = os.path.realpath(entry.path)
            if real not in above:  # a link to a folder above would be an endless path
                yield from _walk(entry.path, f"{prefix}{entry.name}/", root, (*above, real))


def _registered(place: ScannedSession) -> str:
    """Return the change time (ctime) of a session's folder, in Alyx's format.

    If the folder cannot be read, return the start of the session's day.
    """
    try:
        return alyx_rows.format_timestamp(os.stat(place.path).st_ctime_ns)
    except OSError:
        return f"{place.date}T00:00:00.000000"


def _session(eid: str, place: ScannedSession) -> SessionRecord:
    return SessionRecord(
        eid=eid,
        lab=place.lab,
        subject=place.subject,
        start_time=f"{place.date}T00:00:00",
        number=int(place.number),
        auto_datetime=_registered(place),
    )

"""Alyx's rows, turned into the model: every quirk of the server's answers ends here.

Sources are the server's own behaviour, recorded in ``tests/data/recorded``: an id may only stand
at the end of ``url``; times are local, without zone; ``revision`` is a name in ``/datasets`` but a
UUID in a session's detail (which is therefore not used for listings); a file record says
``exists`` of repositories nobody can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlsplit

from onefs import alf
from onefs.errors import ServerError
from onefs.foreign import whole_number
from onefs.model import Copy, Dataset, Repository, Session
from onefs.urls import LONGEST

#: characters of a path that need no escape (RFC 3986, pchar and the slash); ``#``, ``?`` and
#: ``%`` do, because Alyx's data_url is the bare name put behind the repository's address
_PATH_SAFE = "/:@!$&'()*+,;=~-._"

#: the largest integer that SQLite keeps
_LARGEST = 2**63 - 1

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset as the catalogue keeps it: with every copy that claims to exist.

    Which copies can be fetched depends on what is known of their repositories, and is decided
    when the row is read, by :func:`usable_copies`.
    """

    dataset: Dataset
    #: (repository, data_url as Alyx wrote it)
    claimed: tuple[tuple[str, str], ...]
    #: for a dataset known from cache tables: ``lab/Subjects/.../name`` as the file server has it
    stored: str = ""


def identifier(row: Row) -> str:
    """The UUID of a row: its ``id``, or the end of its ``url`` (Alyx before May 2022)."""
    for text in (row.get("id"), str(row.get("url") or "")[-36:]):
        if isinstance(text, str) and alf.is_uuid(text.lower()):
            return text.lower()
    raise ServerError(f"Alyx sent a row without a UUID: {_excerpt(row)}")


def named(column: str) -> Callable[[Row], str]:
    """What gives a row's name, which stands in ``column``; '' for a row without one."""
    return lambda row: alf.valid_text(str(row.get(column) or ""))


def subject_key(row: Row) -> str:
    """What tells a row of ``/subjects`` from others: two labs may share a nickname."""
    return f"{row.get('lab')}/{row.get('nickname')}"


def session_of(row: Row) -> str:
    """The session that a row of ``/datasets`` belongs to: the end of its URL; '' without one."""
    eid = str(row.get("session") or "")[-36:].lower()
    return eid if alf.is_uuid(eid) else ""


def session(row: Row) -> tuple[Session, bool]:
    """A row of ``/sessions`` or a session's detail, and whether it has a number.

    A session without number (a base session) has no folder: its number is given as -1.
    """
    start = _text(row, "start_time")
    number = _number(row)
    return Session(
        eid=identifier(row),
        lab=_text(row, "lab"),
        subject=_text(row, "subject"),
        date=start[:10],
        number=number if number is not None else -1,
        start_time=timestamp(start) or 0.0,
        task_protocol=_text(row, "task_protocol"),
        projects=_projects(row),
    ), number is not None


def repository(row: Row) -> Repository:
    """A row of ``/data-repository``. ``globus_is_personal`` null (tape) counts as personal."""
    url = _text(row, "data_url")
    return Repository(
        name=_text(row, "name"),
        data_url=url if len(url) <= LONGEST else "",
        personal=row.get("globus_is_personal") is not False,
    )


def dataset(row: Row, eid: str) -> DatasetRow:
    """A row of ``/datasets``."""
    size = row.get("file_size")
    found = Dataset(
        id=identifier(row),
        eid=eid,
        name=_text(row, "name"),
        collection=_text(row, "collection"),
        revision=_text(row, "revision"),
        dataset_type=_text(row, "dataset_type"),
        size=size if type(size) is int and 0 <= size <= _LARGEST else None,
        md5=_digest(row.get("hash")),
        default=row.get("default_dataset") is not False,
        qc=_text(row, "qc") or "NOT_SET",
        mtime=_first_time(row, "created_datetime", "auto_datetime"),
    )
    records = row.get("file_records") or []
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ServerError(f"Alyx sent 'file_records' that are none: {_excerpt(row)}")
    claimed = tuple(
        (_text(record, "data_repository"), _url(record))
        for record in records
        if record.get("exists") is True
    )
    return DatasetRow(found, claimed)


def usable_copies(
    claimed: Sequence[tuple[str, str]], repositories: Mapping[str, Repository]
) -> tuple[Copy, ...]:
    """The copies that can be fetched, in Alyx's own order (``flatiron_*`` before ``aws_*``).

    Trusted are records on a repository that is known, not personal, and serves files: personal
    ones claim to exist too, with addresses that lead nowhere.
    """
    copies = [
        Copy(name, escape_url(url))
        for name, url in claimed
        if name in repositories
        and not repositories[name].personal
        and urlsplit(url).scheme in ("http", "https")
    ]
    return tuple(sorted(copies, key=lambda copy: copy.repository, reverse=True))


def escape_url(url: str) -> str:
    """A ``data_url`` ready to be sent: the ``#`` of a revision must go out as ``%23``.

    Cut at the ``#`` a file server answers 200 with the folder's listing.
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{quote(path, safe=_PATH_SAFE, errors='surrogateescape')}"


def timestamp(text: str) -> float | None:
    """Seconds since the epoch of Alyx's local time without zone, taken as UTC; None if unusable."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()


def _first_time(row: Row, *keys: str) -> float:
    for key in keys:
        value = row.get(key)
        moment = timestamp(value) if isinstance(value, str) else None
        if moment is not None:
            return moment
    return 0.0


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ServerError(f"Alyx sent {key!r} that is no text: {_excerpt(row)}")
    return alf.valid_text(value)


def _url(record: Row) -> str:
    """``data_url`` as it came: it may hold bytes that are not UTF-8. '' when it is too long."""
    url = record.get("data_url")
    return url if isinstance(url, str) and len(url) <= LONGEST else ""


def _number(row: Row) -> int | None:
    """``number``, an integer or null; a text of digits is taken too (tables of 2021 have such)."""
    number = row.get("number")
    if number is None:
        return None
    if isinstance(number, str):
        number = whole_number(number)
    if type(number) is not int or abs(number) > _LARGEST:
        raise ServerError(f"Alyx sent 'number' that is none: {_excerpt(row)}")
    return number


def _projects(row: Row) -> tuple[str, ...]:
    """``projects`` is a list; before 2022 it was ``project``, one name."""
    projects = row.get("projects")
    if isinstance(projects, list):
        return tuple(alf.valid_text(str(name)) for name in projects)
    project = _text(row, "project")
    return (project,) if project else ()


def _digest(value: object) -> str:
    """md5 by habit, sha1 allowed by Alyx; anything else is as good as none."""
    text = value.lower() if isinstance(value, str) else ""
    if len(text) in (32, 40) and all(digit in "0123456789abcdef" for digit in text):
        return text
    return ""


def _excerpt(row: object) -> str:
    text = repr(row)
    return text if len(text) <= 120 else text[:117] + "..."

"""Parses rows of Alyx into the model. Every quirk of the server's answers is handled here.

The source is the behaviour of a real server, recorded in ``tests/data/recorded``: the id may be
only at the end of ``url``; times are local, without zone; ``revision`` is a name in ``/datasets``
but a UUID in a session's detail (which is therefore not used for listings); a file record has
``exists`` also for repositories that cannot be reached.

An invalid value affects its own row only. If it decides the place in the tree (ids, names, dates,
numbers), the row is left out of its list (see :func:`parse_rows`); an invalid address makes a file
unreachable, not absent; any other invalid value counts as unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import quote

from onefs import alf
from onefs.config.urls import MAX_URL_LENGTH
from onefs.errors import ServerError
from onefs.integers import parse_whole_number
from onefs.model import Dataset, Replica, Repository, Session

#: characters of a path that need no escape (RFC 3986, pchar and the slash); ``#``, ``?`` and
#: ``%`` need one, because Alyx appends the unescaped file name to the repository's address
_PATH_SAFE = "/:@!$&'()*+,;=~-._"

#: the largest integer of SQLite
_MAX_INTEGER = 2**63 - 1
#: replaces an address that is no text: its file is listed and unreachable
UNUSABLE_URL = "http:///"

Row = Mapping[str, Any]
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset as the catalogue stores it, with all replicas that Alyx claims to exist.

    :func:`usable_replicas` selects those that can be fetched when the row is read, since that
    depends on the repositories known at that time.
    """

    dataset: Dataset
    #: (repository, data_url as sent by Alyx)
    claimed_replicas: tuple[tuple[str, str], ...]
    #: of a dataset from cache tables: ``lab/Subjects/.../name``, its path on the file server
    server_path: str = ""


def parse_rows(rows: Iterable[Row], parse: Callable[[Row], T], what: str) -> list[T]:
    """Parse rows with ``parse``; leave out invalid rows, with one log line about the list ``what``.

    Raises ServerError when there are rows and all of them are invalid: that is not an empty list.
    """
    values: list[T] = []
    errors: list[ServerError] = []
    for row in rows:
        try:
            values.append(parse(row))
        except ServerError as error:
            errors.append(error)
    if errors and not values:
        raise errors[0]
    if errors:
        log.warning("%s: %d rows are left out, the first: %s", what, len(errors), errors[0])
    return values


def uuid_of(row: Row) -> str:
    """The UUID of a row: its ``id``, or the end of its ``url`` (Alyx before May 2022)."""
    for text in (row.get("id"), str(row.get("url") or "")[-36:]):
        if isinstance(text, str) and alf.is_uuid(text.lower()):
            return text.lower()
    raise ServerError(f"Alyx sent a row without a UUID: {_excerpt(row)}")


def name_parser(column: str) -> Callable[[Row], str]:
    """A function that returns the name in ``column`` of a row; raises ServerError without one."""

    def parse_name(row: Row) -> str:
        name = _text(row, column)
        if not name:
            raise ServerError(f"Alyx sent a row without {column!r}: {_excerpt(row)}")
        return name

    return parse_name


def subject_key(row: Row) -> str:
    """The key of a row of ``/subjects``: two labs can have the same nickname."""
    return f"{row.get('lab')}/{row.get('nickname')}"


def session_id_of(row: Row) -> str:
    """The eid of a row of ``/datasets``: the end of its session's URL; '' without one."""
    eid = str(row.get("session") or "")[-36:].lower()
    return eid if alf.is_uuid(eid) else ""


def parse_session(row: Row) -> tuple[Session, bool]:
    """Parse a row of ``/sessions`` or a session's detail; also whether it has a number.

    A session without number (a base session) has no folder; its number becomes -1.
    """
    start = _text(row, "start_time")
    number = _parse_number(row)
    return Session(
        eid=uuid_of(row),
        lab=_text(row, "lab"),
        subject=_text(row, "subject"),
        date=start[:10] if alf.is_date(start[:10]) else "",
        number=number if number is not None else -1,
        start_time=parse_timestamp(start) or 0.0,
        task_protocol=_text_or_empty(row, "task_protocol"),
        projects=_parse_projects(row),
    ), number is not None


def parse_repository(row: Row) -> Repository:
    """Parse a row of ``/data-repository``. A null ``globus_is_personal`` (tape) means personal."""
    return Repository(
        name=name_parser("name")(row),
        data_url=alf.valid_text(_data_url(row)),
        personal=row.get("globus_is_personal") is not False,
    )


def parse_dataset(row: Row, eid: str) -> DatasetRow:
    """Parse a row of ``/datasets`` of the session ``eid``."""
    size = row.get("file_size")
    dataset = Dataset(
        id=uuid_of(row),
        eid=eid,
        name=name_parser("name")(row),
        collection=_text(row, "collection"),
        revision=_text(row, "revision"),
        dataset_type=_text_or_empty(row, "dataset_type"),
        size=size if type(size) is int and 0 <= size <= _MAX_INTEGER else None,
        md5=_parse_digest(row.get("hash")),
        default=row.get("default_dataset") is not False,
        qc=_text_or_empty(row, "qc") or "NOT_SET",
        mtime=_first_timestamp(row, "created_datetime", "auto_datetime"),
    )
    return DatasetRow(dataset, _parse_replicas(row))


def _parse_replicas(row: Row) -> tuple[tuple[str, str], ...]:
    """The file records with ``exists``. Invalid records are ignored if there are valid ones."""
    value = row.get("file_records") or []
    records = value if isinstance(value, list) else [value]
    valid = [record for record in records if _is_file_record(record)]
    claimed = tuple(
        (_text(record, "data_repository"), _data_url(record))
        for record in valid
        if record.get("exists") is True
    )
    if len(valid) < len(records) and not claimed:
        raise ServerError(f"Alyx sent invalid 'file_records': {_excerpt(row)}")
    return claimed


def _is_file_record(record: object) -> bool:
    """Whether a file record names its repository, or none."""
    return isinstance(record, dict) and isinstance(record.get("data_repository"), (str, type(None)))


def usable_replicas(
    claimed: Sequence[tuple[str, str]], repositories: Mapping[str, Repository]
) -> tuple[Replica, ...]:
    """The replicas that can be fetched, in Alyx's own order (``flatiron_*`` before ``aws_*``).

    Their repositories are known, not personal, and serve files: records of personal ones claim to
    exist too, with addresses that lead nowhere. A malformed address of a server is included: a
    request for it fails with an error message.
    """
    replicas = [
        Replica(name, escape_url(url))
        for name, url in claimed
        if name in repositories and not repositories[name].personal and is_file_server_url(url)
    ]
    return tuple(sorted(replicas, key=lambda replica: replica.repository, reverse=True))


def is_file_server_url(url: str) -> bool:
    """Whether an address, even a malformed one, belongs to a file server."""
    return url.lower().startswith(("http://", "https://"))


def escape_url(url: str) -> str:
    """Escape a ``data_url`` for a request: the ``#`` of a revision must be sent as ``%23``.

    For a URL cut at the ``#`` a file server answers 200 with a listing of the folder.
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # JSON can contain surrogates that stand for no byte
        raw = path.encode("utf-8", "surrogatepass")
    return f"{scheme}://{host}{slash}{quote(raw, safe=_PATH_SAFE)}"


def parse_timestamp(text: str) -> float | None:
    """Seconds since the epoch of a time of Alyx; without zone it counts as UTC; None if invalid."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc).timestamp()
    except (ValueError, OverflowError):  # the latter: outside the years 1 to 9999 in UTC
        return None


def _first_timestamp(row: Row, *keys: str) -> float:
    for key in keys:
        value = row.get(key)
        moment = parse_timestamp(value) if isinstance(value, str) else None
        if moment is not None:
            return moment
    return 0.0


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ServerError(f"Alyx sent an invalid {key!r}, which is no text: {_excerpt(row)}")
    return alf.valid_text(value)


def _text_or_empty(row: Row, key: str) -> str:
    """A text that decides no place in the tree: '' for any value that is no text."""
    value = row.get(key)
    return alf.valid_text(value) if isinstance(value, str) else ""


def _data_url(row: Row) -> str:
    """``data_url`` as it was sent: it can contain bytes that are not UTF-8."""
    url = row.get("data_url")
    if url is None:
        return ""
    return url if isinstance(url, str) and len(url) <= MAX_URL_LENGTH else UNUSABLE_URL


def _parse_number(row: Row) -> int | None:
    """``number``, 0 or more, or None; digits as a text are accepted (cache tables of 2021)."""
    number = row.get("number")
    if number is None:
        return None
    if isinstance(number, str):
        number = parse_whole_number(number)
    if type(number) is not int or not 0 <= number <= _MAX_INTEGER:
        raise ServerError(f"Alyx sent an invalid 'number': {_excerpt(row)}")
    return number


def _parse_projects(row: Row) -> tuple[str, ...]:
    """``projects`` is a list; before 2022 it was ``project``, one name."""
    projects = row.get("projects")
    if isinstance(projects, list):
        return tuple(alf.valid_text(name) for name in projects if isinstance(name, str))
    project = _text_or_empty(row, "project")
    return (project,) if project else ()


def _parse_digest(value: object) -> str:
    """The digest, usually md5; Alyx allows sha1 too; '' for anything else."""
    text = value.lower() if isinstance(value, str) else ""
    if len(text) in (32, 40) and all(digit in "0123456789abcdef" for digit in text):
        return text
    return ""


def _excerpt(row: object) -> str:
    text = repr(row)
    return text if len(text) <= 120 else text[:117] + "..."

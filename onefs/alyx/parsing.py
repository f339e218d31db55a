"""Alyx's rows, turned into the model: every quirk of the server's answers ends here.

Sources are the server's own behaviour, recorded in ``tests/data/recorded``: an id may only stand
at the end of ``url``; times are local, without zone; ``revision`` is a name in ``/datasets`` but a
UUID in a session's detail (which is therefore not used for listings); a file record says
``exists`` of repositories nobody can reach.

A value that is not as Alyx sends it harms its own row only. Where it decides on the place in the
tree (ids, names, dates, numbers) the row is left out of its list, see :func:`parse_rows`; an
address that is none makes a file unreachable, not absent; any other value is taken as unknown.
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
#: ``%`` do, because Alyx's data_url is the bare name put behind the repository's address
_PATH_SAFE = "/:@!$&'()*+,;=~-._"

#: the largest integer that SQLite keeps
_MAX_INTEGER = 2**63 - 1
#: stands for an address that is no text: no request can be sent to it, so that its file is listed
#: and unreachable
UNUSABLE_URL = "http:///"

Row = Mapping[str, Any]
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset as the catalogue keeps it: with every copy that claims to exist.

    Which copies can be fetched depends on what is known of their repositories, and is decided
    when the row is read, by :func:`usable_replicas`.
    """

    dataset: Dataset
    #: (repository, data_url as Alyx wrote it)
    claimed_replicas: tuple[tuple[str, str], ...]
    #: for a dataset known from cache tables: ``lab/Subjects/.../name`` as the file server has it
    server_path: str = ""


def parse_rows(found: Iterable[Row], read: Callable[[Row], T], what: str) -> list[T]:
    """What ``read`` makes of rows. Those that it cannot read are left out, with one log line.

    ``what`` names the list. Raises ServerError when there are rows and none of them can be read:
    a list of nothing but odd rows is no empty one.
    """
    values: list[T] = []
    odd: list[ServerError] = []
    for row in found:
        try:
            values.append(read(row))
        except ServerError as error:
            odd.append(error)
    if odd and not values:
        raise odd[0]
    if odd:
        log.warning("%s: %d rows are left out, the first: %s", what, len(odd), odd[0])
    return values


def uuid_of(row: Row) -> str:
    """The UUID of a row: its ``id``, or the end of its ``url`` (Alyx before May 2022)."""
    for text in (row.get("id"), str(row.get("url") or "")[-36:]):
        if isinstance(text, str) and alf.is_uuid(text.lower()):
            return text.lower()
    raise ServerError(f"Alyx sent a row without a UUID: {_excerpt(row)}")


def name_parser(column: str) -> Callable[[Row], str]:
    """What gives a row's name, which stands in ``column``; it raises ServerError without one."""

    def name(row: Row) -> str:
        found = _text(row, column)
        if not found:
            raise ServerError(f"Alyx sent a row without {column!r}: {_excerpt(row)}")
        return found

    return name


def subject_key(row: Row) -> str:
    """What tells a row of ``/subjects`` from others: two labs may share a nickname."""
    return f"{row.get('lab')}/{row.get('nickname')}"


def session_id_of(row: Row) -> str:
    """The session that a row of ``/datasets`` belongs to: the end of its URL; '' without one."""
    eid = str(row.get("session") or "")[-36:].lower()
    return eid if alf.is_uuid(eid) else ""


def parse_session(row: Row) -> tuple[Session, bool]:
    """A row of ``/sessions`` or a session's detail, and whether it has a number.

    A session without number (a base session) has no folder: its number is given as -1.
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
    """A row of ``/data-repository``. ``globus_is_personal`` null (tape) counts as personal."""
    return Repository(
        name=name_parser("name")(row),
        data_url=alf.valid_text(_data_url(row)),
        personal=row.get("globus_is_personal") is not False,
    )


def parse_dataset(row: Row, eid: str) -> DatasetRow:
    """A row of ``/datasets``."""
    size = row.get("file_size")
    found = Dataset(
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
    return DatasetRow(found, _parse_replicas(row))


def _parse_replicas(row: Row) -> tuple[tuple[str, str], ...]:
    """The records that say a file exists. Odd ones are left out while there are others."""
    records = row.get("file_records") or []
    given = records if isinstance(records, list) else [records]
    known = [record for record in given if _is_file_record(record)]
    claimed = tuple(
        (_text(record, "data_repository"), _data_url(record))
        for record in known
        if record.get("exists") is True
    )
    if len(known) < len(given) and not claimed:
        raise ServerError(f"Alyx sent 'file_records' that are none: {_excerpt(row)}")
    return claimed


def _is_file_record(record: object) -> bool:
    """Whether it can be told which repository it is about."""
    return isinstance(record, dict) and isinstance(record.get("data_repository"), (str, type(None)))


def usable_replicas(
    claimed: Sequence[tuple[str, str]], repositories: Mapping[str, Repository]
) -> tuple[Replica, ...]:
    """The copies that can be fetched, in Alyx's own order (``flatiron_*`` before ``aws_*``).

    Trusted are records on a repository that is known, not personal, and serves files: personal
    ones claim to exist too, with addresses that lead nowhere. A malformed address of a server
    counts: asking for it fails with a sentence.
    """
    copies = [
        Replica(name, escape_url(url))
        for name, url in claimed
        if name in repositories and not repositories[name].personal and is_file_server_url(url)
    ]
    return tuple(sorted(copies, key=lambda copy: copy.repository, reverse=True))


def is_file_server_url(url: str) -> bool:
    """Whether an address, malformed or not, is one of a file server."""
    return url.lower().startswith(("http://", "https://"))


def escape_url(url: str) -> str:
    """A ``data_url`` ready to be sent: the ``#`` of a revision must go out as ``%23``.

    Cut at the ``#`` a file server answers 200 with the folder's listing.
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # JSON can say surrogates that stand for no byte
        raw = path.encode("utf-8", "surrogatepass")
    return f"{scheme}://{host}{slash}{quote(raw, safe=_PATH_SAFE)}"


def parse_timestamp(text: str) -> float | None:
    """Seconds since the epoch of Alyx's local time without zone, taken as UTC; None if unusable."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc).timestamp()
    except (ValueError, OverflowError):  # the latter: a zone leads out of the years 1 to 9999
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
        raise ServerError(f"Alyx sent {key!r} that is no text: {_excerpt(row)}")
    return alf.valid_text(value)


def _text_or_empty(row: Row, key: str) -> str:
    """A text that decides on nothing: '' for whatever is no text."""
    value = row.get(key)
    return alf.valid_text(value) if isinstance(value, str) else ""


def _data_url(row: Row) -> str:
    """``data_url`` as it came: it may hold bytes that are not UTF-8."""
    url = row.get("data_url")
    if url is None:
        return ""
    return url if isinstance(url, str) and len(url) <= MAX_URL_LENGTH else UNUSABLE_URL


def _parse_number(row: Row) -> int | None:
    """``number``, 0 or more, or null; a text of digits is taken too (tables of 2021 have such)."""
    number = row.get("number")
    if number is None:
        return None
    if isinstance(number, str):
        number = parse_whole_number(number)
    if type(number) is not int or not 0 <= number <= _MAX_INTEGER:
        raise ServerError(f"Alyx sent 'number' that is none: {_excerpt(row)}")
    return number


def _parse_projects(row: Row) -> tuple[str, ...]:
    """``projects`` is a list; before 2022 it was ``project``, one name."""
    projects = row.get("projects")
    if isinstance(projects, list):
        return tuple(alf.valid_text(name) for name in projects if isinstance(name, str))
    project = _text_or_empty(row, "project")
    return (project,) if project else ()


def _parse_digest(value: object) -> str:
    """md5 by habit, sha1 allowed by Alyx; anything else is as good as none."""
    text = value.lower() if isinstance(value, str) else ""
    if len(text) in (32, 40) and all(digit in "0123456789abcdef" for digit in text):
        return text
    return ""


def _excerpt(row: object) -> str:
    text = repr(row)
    return text if len(text) <= 120 else text[:117] + "..."

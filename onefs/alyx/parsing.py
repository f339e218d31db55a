"""Parses rows from Alyx into the model, and handles every irregularity in the server's answers.

The rules come from the answers of a real server, recorded in ``tests/data/recorded``:

- The id may be only at the end of ``url``.
- Times are local times without a time zone.
- ``revision`` is a name in ``/datasets``, but a UUID in the detail of a session. Therefore the
  detail of a session is not used for listings.
- A file record can have ``exists`` although its repository is unreachable.

An invalid value affects only its own row. If the value decides the place in the tree (an id, name,
date or number), the row is left out of its list (see :func:`parse_rows`). If the value is a file's
address, the file is listed but unreachable. Any other invalid value is treated as unknown.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from onefs import alf
from onefs.alyx.s3_records import is_on_s3, s3_url
from onefs.config.bucket import is_bucket_url
from onefs.config.urls import MAX_URL_LENGTH
from onefs.dates import parse_timestamp
from onefs.errors import ServerError
from onefs.integers import parse_whole_number
from onefs.model import Dataset, Insertion, Replica, Repository, Session

#: characters of a path that are not escaped (RFC 3986, pchar and the slash); ``#``, ``?`` and
#: ``%`` are escaped, because Alyx appends the unescaped file name to the repository's address
_PATH_SAFE = "/:@!$&'()*+,;=~-._"
#: a URL whose path contains only characters that are not escaped; most URLs are like this
_NEEDS_NO_ESCAPE = re.compile(r"[a-z]+://[\w.:-]+/[\w/:@!$&'()*+,;=~.-]*", re.ASCII)

#: the largest integer that SQLite can store
_MAX_INTEGER = 2**63 - 1
#: replaces an invalid address, so that its file is listed but unreachable
UNUSABLE_URL = "http:///"

Row = Mapping[str, Any]
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset as the catalogue stores it, with all replicas that exist according to Alyx.

    :func:`usable_replicas` selects the replicas that can be fetched.
    """

    dataset: Dataset
    #: pairs of the repository and ``data_url`` as sent by Alyx. The replicas that can be fetched
    #: are selected when the catalogue is read, because the repositories may have changed
    claimed_replicas: tuple[tuple[str, str], ...]
    #: path on the file server (``lab/Subjects/.../name``) if the dataset comes from cache tables;
    #: '' if the dataset comes from Alyx
    server_path: str = ""


def parse_rows(rows: Iterable[Row], parse: Callable[[Row], T], what: str) -> list[T]:
    """Parse rows with ``parse``, and leave out invalid rows.

    A warning is logged for rows that are left out. ``what`` is the name of the list in this
    warning. Raises ServerError if all rows are invalid. An empty list is not an error.
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
        log.warning(
            "the list of %s has %d invalid rows, which are left out; the first error: %s",
            what,
            len(errors),
            errors[0],
        )
    return values


def uuid_of(row: Row) -> str:
    """Return the UUID of a row, from ``id`` or the end of ``url`` (Alyx before May 2022).

    Raises ServerError if the row has no UUID.
    """
    for text in (row.get("id"), str(row.get("url") or "")[-36:]):
        if isinstance(text, str) and alf.is_uuid(text.lower()):
            return text.lower()
    raise ServerError(f"Alyx sent a row without a UUID: {_excerpt(row)}")


def any_key(row: Row) -> str:
    """Return a text that identifies a row of any list: its id, its URL or the whole row."""
    return str(row.get("id") or row.get("url") or row)


def uuid_or_empty(row: Row) -> str:
    """Return the UUID of a row as :func:`uuid_of` does, or '' if the row has no UUID."""
    try:
        return uuid_of(row)
    except ServerError:
        return ""


def name_parser(column: str) -> Callable[[Row], str]:
    """Return a function that returns the name in ``column`` of a row.

    That function raises ServerError if the row has no name.
    """

    def parse_name(row: Row) -> str:
        name = _text(row, column)
        if not name:
            raise ServerError(f"Alyx sent a row without {column!r}: {_excerpt(row)}")
        return name

    return parse_name


def subject_key(row: Row) -> str:
    """Return the key of a row of ``/subjects``.

    The key contains the lab, because two labs can have subjects with the same nickname.
    """
    return f"{row.get('lab')}/{row.get('nickname')}"


def session_id_of(row: Row) -> str:
    """Return the eid in a row of ``/datasets``, or '' if the row has no session."""
    # the eid is the end of the session's URL
    eid = str(row.get("session") or "")[-36:].lower()
    return eid if alf.is_uuid(eid) else ""


def parse_session(row: Row) -> tuple[Session, bool]:
    """Parse a row of ``/sessions``, or a session's detail.

    Return the session, and a flag that is True if the session has a number. A session without a
    number (a base session) has no folder, and gets the number -1. Raises ServerError for an invalid
    row.
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


def parse_insertion(row: Row) -> Insertion:
    """Parse a row of ``/insertions``. Raises ServerError for an invalid row."""
    eid = session_id_of(row)
    if not eid:
        raise ServerError(f"Alyx sent an insertion without a session: {_excerpt(row)}")
    try:
        record = json.dumps(row)
    except (RecursionError, ValueError) as error:
        raise ServerError(f"Alyx sent an insertion that is not JSON: {error}") from error
    return Insertion(uuid_of(row), eid, name_parser("name")(row), record)


def parse_session_of_insertion(row: Row) -> tuple[Session, bool] | None:
    """Return the session in a row of ``/insertions``, as :func:`parse_session` does.

    Return None if the row does not describe its session.
    """
    info = row.get("session_info")
    if not isinstance(info, dict) or uuid_or_empty(info) != session_id_of(row):
        return None
    try:
        return parse_session(info)
    except ServerError:  # the insertion itself is valid
        return None


def parse_repository(row: Row) -> Repository:
    """Parse a row of ``/data-repository``. Raises ServerError for an invalid row.

    A repository is personal if ``globus_is_personal`` is true or null. For a repository on S3, null
    means that it is not personal.
    """
    name, is_personal = name_parser("name")(row), row.get("globus_is_personal")
    return Repository(
        name=name,
        data_url=alf.valid_text(_data_url(row)),
        # null for a tape
        personal=is_personal is not False and not (is_personal is None and is_on_s3(name)),
    )


def parse_dataset(row: Row, eid: str) -> DatasetRow:
    """Parse a row of ``/datasets`` for a dataset of the session ``eid``.

    Raises ServerError for an invalid row.
    """
    size = row.get("file_size")
    id_ = uuid_of(row)
    dataset = Dataset(
        id=id_,
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
    return DatasetRow(dataset, _parse_replicas(row, id_))


def _parse_replicas(row: Row, id_: str) -> tuple[tuple[str, str], ...]:
    """Return the repository and the address of each file record whose ``exists`` is true.

    Raises ServerError if no such record is found and a record is invalid.
    """
    value = row.get("file_records") or []
    records = value if isinstance(value, list) else [value]
    valid = [record for record in records if _is_file_record(record)]
    claimed = tuple(
        (_text(record, "data_repository"), s3_url(record, id_) or _data_url(record))
        for record in valid
        if record.get("exists") is True
    )
    if len(valid) < len(records) and not claimed:
        raise ServerError(f"Alyx sent invalid 'file_records': {_excerpt(row)}")
    return claimed


def _is_file_record(record: object) -> bool:
    """Whether ``record`` is an object whose repository is a text or null."""
    return isinstance(record, dict) and isinstance(record.get("data_repository"), (str, type(None)))


def usable_replicas(
    claimed: Sequence[tuple[str, str]], repositories: Mapping[str, Repository]
) -> tuple[Replica, ...]:
    """Return the replicas in ``claimed`` that can be fetched, in the order in which to try them.

    ``claimed`` holds pairs of repository and address. A replica can be fetched if all of these are
    true:

    - ``repositories`` has its repository
    - the repository is not personal
    - the address starts with http:// or https://, or is that of a bucket
    """
    # addresses of personal repositories do not work, although their records have ``exists``; a
    # request for a malformed address fails later with an error message
    replicas = [
        Replica(name, escape_url(url))
        for name, url in claimed
        if name in repositories and not repositories[name].personal and is_fetchable_url(url)
    ]
    # buckets first, as in ONE; then file servers in the order of Alyx: flatiron_* before aws_*
    replicas.sort(key=lambda each: (is_bucket_url(each.url), each.repository), reverse=True)
    return tuple(replicas)


def is_fetchable_url(url: str) -> bool:
    """Whether ``url`` is an address on a file server or in a bucket. It may be malformed."""
    return is_file_server_url(url) or is_bucket_url(url)


def is_file_server_url(url: str) -> bool:
    """Whether ``url`` starts with http:// or https://. The part after :// may be malformed."""
    return url[:8].lower().startswith(("http://", "https://"))


def escape_url(url: str) -> str:
    """Return a ``data_url`` with its path escaped for a request."""
    if _NEEDS_NO_ESCAPE.fullmatch(url):
        return url
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # JSON can contain surrogates that do not encode a byte
        raw = path.encode("utf-8", "surrogatepass")
    # the '#' of a revision must be sent as %23: otherwise the URL ends before the '#', and the file
    # server answers 200 with a listing of the folder
    return f"{scheme}://{host}{slash}{quote(raw, safe=_PATH_SAFE)}"


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
        raise ServerError(f"Alyx sent a {key!r} that is not a text: {_excerpt(row)}")
    return alf.valid_text(value)


def _text_or_empty(row: Row, key: str) -> str:
    """Return the text of ``key``, or '' if the value is not a text."""
    # only for values that do not decide the place in the tree
    value = row.get(key)
    return alf.valid_text(value) if isinstance(value, str) else ""


def _data_url(row: Row) -> str:
    """Return the row's ``data_url`` as Alyx sent it. The text may contain bytes that are not UTF-8.

    Return '' if the row has no address, and UNUSABLE_URL if the address is invalid.
    """
    url = row.get("data_url")
    if url is None:
        return ""
    return url if isinstance(url, str) and len(url) <= MAX_URL_LENGTH else UNUSABLE_URL


def _parse_number(row: Row) -> int | None:
    """Return the number of a session (0 or more), or None if the session has no number.

    Raises ServerError if the number is invalid.
    """
    number = row.get("number")
    if number is None:
        return None
    # the cache tables of 2021 have texts
    if isinstance(number, str):
        number = parse_whole_number(number)
    if type(number) is not int or not 0 <= number <= _MAX_INTEGER:
        raise ServerError(f"Alyx sent an invalid 'number': {_excerpt(row)}")
    return number


def _parse_projects(row: Row) -> tuple[str, ...]:
    """Return the names of a session's projects, from ``projects`` or ``project``.

    ``projects`` is a list. Before 2022 Alyx sent ``project`` instead, with a single name.
    """
    projects = row.get("projects")
    if isinstance(projects, list):
        return tuple(alf.valid_text(name) for name in projects if isinstance(name, str))
    project = _text_or_empty(row, "project")
    return (project,) if project else ()


def _parse_digest(value: object) -> str:
    """Return ``value`` in lower case if it is an md5 or sha1 digest, or '' for any other value."""
    text = value.lower() if isinstance(value, str) else ""
    if len(text) in (32, 40) and all(digit in "0123456789abcdef" for digit in text):
        return text
    return ""


def _excerpt(row: object) -> str:
    if isinstance(row, Mapping):  # the json of a repository may have keys
        row = {name: value for name, value in row.items() if name != "json"}
    text = repr(row)
    return text if len(text) <= 120 else text[:117] + "..."

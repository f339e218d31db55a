"""What stands in the columns of the catalogue's tables: values of the model as rows, and back.

``schema.sql`` says what each column means. Addresses of copies are kept relative to their
repository, so that a file server that moves takes its files along.
"""

from __future__ import annotations

import json
from typing import Any

from onefs.alyx.parsing import UNUSABLE_URL, DatasetRow
from onefs.errors import CacheError
from onefs.model import Dataset, Session

#: what comes of reading a row that this code has not written
_DECODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError)

INSERT_SESSION = f"REPLACE INTO sessions VALUES ({', '.join('?' * 8)})"
INSERT_DATASET = f"REPLACE INTO datasets VALUES ({', '.join('?' * 13)})"


def decode_session(row: tuple[Any, ...]) -> Session:
    """A row of ``sessions``. Raises CacheError when it cannot be read."""
    try:
        return _session_of(row)
    except _DECODE_ERRORS as error:
        raise _decode_error("session", row, error) from error


def _session_of(row: tuple[Any, ...]) -> Session:
    eid, lab, subject, date, number, start_time, task_protocol, projects = row
    return Session(
        eid=str(eid),
        lab=str(lab),
        subject=str(subject),
        date=str(date),
        number=int(number) if number is not None else -1,
        start_time=float(start_time),
        task_protocol=str(task_protocol),
        projects=tuple(str(projects).split(",")) if projects else (),
    )


def encode_session(found: Session, numbered: bool) -> tuple[object, ...]:
    """What INSERT_SESSION takes; ``numbered``: whether Alyx has a number for it."""
    return (
        found.eid,
        found.lab,
        found.subject,
        found.date,
        found.number if numbered else None,
        found.start_time,
        found.task_protocol,
        ",".join(found.projects),
    )


def decode_dataset(row: tuple[Any, ...], bases: dict[str, str]) -> DatasetRow:
    """A row of ``datasets``; ``bases``: where each repository's files begin.

    Raises CacheError when it cannot be read.
    """
    try:
        return _dataset_of(row, bases)
    except _DECODE_ERRORS as error:
        raise _decode_error("dataset", row, error) from error


def _dataset_of(row: tuple[Any, ...], bases: dict[str, str]) -> DatasetRow:
    id_, eid, name, collection, revision, type_, size, probed, md5, default, qc, mtime, copies = row
    known = size if size is not None else probed
    claimed = tuple(
        (str(repository), _absolute_url(str(url), bases.get(repository, "")))
        for repository, url in json.loads(copies)
    )
    return DatasetRow(
        Dataset(
            id=str(id_),
            eid=str(eid),
            name=str(name),
            collection=str(collection),
            revision=str(revision),
            dataset_type=str(type_),
            size=int(known) if known is not None else None,
            md5=str(md5),
            default=bool(default),
            qc=str(qc),
            mtime=float(mtime),
        ),
        claimed,
    )


def encode_dataset(
    row: DatasetRow, probed: int | None, bases: dict[str, str]
) -> tuple[object, ...]:
    """What INSERT_DATASET takes; ``probed``: the size that the file server gave."""
    found = row.dataset
    copies = [[name, _relative_url(url, bases.get(name, ""))] for name, url in row.claimed_replicas]
    return (
        found.id,
        found.eid,
        found.name,
        found.collection,
        found.revision,
        found.dataset_type,
        found.size,
        probed,
        found.md5,
        found.default,
        found.qc,
        found.mtime,
        json.dumps(copies),
    )


def _decode_error(what: str, row: tuple[Any, ...], error: Exception) -> CacheError:
    return CacheError(f"the catalogue's row of {what} {row[0]!a} cannot be read: {error}")


def _relative_url(url: str, base: str) -> str:
    return url[len(base) :] if base and url.startswith(base) else url


def _absolute_url(url: str, base: str) -> str:
    """An address as Alyx has it. Without its repository's it is unusable, not absent."""
    return url if "://" in url or not url else (base or UNUSABLE_URL) + url

"""Row codecs: convert sessions and datasets to rows of the catalogue's tables, and back.

``schema.sql`` describes the columns. The URL of a replica is stored relative to the URL of its
repository, so that the URL stays valid if the file server gets another URL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from sys import intern
from typing import Any

from onefs.alyx.parsing import UNUSABLE_URL, DatasetRow
from onefs.errors import CacheError
from onefs.model import Dataset, Session

INSERT_SESSION = f"REPLACE INTO sessions VALUES ({', '.join('?' * 8)})"
INSERT_DATASET = f"REPLACE INTO datasets VALUES ({', '.join('?' * 13)})"


def decode_session(row: tuple[Any, ...]) -> Session:
    """Convert a row of ``sessions`` to a session. Raises CacheError if the row is damaged."""
    with _decode_errors("session", lambda: row):
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


def encode_session(session: Session, numbered: bool) -> tuple[object, ...]:
    """Return the values for the SQL statement INSERT_SESSION.

    ``numbered`` is True if Alyx has a number for the session.
    """
    return (
        session.eid,
        session.lab,
        session.subject,
        session.date,
        session.number if numbered else None,
        session.start_time,
        session.task_protocol,
        ",".join(session.projects),
    )


def decode_datasets(
    rows: Iterable[tuple[Any, ...]], url_by_repository: Mapping[str, str]
) -> list[DatasetRow]:
    """Convert rows of ``datasets`` to datasets, each with all replicas that Alyx names.

    Raises CacheError if a row is damaged.
    """
    # fast, because a walk of a large laboratory reads hundreds of thousands of rows
    decoded = []
    row: tuple[Any, ...] = ("",)
    with _decode_errors("dataset", lambda: row):
        for row in rows:
            id_, eid, name, collection, revision, type_ = map(str, row[:6])
            size, probed, md5, default, qc, mtime, urls = row[6:]
            known_size = size if size is not None else probed
            dataset = Dataset(
                id_,
                # the same texts as in other rows: they are stored in memory once
                intern(eid),
                intern(name),
                intern(collection),
                revision,
                intern(type_),
                int(known_size) if known_size is not None else None,
                str(md5),
                bool(default),
                intern(str(qc)),
                float(mtime),
            )
            claimed = [
                (intern(str(name)), _absolute_url(str(url), url_by_repository.get(name, "")))
                for name, url in json.loads(urls)
            ]
            decoded.append(DatasetRow(dataset, tuple(claimed)))
    return decoded


def encode_dataset(
    row: DatasetRow, probed: int | None, url_by_repository: dict[str, str]
) -> tuple[object, ...]:
    """Return the values for the SQL statement INSERT_DATASET.

    ``probed`` is the size in bytes that a file server gave, or None if no such size is stored.
    """
    dataset = row.dataset
    replicas = [
        [name, _relative_url(url, url_by_repository.get(name, ""))]
        for name, url in row.claimed_replicas
    ]
    return (
        dataset.id,
        dataset.eid,
        dataset.name,
        dataset.collection,
        dataset.revision,
        dataset.dataset_type,
        dataset.size,
        probed,
        dataset.md5,
        dataset.default,
        dataset.qc,
        dataset.mtime,
        json.dumps(replicas),
    )


@contextmanager
def _decode_errors(kind: str, row: Callable[[], tuple[Any, ...]]) -> Iterator[None]:
    """Raise CacheError instead of an error that a damaged row causes.

    ``row`` returns the row that is being decoded. The error message names this row.
    """
    try:
        yield
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CacheError(
            f"the catalogue's row of {kind} {row()[0]!a} cannot be read: {error}"
        ) from error


def _relative_url(url: str, base: str) -> str:
    return url[len(base) :] if base and url.startswith(base) else url


def _absolute_url(url: str, base: str) -> str:
    """Return the absolute URL of a replica.

    ``url`` is the stored URL. ``base`` is the URL of the repository. If ``base`` is '', a relative
    URL is marked as unusable.
    """
    return url if "://" in url or not url else (base or UNUSABLE_URL) + url

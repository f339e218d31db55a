"""The objects of the demo's public bucket, which has the keys of IBL's public bucket on S3.

The keys begin with one of these:

- ``caches/openalyx/``: ONE's cache tables of all sessions, and in a folder for each tag those of a
  release
- ``data/<lab>/Subjects/``: the datasets of sessions, with UUIDs in their names
- ``aggregates/``: the datasets of no session, with the UUID only if Alyx knows the dataset
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from onefs import alf
from onefs.demo.alyx_rows import with_uuid
from onefs.demo.digests import md5_of
from onefs.demo.records import DatasetRecord, SessionRecord, Source
from onefs.demo.rest.cache_tables import CacheTables
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.errors import ApiError

TABLES_PREFIX = "caches/openalyx/"
INFO_NAME = "cache_info.json"
ARCHIVE_NAME = "cache.zip"
_DATA = "data/"
_AGGREGATES = "aggregates/"


class StoredObject(NamedTuple):
    """An object in a listing."""

    key: str
    #: returns the size in bytes, and the ETag. It may take long, as an archive of tables is made
    describe: Callable[[], tuple[int, str]]


class PublicBucket:
    """The public bucket of a laboratory. Thread-safe.

    - ``denied``: keys that exist and may not be read
    - ``extra``: further objects by key, which Alyx does not know
    - ``tables``: a folder with ``cache_info.json`` and ``cache.zip``, which are served instead of
      tables that are made from the laboratory's rows
    """

    def __init__(
        self,
        source: Source,
        *,
        denied: Collection[str] = (),
        extra: Mapping[str, bytes] | None = None,
        tables: Path | None = None,
    ) -> None:
        self.denied = denied
        self._extra = extra or {}
        self._source = source
        self._tables_folder = tables
        self._lock = threading.Lock()
        self._db: DemoDatabase | None = None
        self._cache_tables = CacheTables()
        #: bytes of archives by tag, so that two requests get the same ETag
        self._archives: dict[str | None, bytes] = {}

    def content(self, key: str) -> Path | bytes | None:
        """Return the object's bytes or file, or None if there is no such key."""
        if key.startswith(TABLES_PREFIX):
            return self._table_file(key)
        if key.startswith(_DATA):
            return self._source.file(f"/public/{key.removeprefix(_DATA)}")
        if key.startswith(_AGGREGATES):
            return self._extra.get(key) or self._source.file(f"/public/{key}")
        return self._extra.get(key)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``, in no order."""
        for key in self._table_keys():
            if key.startswith(prefix):
                yield StoredObject(key, partial(self._describe, key))
        for session in self._source.sessions():
            if _overlaps(_session_prefix(session), prefix):
                for dataset in self._source.datasets(session.eid):
                    yield from _of_dataset(dataset, f"{_DATA}{session.lab}/{alf.SUBJECTS}/", prefix)
        if _overlaps(_AGGREGATES, prefix):
            for dataset in self._source.aggregates():
                yield from _of_dataset(dataset, _AGGREGATES, prefix)
        for key in self._extra:
            if key.startswith(prefix):
                yield StoredObject(key, partial(self._describe, key))

    def _describe(self, key: str) -> tuple[int, str]:
        content = self.content(key)
        data = content.read_bytes() if isinstance(content, Path) else content or b""
        return len(data), md5_of(data)

    def _table_keys(self) -> Iterator[str]:
        for tag in ("", *self._tags()):
            folder = f"{TABLES_PREFIX}{tag}/" if tag else TABLES_PREFIX
            yield folder + INFO_NAME
            yield folder + ARCHIVE_NAME

    def _tags(self) -> list[str]:
        if self._tables_folder is not None:
            return []
        return [str(row["name"]) for row in self._source.tables().get("tags", ()) if row["public"]]

    def _table_file(self, key: str) -> Path | bytes | None:
        """Return the description or the archive of tables at ``key``; None for any other key."""
        folder, _, name = key.removeprefix(TABLES_PREFIX).rpartition("/")
        if name not in (INFO_NAME, ARCHIVE_NAME) or folder not in ("", *self._tags()):
            return None
        if self._tables_folder is not None:
            return self._tables_folder / name
        tag = folder or None
        try:
            if name == INFO_NAME:
                return json.dumps(self._cache_tables.get(self._database(), tag).info).encode()
            with self._lock:
                if tag not in self._archives:
                    self._archives[tag] = self._cache_tables.zip(self._made_database(), tag)
                return self._archives[tag]
        except ApiError:  # pyarrow is not installed
            return None

    def _database(self) -> DemoDatabase:
        with self._lock:
            return self._made_database()

    def _made_database(self) -> DemoDatabase:
        before = self._db
        self._db = DemoDatabase(self._source, "") if before is None else before.refreshed()
        if self._db is not before:
            self._archives.clear()
        return self._db


def _session_prefix(session: SessionRecord) -> str:
    number = alf.number_folder(session.number or 0)
    day = session.start_time[:10]
    return f"{_DATA}{session.lab}/{alf.SUBJECTS}/{session.subject}/{day}/{number}/"


def _overlaps(folder: str, prefix: str) -> bool:
    """Whether keys in ``folder`` can begin with ``prefix``."""
    return folder.startswith(prefix) or prefix.startswith(folder)


def _of_dataset(dataset: DatasetRecord, folder: str, prefix: str) -> Iterator[StoredObject]:
    """Yield the object of a dataset, if a server has it and its key begins with ``prefix``."""
    for record in dataset.file_records:
        if record.exists and record.repository.startswith("flatiron"):
            key = folder + with_uuid(record.relative_path, dataset.id)
            if key.startswith(prefix):
                yield StoredObject(key, partial(_size_and_etag, dataset))
            return


def _size_and_etag(dataset: DatasetRecord) -> tuple[int, str]:
    return dataset.file_size or 0, dataset.hash

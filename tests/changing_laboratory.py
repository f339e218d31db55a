"""A laboratory whose datasets a test changes while it is served."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onefs.demo.records import DatasetRecord, Source
from tests.laboratories import AlteredLaboratory

Change = Callable[[DatasetRecord], DatasetRecord | None]


class ChangingLaboratory(AlteredLaboratory):
    """``source`` with datasets changed by ``change`` (None leaves one out), and replaced files."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._lock = threading.Lock()
        self.change: Change = lambda record: record
        self._bytes: dict[str, bytes] = {}
        self._new: dict[str, dict[str, Any]] = {}

    def replace(self, dataset_id: str, content: bytes, *, announce: bool = True) -> None:
        """Replace the bytes of a dataset, with or without a new record in Alyx."""
        with self._lock:
            self._bytes[dataset_id] = content
            if announce:
                digest = hashlib.md5(content).hexdigest()
                self._new[dataset_id] = {"file_size": len(content), "hash": digest}

    def restore(self, dataset_id: str) -> None:
        """Serve the first bytes of a dataset again, without a new record in Alyx."""
        with self._lock:
            del self._bytes[dataset_id]

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        with self._lock:
            found = [
                replace(record, **self._new.get(record.id, {}))
                for record in self._source.datasets(eid)
            ]
        return [changed for record in found if (changed := self.change(record)) is not None]

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        with self._lock:
            for dataset_id, content in self._bytes.items():
                if dataset_id in path:
                    return content
        return self._source.file(path)

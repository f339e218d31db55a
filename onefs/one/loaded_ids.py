"""The ids of datasets that a program has loaded, which can be saved for a publication."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from onefs.errors import CacheError, reason_of


class LoadedIds:
    """The ids of loaded datasets, and the eids of their sessions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._eid_by_id: dict[str, str] = {}

    def add(self, ids: Iterable[tuple[str, str]]) -> None:
        """Add pairs of a dataset's id and its eid, which is '' for a dataset of no session."""
        with self._lock:
            self._eid_by_id.update(ids)

    def clear(self) -> None:
        """Forget all ids."""
        with self._lock:
            self._eid_by_id.clear()

    def dataset_ids(self) -> list[str]:
        """Return the ids of the datasets, sorted."""
        with self._lock:
            return sorted(self._eid_by_id)

    def eids(self) -> list[str]:
        """Return the eids of the sessions, sorted."""
        with self._lock:
            return sorted({eid for eid in self._eid_by_id.values() if eid})


def save_ids(ids: Iterable[str], column: str, folder: Path) -> Path:
    """Write ids to a new CSV file in ``folder``, named after the time. Return its path.

    Raises CacheError if the file cannot be written.
    """
    moment = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    path = folder / f"{moment}_loaded_{column}s.csv"
    try:
        path.write_text("".join(f"{line}\n" for line in (column, *ids)), encoding="utf-8")
    except OSError as error:
        raise CacheError(
            f"the list of loaded ids {path} cannot be written: {reason_of(error, path)}"
        ) from error
    return path

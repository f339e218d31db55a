"""The catalogue of a release, which knows the datasets of the whole database.

A release and the whole database may list one dataset with another hash or size, because the dataset
has changed since. The cache has one record and one file for each id. So such a dataset of a release
gets an id of its own, and neither takes the place of the other. A release whose tables have no
hash of a dataset has the content of the whole database, unless the sizes differ.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from onefs.alyx.parsing import DatasetRow
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.errors import CacheError
from onefs.model import Dataset, Repository, id_in_release


class ReleaseDatabase(OverlayDatabase):
    """The catalogue of a release at ``path``. That of the whole database is at ``whole_path``.

    ``lab_repositories`` is that of :class:`OverlayDatabase`.
    """

    def __init__(
        self,
        path: Path,
        whole_path: Path,
        lab_repositories: Callable[[str], list[Repository]] | None = None,
    ) -> None:
        super().__init__(path, lab_repositories)
        self._whole_path = whole_path
        self._whole = OverlayDatabase(whole_path)

    def whole(self) -> OverlayDatabase | None:
        """Return the catalogue of the whole database, or None if it was never opened."""
        # the whole database is not created, because its first use does more than this
        return self._whole if self._whole_path.exists() else None

    def close(self) -> None:
        super().close()
        self._whole.close()

    def datasets_basis(self, eid: str) -> object:
        try:
            return self._listed_in_whole(eid)
        except CacheError:  # the datasets are read again when this has ended
            return None

    def datasets(self, eid: str) -> list[DatasetRow]:
        rows = super().datasets(eid)
        in_whole = {}
        with suppress(CacheError):  # else, ids of their own take the place of no other dataset
            if self._listed_in_whole(eid) is None:
                return rows
            in_whole = {row.dataset.id: row.dataset for row in self._whole.datasets(eid)}
        return [_with_own_id(row, in_whole.get(row.dataset.id)) for row in rows]

    def _listed_in_whole(self, eid: str) -> float | None:
        """Return when the whole database listed a session's datasets, or None if it never did."""
        whole = self.whole()
        return None if whole is None else whole.fetched_at(f"datasets/{eid}")


def _with_own_id(row: DatasetRow, in_whole: Dataset | None) -> DatasetRow:
    """Return a row of a release, with an id of its own if the whole database has other content.

    ``in_whole`` is the dataset there, or None if it is not there.
    """
    dataset = row.dataset
    if in_whole is not None and not dataset.md5 and dataset.size in (None, in_whole.size):
        # nothing says that the content has changed, and the whole database can verify it
        return replace(row, dataset=replace(dataset, size=in_whole.size, md5=in_whole.md5))
    if in_whole is not None and _has_same_content(dataset, in_whole):
        return row
    # another release with the same content has the same id
    id_ = id_in_release(dataset.id, dataset.md5, dataset.size)
    return replace(row, dataset=replace(dataset, id=id_, published_id=dataset.id))


def _has_same_content(one: Dataset, other: Dataset) -> bool:
    sizes_agree = one.size == other.size or (bool(one.md5) and None in (one.size, other.size))
    return one.md5 == other.md5 and sizes_agree

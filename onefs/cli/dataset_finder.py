"""Datasets of the files in a folder that is adopted."""

from __future__ import annotations

from pathlib import Path

from onefs import alf
from onefs.access import Access
from onefs.cache.folder import Place
from onefs.cli.cached_datasets import find_dataset
from onefs.errors import NotFound
from onefs.lowlevel.paths import absolute
from onefs.model import Dataset

#: lab, subject, date, number
_SESSION_DEPTH = 4


class DatasetFinder:
    """Finds the datasets of files below ``folder`` (see ``onefs.cache.adopt``).

    The listing of the last session is cached, so files should come session by session.
    """

    def __init__(self, access: Access, folder: Path) -> None:
        self._access = access
        self._prefix = _place_of_folder(folder)
        self._listed_session: Place = ()
        self._listed_datasets: list[tuple[Dataset, Place]] = []

    def find(self, key: str, place: Place) -> tuple[Dataset, Place] | None:
        """Return the dataset of the UUID ``key``, or of a place if that is '', and its place.

        None if there is none. Raises what listing the session raises.
        """
        place = (*self._prefix, *place)
        for dataset, where in self._list_session(place[:_SESSION_DEPTH]):
            if dataset.id == key if key else where == place:
                return dataset, where
        return find_dataset(self._access, key) if key else None

    def _list_session(self, session: Place) -> list[tuple[Dataset, Place]]:
        if len(session) < _SESSION_DEPTH or not alf.is_date(session[2]):
            return []
        if session != self._listed_session:
            try:
                self._listed_datasets = list(self._access.tree.find_datasets("/".join(session)))
            except NotFound:
                self._listed_datasets = []
            self._listed_session = session
        return self._listed_datasets


def _place_of_folder(folder: Path) -> Place:
    """Return the place of a folder inside a ONE cache (its lab, subject, ...); () for others."""
    parts = Path(absolute(folder)).parts
    if alf.SUBJECTS not in parts:
        return ()
    at = len(parts) - 1 - parts[::-1].index(alf.SUBJECTS)
    return (parts[at - 1], *parts[at + 1 :])

"""Search for the datasets that the files in the folder of ``onefs cache adopt`` belong to."""

from __future__ import annotations

from pathlib import Path

from onefs import alf
from onefs.access import Access
from onefs.cache.folder import Place
from onefs.cli.cached_datasets import find_dataset
from onefs.errors import NotFound
from onefs.lowlevel.paths import absolute
from onefs.model import Dataset

#: number of folders in the path of a session: lab, subject, date, number
_SESSION_DEPTH = 4


class DatasetFinder:
    """Finds the datasets that the files below ``folder`` belong to (see ``onefs.cache.adopt``).

    Callers should find all files of one session before the next, because only the listing of the
    last session is kept.
    """

    def __init__(self, access: Access, folder: Path) -> None:
        self._access = access
        self._prefix = _place_of_folder(folder)
        self._listed_session: Place = ()
        self._listed_datasets: list[tuple[Dataset, Place]] = []

    def find(self, key: str, place: Place) -> tuple[Dataset, Place] | None:
        """Return the dataset with the UUID ``key``, and its place in the tree.

        If ``key`` is '', return the dataset at ``place``. Return None if no dataset is found.
        Raises an error such as Unreachable if the session cannot be listed.
        """
        place = (*self._prefix, *place)
        for dataset, where in self._list_session(place[:_SESSION_DEPTH]):
            if dataset.uuid == key if key else where == place:
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
    """Return the place (lab, subject, ...) of a folder that is inside ONE-api's cache folder.

    Return () if no part of the path is ``Subjects``.
    """
    parts = Path(absolute(folder)).parts
    if alf.SUBJECTS not in parts:
        return ()
    at = len(parts) - 1 - parts[::-1].index(alf.SUBJECTS)
    return (parts[at - 1], *parts[at + 1 :])

"""Which dataset a file of somebody's own folder is."""

from __future__ import annotations

from pathlib import Path

from onefs import alf
from onefs.access import Access
from onefs.cli.chosen import place_of
from onefs.content.store import Place
from onefs.errors import NotFound
from onefs.model import Dataset
from onefs.paths import absolute

#: lab, subject, date, number
_SESSION = 4


class Finder:
    """Finds the datasets of files below ``folder`` (see ``onefs.content.adopt``).

    A session's listing is asked for once. Raises what listing raises.
    """

    def __init__(self, access: Access, folder: Path) -> None:
        self._access = access
        self._prefix = _above(folder)
        self._session: Place = ()
        self._datasets: list[tuple[Dataset, Place]] = []

    def find(self, key: str, place: Place) -> tuple[Dataset, Place] | None:
        """The dataset of a UUID, else of a place, with the place that it has."""
        place = (*self._prefix, *place)
        for dataset, where in self._listed(place[:_SESSION]):
            if dataset.id == key if key else where == place:
                return dataset, where
        return place_of(self._access, key) if key else None

    def _listed(self, session: Place) -> list[tuple[Dataset, Place]]:
        if len(session) < _SESSION or not alf.is_date(session[2]):
            return []
        if session != self._session:
            try:
                self._datasets = list(self._access.tree.datasets("/".join(session)))
            except NotFound:
                self._datasets = []
            self._session = session
        return self._datasets


def _above(folder: Path) -> Place:
    """What stands above a folder that lies inside a ONE cache: its lab, subject, ..."""
    parts = Path(absolute(folder)).parts
    if alf.SUBJECTS not in parts:
        return ()
    at = len(parts) - 1 - parts[::-1].index(alf.SUBJECTS)
    return (parts[at - 1], *parts[at + 1 :])

"""Counts files that are read from disks, and notes disks and files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from onefs.download.disk import Disk, DiskAway, FileFails
from onefs.errors import OnefsError, copy_error
from onefs.model import Dataset

#: most datasets of which is known that their file cannot be read
_MAX_FAILING = 1000


class DiskNotes:
    """The datasets that were read from disks, and the reasons of failures. Thread-safe."""

    def __init__(self, disks: Sequence[Disk]) -> None:
        self._disks = disks
        self._served: dict[Path, set[str]] = {each.folder: set() for each in disks}
        #: why a file cannot be read although its disk is there, by dataset id
        self._failing: dict[str, str] = {}

    def usage(self) -> list[tuple[Path, int, str]]:
        """Return each disk's folder, how many datasets were read from it, and why it is away.

        The reason is '' if the disk is there. Does not wait for a disk.
        """
        return [
            (each.folder, len(self._served[each.folder]), each.away_reason())
            for each in self._disks
        ]

    def note_read(self, dataset: Dataset, disk: Disk) -> None:
        """Note that a dataset is read from a disk."""
        self._served[disk.folder].add(dataset.id)

    def away_note(self, dataset: Dataset) -> str:
        """Return which disks are away, and why a dataset's file cannot be read, or ''."""
        away = (each.away for each in self._disks)
        return "; ".join(filter(None, (*away, self._failing.get(dataset.id))))

    def note_failure(self, dataset: Dataset, error: DiskAway) -> None:
        """Note that a file of a dataset cannot be read, although its disk is there."""
        if isinstance(error, FileFails):
            if len(self._failing) >= _MAX_FAILING:
                self._failing.clear()
            self._failing[dataset.id] = str(error)

    def note_answer(self, dataset: Dataset) -> None:
        """Note that a dataset's file can be opened, or is on no disk."""
        self._failing.pop(dataset.id, None)

    @contextmanager
    def noting_away(self, dataset: Dataset) -> Iterator[None]:
        """Add to an error of the ``with`` block what :meth:`away_note` returns."""
        try:
            yield
        except OnefsError as error:
            note = self.away_note(dataset)
            if not note or note in str(error):
                raise
            fresh = copy_error(error)
            fresh.args = (f"{error}; {note}",)
            raise fresh from error

"""Fetch datasets of the tree before programs read them."""

from __future__ import annotations

from collections.abc import Callable

from onefs.content.fetch_ahead import fetch_ahead, fetch_ahead_budget
from onefs.tree.context import TreeContext
from onefs.tree.dataset_file import DatasetFile
from onefs.tree.entries import TreeEntry
from onefs.tree.session_folder import SessionFolder


class Siblings:
    """Fetches the files of a tree (``onefs.mount.sibling_prefetcher.SiblingSource``). Thread-safe.

    - ``resolve`` returns the entry at a path of the tree.
    - ``max_size`` is the size in bytes of the largest file that is fetched as a whole.
    """

    def __init__(
        self, context: TreeContext, resolve: Callable[[str], TreeEntry], max_size: int
    ) -> None:
        self._context = context
        self._resolve = resolve
        self.max_size = max_size

    def session_folder(self, folder: str) -> str:
        """Return the path of the session that contains ``folder``; '' if there is none."""
        entry = self._resolve(folder)
        if not isinstance(entry, SessionFolder):
            return ""
        return "/".join(folder.split("/")[: -len(entry.folders) or None])

    def is_any_answer_slow(self) -> bool:
        """Whether a file server takes long to answer, so that the processors have time."""
        return self._context.content.small_files.is_any_answer_slow()

    def budget(self, unread: int, reading: str) -> int:
        """Return how many bytes may be fetched ahead and unread, of which ``unread`` are so now.

        ``reading`` is the path of the file that the program reads. Return 0 while Alyx is
        unreachable, while programs wait for other files whose server answers quickly, and for some
        time after a file server of ``reading`` has failed.
        """
        entry = self._resolve(reading)
        if self._context.catalogue.offline or not isinstance(entry, DatasetFile):
            return 0
        small_files = self._context.content.small_files
        replica = small_files.replica_to_fetch_ahead(entry.dataset)
        if replica is None:
            return 0
        return fetch_ahead_budget(
            self._context.content,
            unread,
            entry.canonical_path,
            beside_reads=small_files.is_slow(replica),
        )

    def fetch(self, path: str) -> bool | None:
        """Fetch a file before a program reads it.

        Return False if this is not necessary, or not possible now. Return None if the quota does
        not allow it now. Raises the errors of a read.
        """
        entry = self._resolve(path)
        # a dataset that only cache tables list is read as Alyx lists it
        if not isinstance(entry, DatasetFile) or entry.dataset.from_tables:
            return False
        dataset = self._context.sizes.with_known_size(entry.dataset)
        return fetch_ahead(self._context.content, dataset, entry.canonical_path)

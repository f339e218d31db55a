"""The files of the tree that show datasets."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from onefs.cache.folder import Place
from onefs.config.urls import safe_url
from onefs.errors import DeadlineExceeded, NotFound, OnefsError, ServerError, Throttled, Unreachable
from onefs.model import Dataset, shown_url
from onefs.tree.context import TreeContext, dataset_node
from onefs.tree.entries import File, TreeEntry
from onefs.tree.nodes import Handle, Node
from onefs.tree.open_files import PinnedHandle


@dataclass(frozen=True, slots=True)
class DatasetFile(File):
    """The file that shows a dataset at one path of the tree."""

    context: TreeContext
    #: the dataset at ``path`` in the listing
    listed: Dataset
    #: path of the file from the root of the tree
    path: Place
    #: the cache's path, from the lab on, for ``listed``
    listed_place: Place
    #: returns the cache's path, from the lab on, for a dataset that is shown at ``path``
    canonical_path_of: Callable[[Dataset], Place]
    #: returns all datasets of the file's folder
    siblings: Callable[[], list[Dataset]]
    #: looks up the same name in Alyx's own listing; for a dataset that only cache tables list
    entry_from_alyx: Callable[[], TreeEntry]
    #: until when the listing stays as it is: see :meth:`Catalogue.unchanged_until`
    unchanged_until: float

    @property
    def dataset(self) -> Dataset:
        """The dataset that is shown. The listing may have a newer one: see :class:`OpenFiles`."""
        return self.context.open_files.effective_dataset(self.listed, self.path)

    @property
    def canonical_path(self) -> Place:
        """The path of the dataset in the cache, as a tuple that begins with the lab."""
        return self._canonical_path(self.dataset)

    def node(self) -> Node:
        # programs look up and open a file several times
        day = "".join(self.listed_place[2:3])
        return dataset_node(self.context, self._with_size(), day, is_cached=True)

    def open(self) -> Handle:
        alyx_file = self._alyx_file_to_read()
        if alyx_file is not None:
            return alyx_file.open()
        dataset = self.context.open_files.pin(self._with_size(), self.path)
        try:
            shown = self.context.content.size_of(dataset)
            handle = self.context.content.open(dataset, self._canonical_path(dataset), self.path)
            if handle.size != shown:  # just accepted; ESTALE makes the kernel look it up again
                handle.close()
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        except BaseException:
            self.context.open_files.unpin(self.path)
            raise
        return PinnedHandle(handle, self.context.open_files, self.path)

    def xattrs(self) -> dict[str, str]:
        shown = self.context.sizes.with_known_size(self.dataset)
        content, place = self.context.content, self._canonical_path(shown)
        state, error = content.state(shown, place)
        if self.context.open_files.is_replaced(self.path):
            state = "replaced-pending"
        dataset = self._with_alyx_record()
        values = {
            "eid": dataset.eid,
            "dataset_id": dataset.uuid,
            "md5": dataset.md5,
            "revision": dataset.revision,
            "default": "1" if dataset.default else "0",
            "qc": dataset.qc,
            "state": state,
        }
        if not dataset.from_tables:
            values["dataset_type"] = dataset.dataset_type
        if dataset.replicas:
            values["url"] = safe_url(shown_url(dataset.replicas))
        on_disk = None if content.cached_path(shown) else content.disk_path(shown, place)
        if on_disk is not None:
            values["source"] = str(on_disk)
        if error:
            values["error"] = error
        return values

    def _canonical_path(self, dataset: Dataset) -> Place:
        is_listed = dataset.id == self.listed.id
        return self.listed_place if is_listed else self.canonical_path_of(dataset)

    def _with_size(self) -> Dataset:
        """Return the dataset with its size. If Alyx has no size, ask the file server.

        Raises the errors of :meth:`SizeLookup.with_size` if the size cannot be found.
        """
        dataset = self.dataset
        if dataset.size is not None:
            return dataset
        try:
            return self.context.sizes.with_size(dataset, self.siblings())
        except ServerError:
            if not dataset.from_tables:
                raise
        # the file is not at its path in ONE's layout, or no repository with that layout is known
        return self._file_from_alyx()._with_size()

    def _alyx_file_to_read(self) -> DatasetFile | None:
        """Return the file to open instead of this file, or None to open this file.

        A file that is known only from ONE's cache tables, and must be downloaded, is opened as Alyx
        lists it. Raises the error of a failed request to Alyx. But if Alyx is unreachable and a
        replica is known, returns None.
        """
        # only a dataset from cache tables that must be downloaded needs Alyx's listing
        dataset = self.dataset
        if not dataset.from_tables or self.context.content.has_local_candidate(
            self.context.sizes.with_known_size(dataset), self._canonical_path(dataset)
        ):
            return None
        try:
            return self._file_from_alyx()
        except (Unreachable, DeadlineExceeded, Throttled):
            # without Alyx, the replica at the dataset's path in ONE's layout is read
            if not dataset.replicas:
                raise
            return None

    def _with_alyx_record(self) -> Dataset:
        """Return the dataset as Alyx lists it, or the unchanged dataset if asking Alyx fails."""
        dataset = self.dataset
        if dataset.from_tables:
            with suppress(OnefsError):
                return self._file_from_alyx().dataset
        return dataset

    def _file_from_alyx(self) -> DatasetFile:
        """Return the file from Alyx's own listing.

        Raises NotFound if the file is no longer in this listing. Raises the error of a failed
        request.
        """
        entry = self.entry_from_alyx()
        if not isinstance(entry, DatasetFile):
            raise NotFound(f"Alyx no longer has {self.dataset.name} ({self.dataset.id})")
        return entry

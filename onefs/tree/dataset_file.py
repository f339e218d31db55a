"""The files in a session's folders: datasets, and ``.session.json``."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from onefs.cache.store import Place
from onefs.config.urls import safe_url
from onefs.dates import file_mtime
from onefs.errors import (
    DeadlineExceeded,
    NotFound,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.model import Dataset, Session
from onefs.tree.context import (
    XATTR_PREFIX,
    TreeContext,
    TreeEntry,
    dataset_node,
)
from onefs.tree.nodes import Handle, Node, NodeKind, inode_of_path
from onefs.tree.open_files import PinnedHandle
from onefs.tree.text_handle import TextHandle

SESSION_JSON = ".session.json"


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A dataset."""

    context: TreeContext
    #: the one that is shown, which may not be the listing's newest (see ``onefs.tree.open_files``)
    dataset: Dataset
    #: where it is shown, from the root of the tree on
    path: Place
    #: where the store keeps a dataset that is shown here, from the lab on
    canonical_path_of: Callable[[Dataset], Place]
    #: the other files of its folder
    siblings: Callable[[], list[Dataset]]
    #: the same name in Alyx's own listing, for one that only cache tables know
    entry_from_alyx: Callable[[], TreeEntry]

    @property
    def canonical_path(self) -> Place:
        """Where the store keeps it, from the lab on."""
        return self.canonical_path_of(self.dataset)

    def node(self) -> Node:
        return dataset_node(self.context, self._with_size(), self.canonical_path[2])

    def open(self) -> Handle:
        really = self._alyx_file_to_read()
        if really is not None:
            return really.open()
        dataset = self.context.open_files.pin(self._with_size(), self.path)
        try:
            shown = self.context.content.size_of(dataset)
            handle = self.context.content.open(dataset, self.canonical_path_of(dataset), self.path)
            if handle.size != shown:  # accepted just now: the kernel is to look the path up again
                handle.close()
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        except BaseException:
            self.context.open_files.unpin(self.path)
            raise
        return PinnedHandle(handle, self.context.open_files, self.path)

    def xattrs(self) -> dict[str, str]:
        state, error = self.context.content.state(self.context.sizes.with_known_size(self.dataset))
        if self.context.open_files.is_replaced(self.path):
            state = "replaced-pending"
        dataset = self._with_alyx_record()
        found = {
            "eid": dataset.eid,
            "dataset_id": dataset.id,
            "md5": dataset.md5,
            "revision": dataset.revision,
            "default": "1" if dataset.default else "0",
            "qc": dataset.qc,
            "state": state,
        }
        if not dataset.from_tables:
            found["dataset_type"] = dataset.dataset_type
        if dataset.replicas:
            found["url"] = safe_url(dataset.replicas[0].url)
        if error:
            found["error"] = error
        return {XATTR_PREFIX + name: value for name, value in found.items()}

    def _with_size(self) -> Dataset:
        """The dataset with its size, which the file server is asked for when Alyx has none."""
        if self.dataset.size is not None:
            return self.dataset
        try:
            return self.context.sizes.with_size(self.dataset, self.siblings())
        except ServerError:
            if not self.dataset.from_tables:
                raise
        # it is not where the layout has it, or no repository of the layout is known
        really = self.entry_from_alyx()
        if isinstance(really, DatasetFile):
            return really._with_size()
        raise NotFound(f"Alyx does not have {self.dataset.name} ({self.dataset.id}) any more")

    def _alyx_file_to_read(self) -> DatasetFile | None:
        """The file by Alyx's listing, when it must be read and only cache tables know it.

        While Alyx is away the layout says where it should be.
        """
        if not self.dataset.from_tables or self.context.content.has_local_candidate(
            self.context.sizes.with_known_size(self.dataset), self.canonical_path
        ):
            return None
        try:
            really = self.entry_from_alyx()
        except (Unreachable, DeadlineExceeded, Throttled):
            if not self.dataset.replicas:
                raise
            return None
        if not isinstance(really, DatasetFile):
            raise NotFound(f"Alyx does not have {self.dataset.name} ({self.dataset.id}) any more")
        return really

    def _with_alyx_record(self) -> Dataset:
        """The dataset with all that can be known of it now."""
        if not self.dataset.from_tables:
            return self.dataset
        try:
            really = self.entry_from_alyx()
        except OnefsError:
            return self.dataset
        return really.dataset if isinstance(really, DatasetFile) else self.dataset


@dataclass(frozen=True, slots=True)
class SessionJson:
    """The whole Alyx record of a session, as one text."""

    context: TreeContext
    session: Session

    def node(self) -> Node:
        text = self._text()
        return Node(
            NodeKind.FILE,
            inode_of_path(SESSION_JSON, self.session.eid),
            len(text),
            file_mtime(self.session.date, text),
        )

    def open(self) -> Handle:
        return TextHandle(self._text())

    def xattrs(self) -> dict[str, str]:
        return {}

    def _text(self) -> bytes:
        return self.context.catalogue.record(self.session).value.encode()

"""The files in a session's folders: datasets, and ``.session.json``."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from onefs.content.store import Place
from onefs.dates import file_time
from onefs.errors import (
    DeadlineExceeded,
    NotFound,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.model import Dataset, Session
from onefs.tree.basis import PREFIX, Item, Rooms, file_node
from onefs.tree.nodes import Handle, Kind, Node, inode_of_path
from onefs.tree.opened import HeldHandle
from onefs.tree.text import TextHandle
from onefs.urls import safe_url

SESSION_JSON = ".session.json"


@dataclass(frozen=True, slots=True)
class File:
    """A dataset."""

    rooms: Rooms
    #: the one that is shown, which may not be the listing's newest (see ``onefs.tree.opened``)
    dataset: Dataset
    #: where it is shown, from the root of the tree on
    path: Place
    #: where the store keeps a dataset that is shown here, from the lab on
    kept: Callable[[Dataset], Place]
    #: the other files of its folder
    siblings: Callable[[], list[Dataset]]
    #: the same name in Alyx's own listing, for one that only cache tables know
    listed_by_alyx: Callable[[], Item]

    @property
    def place(self) -> Place:
        """Where the store keeps it, from the lab on."""
        return self.kept(self.dataset)

    def node(self) -> Node:
        return file_node(self.rooms, self._known(), self.place[2])

    def open(self) -> Handle:
        really = self._located()
        if really is not None:
            return really.open()
        dataset = self.rooms.opened.hold(self._known(), self.path)
        try:
            shown = self.rooms.content.size(dataset)
            handle = self.rooms.content.open(dataset, self.kept(dataset), self.path)
            if handle.size != shown:  # accepted just now: the kernel is to look the path up again
                handle.close()
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        except BaseException:
            self.rooms.opened.let_go(self.path)
            raise
        return HeldHandle(handle, self.rooms.opened, self.path)

    def xattrs(self) -> dict[str, str]:
        state, error = self.rooms.content.state(self.rooms.sizes.described(self.dataset))
        if self.rooms.opened.is_replaced(self.path):
            state = "replaced-pending"
        dataset = self._described()
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
        if dataset.copies:
            found["url"] = safe_url(dataset.copies[0].url)
        if error:
            found["error"] = error
        return {PREFIX + name: value for name, value in found.items()}

    def _known(self) -> Dataset:
        """The dataset with its size, which the file server is asked for when Alyx has none."""
        if self.dataset.size is not None:
            return self.dataset
        try:
            return self.rooms.sizes.find(self.dataset, self.siblings())
        except ServerError:
            if not self.dataset.from_tables:
                raise
        # it is not where the layout has it, or no repository of the layout is known
        really = self.listed_by_alyx()
        if isinstance(really, File):
            return really._known()
        raise NotFound(f"Alyx does not have {self.dataset.name} ({self.dataset.id}) any more")

    def _located(self) -> File | None:
        """The file by Alyx's listing, when it must be read and only cache tables know it.

        While Alyx is away the layout says where it should be.
        """
        if not self.dataset.from_tables or self.rooms.content.may_have(
            self.rooms.sizes.described(self.dataset), self.place
        ):
            return None
        try:
            really = self.listed_by_alyx()
        except (Unreachable, DeadlineExceeded, Throttled):
            if not self.dataset.copies:
                raise
            return None
        if not isinstance(really, File):
            raise NotFound(f"Alyx does not have {self.dataset.name} ({self.dataset.id}) any more")
        return really

    def _described(self) -> Dataset:
        """The dataset with all that can be known of it now."""
        if not self.dataset.from_tables:
            return self.dataset
        try:
            really = self.listed_by_alyx()
        except OnefsError:
            return self.dataset
        return really.dataset if isinstance(really, File) else self.dataset


@dataclass(frozen=True, slots=True)
class SessionJson:
    """The whole Alyx record of a session, as one text."""

    rooms: Rooms
    session: Session

    def node(self) -> Node:
        text = self._text()
        return Node(
            Kind.FILE,
            inode_of_path(SESSION_JSON, self.session.eid),
            len(text),
            file_time(self.session.date, text),
        )

    def open(self) -> Handle:
        return TextHandle(self._text())

    def xattrs(self) -> dict[str, str]:
        return {}

    def _text(self) -> bytes:
        return self.rooms.catalogue.record(self.session).value.encode()

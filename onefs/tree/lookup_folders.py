"""The views of the root: folders that list nothing, and lead to sessions by another name."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from onefs import alf
from onefs.errors import Ambiguous, NotFound
from onefs.model import Session
from onefs.tree.context import (
    SymbolicLink,
    TreeContext,
    TreeEntry,
    undated_folder_node,
)
from onefs.tree.nodes import Node, inode_of_path
from onefs.tree.session_paths import session_path

log = logging.getLogger(__name__)

BY_EID = ".by-eid"
BY_REF = ".by-ref"


@dataclass(frozen=True, slots=True)
class ByEidFolder:
    """``.by-eid``: lists nothing, and has a link for every well-formed UUID.

    Whether Alyx knows it is asked when the link is followed.
    """

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, BY_EID)

    def child(self, name: str) -> TreeEntry:
        if not alf.is_uuid(name.lower()):
            raise NotFound(f"{name} is no eid: an eid is a UUID with dashes")
        eid = name.lower()

        def follow() -> str:
            try:
                session = self.context.catalogue.session(eid)
            except NotFound as error:  # the kernel says no more than that there is no such file
                log.warning("%s/%s: %s", BY_EID, eid, error)
                raise
            return _link_target(self.context, session)

        return SymbolicLink(inode_of_path(BY_EID, name), 0, self.context.catalogue.created, follow)

    def children(self) -> list[tuple[str, Node]]:
        return []

    def xattrs(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class ByRefFolder:
    """``.by-ref``: lists nothing, and has a link for every well-formed ref."""

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, BY_REF)

    def child(self, name: str) -> TreeEntry:
        ref = alf.parse_ref(name)
        written = alf.valid_text(name)
        # Alyx answers 500 to what is no day, and no ref of ours holds what is no UTF-8
        if ref is None or not alf.is_calendar_day(ref.date) or written != name:
            raise NotFound(f"{written} is no ref: a ref is like 2019-12-10_1_KS023")
        wanted = ref

        def follow() -> str:
            found = self.context.catalogue.sessions_by_ref(wanted)
            if not found:
                raise NotFound(f"Alyx has no session {name}")
            if len(found) > 1:
                labs = ", ".join(f"{session.eid} in {session.lab}" for session in found)
                raise Ambiguous(f"{name} is {len(found)} sessions: {labs}")
            return _link_target(self.context, found[0])

        return SymbolicLink(inode_of_path(BY_REF, name), 0, self.context.catalogue.created, follow)

    def children(self) -> list[tuple[str, Node]]:
        return []

    def xattrs(self) -> dict[str, str]:
        return {}


def _link_target(context: TreeContext, session: Session) -> str:
    """Where a session stands, seen from a view's folder."""
    return "../" + "/".join(session_path(context.catalogue, context.layouts, session))

"""The folders ``.by-eid`` and ``.by-ref``: symbolic links to sessions, named by eid or by ref.

A ref is ONE's short name of a session, such as ``2019-12-10_1_KS023``. A listing of these folders
is empty, but each link can be looked up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from onefs import alf
from onefs.errors import Ambiguous, NotFound
from onefs.model import Session
from onefs.tree.context import TreeContext, undated_folder_node
from onefs.tree.entries import Folder, SymbolicLink
from onefs.tree.nodes import Node, inode_of_path
from onefs.tree.path_patterns import BY_EID, BY_REF
from onefs.tree.session_paths import session_path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ByEidFolder(Folder):
    """The folder ``.by-eid``. It contains a link for every valid UUID.

    A link exists even if no session has the UUID. The session is looked up when the link is read.
    """

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, BY_EID)

    def child(self, name: str) -> SymbolicLink:
        if not alf.is_uuid(name.lower()):
            raise NotFound(f"{name} is no eid: an eid is a UUID with dashes")
        eid = name.lower()

        def find_session() -> Session:
            try:
                return self.context.catalogue.session(eid)
            except NotFound as error:  # programs get ENOENT without this message
                log.warning("%s/%s: %s", BY_EID, eid, error)
                raise

        return _session_link(self.context, inode_of_path(BY_EID, name), find_session)


@dataclass(frozen=True, slots=True)
class ByRefFolder(Folder):
    """The folder ``.by-ref``. It contains a link for every valid ref (``2019-12-10_1_KS023``).

    A link exists even if no session has the ref. The session is looked up when the link is read.
    """

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, BY_REF)

    def child(self, name: str) -> SymbolicLink:
        ref = alf.parse_ref(name)
        valid_name = alf.valid_text(name)
        # Alyx answers status 500 to an invalid day, so it is not asked; every ref is valid UTF-8
        if ref is None or not alf.is_calendar_day(ref.date) or valid_name != name:
            raise NotFound(f"{valid_name} is no ref: a ref is like 2019-12-10_1_KS023")

        def find_session(ref: alf.Ref = ref) -> Session:
            sessions = self.context.catalogue.sessions_by_ref(ref)
            if not sessions:
                raise NotFound(f"Alyx has no session {name}")
            if len(sessions) > 1:
                labs = ", ".join(f"{session.eid} in {session.lab}" for session in sessions)
                raise Ambiguous(
                    f"{name} matches {len(sessions)} sessions: {labs}; use one of these eids"
                )
            return sessions[0]

        return _session_link(self.context, inode_of_path(BY_REF, name), find_session)


def _session_link(
    context: TreeContext, ino: int, find_session: Callable[[], Session]
) -> SymbolicLink:
    """Return a link in ``.by-eid`` or ``.by-ref`` that leads to a session's folder.

    ``find_session`` is called when the link is read, and must return the session.
    """

    def target() -> str:
        return "../" + "/".join(session_path(context.catalogue, context.layouts, find_session()))

    return SymbolicLink(ino, 0, context.catalogue.created, target)

"""The folders above a session: labs, their subjects, and the dates of a subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from onefs import alf
from onefs.cache.folder import Place
from onefs.dates import midnight
from onefs.errors import NotFound
from onefs.model import Session
from onefs.tree.context import (
    TreeContext,
    date_folder_node,
    session_folder_node,
    undated_folder_node,
)
from onefs.tree.entries import Folder, TreeEntry, fixed_link
from onefs.tree.layout import subject_folder_names
from onefs.tree.nodes import Node, inode_of_path
from onefs.tree.session_folder import SessionFolder
from onefs.tree.session_paths import load_subject_layout


@dataclass(frozen=True, slots=True)
class DateFolder(Folder):
    """The folder of one date of a subject. It contains a folder like ``001`` for each session.

    Links without leading zeros, like ``1`` to ``001``, are not listed, but can be looked up.
    """

    context: TreeContext
    #: the path of this folder from the lab on
    place: Place
    #: the sessions of the date, by the names of their number folders
    sessions: Mapping[str, Session]
    subject: SubjectFolder

    def node(self) -> Node:
        return date_folder_node(self.place)

    def child(self, name: str) -> TreeEntry:
        padded = alf.padded_number_folder(name)
        number = padded or name
        if (
            number not in self.sessions
            and alf.parse_number_folder(number) is not None
            and self.subject.ask_for_new_sessions()
        ):
            sessions = self.subject.sessions_by_date().get(self.place[-1], {})
            return replace(self, sessions=sessions)._listed_child(name, padded)
        return self._listed_child(name, padded)

    def children(self) -> list[tuple[str, Node]]:
        return [(name, session_folder_node(session)) for name, session in self.sessions.items()]

    def _listed_child(self, name: str, padded: str | None) -> TreeEntry:
        if name in self.sessions:
            return SessionFolder(self.context, self.sessions[name], (*self.place, name))
        if padded is not None and padded in self.sessions:
            return fixed_link(
                inode_of_path("number", *self.place, name), padded, midnight(self.place[-1])
            )
        raise NotFound(f"{'/'.join(self.place)} has no session {name}")


@dataclass(frozen=True, slots=True)
class SubjectFolder(Folder):
    """The folder of a subject. It contains a folder for each date that has a session."""

    context: TreeContext
    lab: str
    subject: str
    #: the path of this folder from the lab on
    place: Place

    def node(self) -> Node:
        return undated_folder_node(self.context, "subject", self.lab, self.subject)

    def child(self, name: str) -> TreeEntry:
        # a name that is not a date cannot exist here, so no request is made for it
        sessions = self.sessions_by_date().get(name) if alf.is_date(name) else None
        if sessions is None and alf.is_calendar_day(name) and self.ask_for_new_sessions():
            sessions = self.sessions_by_date().get(name)
        if sessions is None:
            raise NotFound(f"subject {self.subject} has no session on {name}")
        return DateFolder(self.context, (*self.place, name), sessions, self)

    def children(self) -> list[tuple[str, Node]]:
        return [(date, date_folder_node((*self.place, date))) for date in self.sessions_by_date()]

    def sessions_by_date(self) -> Mapping[str, Mapping[str, Session]]:
        """Return the subject's sessions by date, and then by the name of the session's folder.

        Raises an error such as Unreachable if the listing fails.
        """
        context = self.context
        return load_subject_layout(context.catalogue, context.layouts, self.lab, self.subject)

    def ask_for_new_sessions(self) -> bool:
        """Ask Alyx for sessions that are newer than the cache tables.

        Return True if :meth:`sessions_by_date` may have more sessions than before.
        """
        return self.context.catalogue.ask_for_new_sessions(self.lab, self.subject)


@dataclass(frozen=True, slots=True)
class LabFolder(Folder):
    """The folder of a lab. It contains a folder for each subject of the lab.

    The link ``Subjects`` leads to the lab's own folder. It is not listed, but can be looked up.
    """

    context: TreeContext
    lab: str
    place: Place

    def node(self) -> Node:
        return undated_folder_node(self.context, "lab", self.lab)

    def child(self, name: str) -> TreeEntry:
        if name == alf.SUBJECTS:
            ino = inode_of_path("subjects", self.lab)
            return fixed_link(ino, ".", self.context.catalogue.created)
        subjects = self._subjects()
        may_be_new = name not in subjects and not name.startswith(".")
        if may_be_new and self.context.catalogue.ask_for_new_subjects(self.lab):
            subjects = self._subjects()
        if name not in subjects:
            raise NotFound(f"lab {self.lab} has no subject {name}")
        return SubjectFolder(self.context, self.lab, subjects[name], (*self.place, name))

    def children(self) -> list[tuple[str, Node]]:
        return [
            (name, undated_folder_node(self.context, "subject", self.lab, subject))
            for name, subject in self._subjects().items()
        ]

    def _subjects(self) -> Mapping[str, str]:
        listing = self.context.catalogue.subjects(self.lab)
        return self.context.layouts.get_or_build(f"lab/{self.lab}", listing, subject_folder_names)

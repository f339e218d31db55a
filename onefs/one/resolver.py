"""Lookup of sessions and datasets by eid, ref (2019-12-10_1_KS023), path or URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import unquote
from uuid import UUID

from onefs import alf
from onefs.cache.folder import Place
from onefs.config.urls import split_url
from onefs.errors import Ambiguous, NotFound, OnefsError, UsageError
from onefs.lowlevel.paths import absolute
from onefs.model import Dataset, Session
from onefs.tree.layout import missing_name_message, path_by_uuid, paths_of_name
from onefs.tree.variant import FULL_TREE, variant_of_path

if TYPE_CHECKING:
    from onefs.one.laboratory import SessionCatalogue, SessionPaths

#: folders of the tree that contain links to sessions
_LOOKUP_FOLDERS = (".by-eid", ".by-ref")
_UNSENDABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NAME_HELP = (
    "give a UUID with dashes, a ref like 2018-08-24_1_clns0730, a path with "
    "lab/subject/date/number, or Alyx's URL of a session"
)


class SessionResolver:
    """Looks up sessions and datasets of one laboratory by any of their names. Thread-safe.

    Methods raise the errors of requests to Alyx. Methods also raise:

    - UsageError for an invalid name.
    - NotFound if Alyx has no session of that name.
    - Ambiguous for a ref such as 2019-12-10_1_KS023 that several sessions have.
    """

    def __init__(self, catalogue: SessionCatalogue, paths: SessionPaths) -> None:
        self._catalogue = catalogue
        #: the folders of the sessions
        self.paths = paths

    def eid(self, name: object) -> str:
        """Return the eid of the session named ``name``."""
        eid_or_session = self._eid_or_session(name)
        return eid_or_session if isinstance(eid_or_session, str) else eid_or_session.eid

    def _eid_or_session(self, name: object) -> str | Session:
        """Return the session if ``name`` is a path with lab, subject, date and number.

        For any other name of a session, return the eid.
        """
        if isinstance(name, UUID):
            return str(name)
        if isinstance(name, PurePath):
            return self._by_path(str(name))
        if not isinstance(name, str):
            raise UsageError(f"{type(name).__name__} is not an eid: {_NAME_HELP}")
        text = name.strip()
        if _UNSENDABLE.search(text):
            raise UsageError(f"{_quote(name)} contains characters that no name has")
        path = _path_of_url(text) if "://" in text else text
        last = path.rstrip("/").rpartition("/")[2].lower()
        if alf.is_uuid(last) and not _is_below_session(path):
            return last
        ref = alf.parse_ref(text) if "/" not in text else None
        if ref is not None:
            return self._eid_by_ref(text, ref)
        if "/" in text or text in (".", ".."):
            return self._by_path(unquote(path) if "://" in text else path)
        raise UsageError(f"{_quote(name)} is not an eid: {_NAME_HELP}")

    def any_session(self, name: object) -> Session:
        """Return the session named ``name``, with or without a folder.

        ``name`` may be the path of a file. Raises NotFound if this path lacks a folder, as in
        ``<session>/spikes.times.npy`` for ``<session>/alf/spikes.times.npy``.
        """
        return self._session(name, self._catalogue.any_session)

    def session(self, name: object) -> Session:
        """Return the session named ``name``. Raises NotFound if the session has no folder.

        Raises also the errors that :meth:`any_session` raises.
        """
        return self._session(name, self._catalogue.session)

    def _session(self, name: object, by_eid: Callable[[str], Session]) -> Session:
        eid_or_session = self._eid_or_session(name)
        session = by_eid(eid_or_session) if isinstance(eid_or_session, str) else eid_or_session
        self._refuse_misplaced(session, name)
        return session

    def datasets(self, session: Session) -> list[tuple[Place, Dataset]]:
        """Return the datasets of a session with their paths below the session, sorted by path."""
        return self.paths.datasets(self.paths.layout(session, FULL_TREE))

    def dataset(self, name: str | PurePath) -> tuple[Session, Place, Dataset]:
        """Return the session, the place and the dataset for the path ``name``.

        The place is the dataset's path in the full tree, as a tuple that begins with the lab.
        Raises NotFound if there is no file at the path.
        """
        parts = _split_path(str(name))
        folders = _session_folders(parts)
        if folders is None:
            raise UsageError(f"{_quote(str(name))} is not a path of a dataset: {_NAME_HELP}")
        below = parts[folders[1] :]
        session = self.session("/".join(parts[: folders[1]]))
        # below ``.as-of/<day>``, the last revision up to that day; below ``.flat``, the default
        # revision
        variant = variant_of_path(parts[: folders[1]])
        layout = self.paths.layout(session, variant)
        if below:
            below = path_by_uuid(layout, below[:-1], below[-1]) or below
        for place, dataset in self.paths.datasets(layout):
            canonical = layout.canonical_paths.get(dataset.id, place)
            if below in (place, canonical):
                return session, (*self.paths.place(session), *canonical), dataset
        if not below:
            raise UsageError(
                f"{_quote(str(name))} is a session, not a dataset: name a file in it, or run "
                f"`onefs list {session.ref}`"
            )
        self.paths.refuse_unserved(session, below, variant)
        raise NotFound(
            missing_name_message(layout, f"session {session.ref}", below[:-1], below[-1])
        )

    def _refuse_misplaced(self, session: Session, name: object) -> None:
        """Raise NotFound if ``name`` is a file's path that lacks the subfolder of the file.

        An example is ``<session>/spikes.times.npy``, if this file is in the subfolder ``alf``.
        """
        text = str(name) if isinstance(name, (str, PurePath)) else ""
        parts = _split_path(text) if "/" in text and "://" not in text else ()
        folders = _session_folders(parts)
        below = parts[folders[1] :] if folders is not None else ()
        if folders is None or len(below) != 1:
            return
        try:
            layout = self.paths.layout(session, variant_of_path(parts[: folders[1]]))
        except OnefsError:  # without a listing, accept the path, because it names a valid session
            return
        # any other path is accepted, because it may be a file of the user
        if below[0] not in layout.folders[()] and paths_of_name(layout, below[0]):
            raise NotFound(missing_name_message(layout, f"session {session.ref}", (), below[0]))

    def _eid_by_ref(self, text: str, ref: alf.Ref) -> str:
        if not alf.is_calendar_day(ref.date):  # Alyx would answer status 500
            raise NotFound(f"there is no session {text}: {ref.date} is not a day")
        sessions = self.paths.sessions_by_ref(ref)
        if not sessions:
            raise NotFound(f"Alyx has no session {text}")
        if len(sessions) > 1:
            labs = ", ".join(f"{session.eid} in {session.lab}" for session in sessions)
            raise Ambiguous(
                f"the ref {text} matches {len(sessions)} sessions: {labs}; give one of these eids"
            )
        return sessions[0].eid

    def _by_path(self, text: str) -> str | Session:
        ref = _ref_of_path(text)
        folders = _session_folders(_split_path(text))
        if folders is None and ref is None:
            raise UsageError(f"{_quote(text)} is not a path of a session: {_NAME_HELP}")
        place = folders[0] if folders is not None else ()
        if len(place) == 1:
            return self._eid_or_session(place[0])
        try:
            if place:
                return self.paths.session_at(place)
        except NotFound:  # the working directory is outside the tree
            if ref is None:
                raise
        assert ref is not None
        return self._eid_by_ref(text, ref)


def _path_of_url(url: str) -> str:
    try:
        return split_url(url).path
    except ValueError as error:
        raise UsageError(f"{_quote(url)} is not a URL: {error}") from None


def _split_path(text: str) -> tuple[str, ...]:
    if "\0" in text:
        raise UsageError(f"{_quote(text)} is not a path: it contains a NUL")
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    if _session_folders(parts) is None and not text.startswith("/"):
        # a path relative to a working directory inside the tree
        parts = tuple(part for part in absolute(text).split("/") if part)
    return parts


def _ref_of_path(text: str) -> alf.Ref | None:
    """Return the ref of a path that begins with subject, date and number. Otherwise return None."""
    parts = text.split("/")
    if len(parts) < 3 or not parts[0] or not alf.is_date(parts[1]):
        return None
    number = alf.parse_number_folder(parts[2])
    return None if number is None else alf.Ref(parts[1], number, parts[0])


def _session_folders(parts: tuple[str, ...]) -> tuple[Place, int] | None:
    """Return the place of the session in a path, and the number of parts that lead to the session.

    ``parts`` are the parts of the path. The place is lab, subject, date and number, or only an eid
    or ref. Return None if the path contains no session.
    """
    # ``.by-eid/<eid>``, ``.by-ref/<ref>`` or ``sessions/<eid>``
    for at in reversed(range(1, len(parts))):
        if parts[at - 1] in _LOOKUP_FOLDERS:
            return (parts[at],), at + 1
        if alf.is_uuid(parts[at].lower()) and parts[at - 1] == "sessions":
            return (parts[at],), at + 1
    for at in reversed(range(2, len(parts) - 1)):
        number = parts[at + 1]
        if alf.is_date(parts[at]) and alf.parse_number_folder(number) is not None:
            lab = parts[at - 2]
            if lab == alf.SUBJECTS and at >= 3:
                lab = parts[at - 3]
            number = alf.padded_number_folder(number) or number
            return (lab, parts[at - 1], parts[at], number), at + 2
    return None


def _is_below_session(path: str) -> bool:
    """Whether a path contains the folder of a session, with lab, subject, date and number."""
    folders = _session_folders(tuple(part for part in path.split("/") if part))
    return folders is not None and len(folders[0]) > 1


def _quote(text: str) -> str:
    """Return ``text`` in quotes, with ASCII characters only, and at most 80 characters long."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:77] + "..."

"""The names that a session goes by: eid, ref, path, URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath
from urllib.parse import unquote
from uuid import UUID

from onefs import alf
from onefs.access import Access
from onefs.cache.store import Place
from onefs.config.urls import split_url
from onefs.errors import (
    Ambiguous,
    DeadlineExceeded,
    NotFound,
    OnefsError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.lowlevel.paths import absolute
from onefs.model import Dataset, Session
from onefs.one.arguments import cache_path
from onefs.search.queries import FoundSessions
from onefs.tree.layout import (
    SessionLayout,
    datasets_by_path,
    missing_name_message,
    path_by_uuid,
    paths_of_name,
)
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.session_paths import (
    load_session_layout,
    session_path_among,
    session_path_or_cached,
    session_paths_or_cached,
)
from onefs.tree.unserved import refuse_unserved
from onefs.tree.variant import FULL_TREE, Variant, variant_of_path

_UNSENDABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NAME_HELP = (
    "give a UUID with dashes, a ref like 2018-08-24_1_clns0730, a path with "
    "lab/subject/date/number, or Alyx's URL of a session"
)


class SessionResolver:
    """Sessions and datasets of one laboratory by any of their names. Thread-safe.

    Methods raise UsageError for what is no name of a session, NotFound when Alyx has none of that
    name, Ambiguous for a ref that two labs share, and what asking Alyx raises.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._layout_cache = LayoutCache()

    def eid(self, name: object) -> str:
        """The eid of a session."""
        named = self._eid_or_session(name)
        return named if isinstance(named, str) else named.eid

    def _eid_or_session(self, name: object) -> str | Session:
        """The eid that a name contains, or the session that is at a path."""
        if isinstance(name, UUID):
            return str(name)
        if isinstance(name, PurePath):
            return self._eid_or_session_at(str(name))
        if not isinstance(name, str):
            raise UsageError(f"{type(name).__name__} is no eid: {_NAME_HELP}")
        text = name.strip()
        if _UNSENDABLE.search(text):
            raise UsageError(f"{_quote(name)} holds characters that no name has")
        path = _path_of_url(text) if "://" in text else text
        last = path.rstrip("/").rpartition("/")[2].lower()
        if alf.is_uuid(last) and not _is_below_session(path):
            return last
        ref = alf.parse_ref(text) if "/" not in text else None
        if ref is not None:
            return self._eid_by_ref(text, ref)
        if "/" in text or text in (".", ".."):
            return self._eid_or_session_at(unquote(path) if "://" in text else path)
        raise UsageError(f"{_quote(name)} is no eid: {_NAME_HELP}")

    def any_session(self, name: object) -> Session:
        """A session, with or without a folder.

        Raises NotFound for the path of a file that stands in another folder of the session.
        """
        return self._session(name, self._access.catalogue.any_session)

    def session(self, name: object) -> Session:
        """A session that has a folder. Raises as :meth:`any_session`."""
        return self._session(name, self._access.catalogue.session)

    def _session(self, name: object, by_eid: Callable[[str], Session]) -> Session:
        named = self._eid_or_session(name)
        session = by_eid(named) if isinstance(named, str) else named
        self._refuse_misplaced(session, name)
        return session

    def place(self, session: Session) -> Place:
        """A session's folders from the lab on."""
        return session_path_or_cached(self._access.catalogue, self._layout_cache, session)

    def places(self, found: FoundSessions) -> dict[str, Place]:
        """The folders from the lab on of the sessions that a search has found, by eid."""
        catalogue, whole = self._access.catalogue, found.has_complete_numbers
        return session_paths_or_cached(
            catalogue, self._layout_cache, found.sessions(), has_complete_numbers=whole
        )

    def content(self, session: Session, variant: Variant = FULL_TREE) -> SessionLayout:
        """What is in a session, as a variant of the tree has it.

        Cache tables leave datasets out, and say of none what type it is or where: what only they
        know is asked of Alyx, one request for the session. Where it does not tell, and also where
        it has the session no more, their word stands: what is in the cache can be loaded.
        """
        catalogue = self._access.catalogue
        if any(dataset.from_tables for dataset in catalogue.datasets(session).value):
            with suppress(NotFound):
                catalogue.try_fetch_full_listing(session)
        return load_session_layout(catalogue, self._layout_cache, session, variant)

    def datasets(self, session: Session) -> list[tuple[Place, Dataset]]:
        """The datasets of a session, each with where it stands below it, by that."""
        return self._with_types(self.content(session))

    def cache_path(self, place: Place) -> Path:
        """Where a place of the tree is in the cache folder."""
        return cache_path(self._access.cache_dir, place)

    def dataset(self, name: str | PurePath) -> tuple[Session, Place, Dataset]:
        """The dataset at a path: its session, its place in ONE's layout, and itself.

        Below ``.as-of/<day>`` it is that day's, below ``.flat`` the default one.
        """
        parts = _split_path(str(name))
        folders = _session_folders(parts)
        if folders is None:
            raise UsageError(f"{_quote(str(name))} is no path of a dataset: {_NAME_HELP}")
        below = parts[folders[1] :]
        session = self.session("/".join(parts[: folders[1]]))
        variant = variant_of_path(parts[: folders[1]])
        shape = self.content(session, variant)
        if below:
            below = path_by_uuid(shape, below[:-1], below[-1]) or below
        for place, dataset in self._with_types(shape):
            kept = shape.canonical_paths.get(dataset.id, place)
            if below in (place, kept):
                return session, (*self.place(session), *kept), dataset
        if not below:
            raise UsageError(
                f"{_quote(str(name))} is a session, not a dataset: name a file in it, or run "
                f"`onefs list {session.ref}`"
            )
        refuse_unserved(self._access.catalogue, session, lambda at, _: at == below, variant)
        raise NotFound(missing_name_message(shape, f"session {session.ref}", below[:-1], below[-1]))

    def _refuse_misplaced(self, session: Session, name: object) -> None:
        """Raise NotFound for a path that names a file in the session's own folder which is in
        another one; whatever else may be below a session is the user's own matter."""
        text = str(name) if isinstance(name, (str, PurePath)) else ""
        parts = _split_path(text) if "/" in text and "://" not in text else ()
        folders = _session_folders(parts)
        below = parts[folders[1] :] if folders is not None else ()
        if folders is None or len(below) != 1:
            return
        try:
            shape = self.content(session, variant_of_path(parts[: folders[1]]))
        except OnefsError:  # the session's name is good, and all that can be known
            return
        if below[0] not in shape.folders[()] and paths_of_name(shape, below[0]):
            raise NotFound(missing_name_message(shape, f"session {session.ref}", (), below[0]))

    def _with_types(self, shape: SessionLayout) -> list[tuple[Place, Dataset]]:
        found = datasets_by_path(shape)
        typed = self._access.catalogue.with_types([dataset for _, dataset in found])
        return [(place, dataset) for (place, _), dataset in zip(found, typed, strict=True)]

    def _eid_by_ref(self, text: str, ref: alf.Ref) -> str:
        if not alf.is_calendar_day(ref.date):  # Alyx answers 500
            raise NotFound(f"there is no session {text}: {ref.date} is no day")
        try:
            found = self._access.catalogue.sessions_by_ref(ref)
        except (Unreachable, DeadlineExceeded, Throttled):
            found = self._access.database.sessions_by_ref(ref)
            if not found:
                raise
        if not found:
            raise NotFound(f"Alyx has no session {text}")
        if len(found) > 1:
            labs = ", ".join(f"{session.eid} in {session.lab}" for session in found)
            raise Ambiguous(f"{text} is {len(found)} sessions: {labs}")
        return found[0].eid

    def _eid_or_session_at(self, text: str) -> str | Session:
        parts = _split_path(text)
        folders = _session_folders(parts)
        if folders is None:
            raise UsageError(f"{_quote(text)} is no path of a session: {_NAME_HELP}")
        place, _ = folders
        if len(place) == 1:
            return self._eid_or_session(place[0])
        try:
            return self._access.tree.session_at("/" + "/".join(place))
        except (Unreachable, DeadlineExceeded, Throttled):
            known = self._cached_session_at(place)
            if known is None:
                raise
            return known

    def _cached_session_at(self, place: Place) -> Session | None:
        """The session at a path, by the cached sessions alone; None unless there is exactly one."""
        _, subject, day, number = place
        ref = alf.Ref(day, alf.parse_number_folder(number) or 0, subject)
        known = self._access.database.sessions_by_ref(ref)
        labs = {lab: [each for each in known if each.lab == lab] for lab in {s.lab for s in known}}
        found = [
            session for session in known if session_path_among(session, labs[session.lab]) == place
        ]
        return found[0] if len(found) == 1 else None


def _path_of_url(url: str) -> str:
    try:
        return split_url(url).path
    except ValueError as error:
        raise UsageError(f"{_quote(url)} is no URL: {error}") from None


def _split_path(text: str) -> tuple[str, ...]:
    if "\0" in text:
        raise UsageError(f"{_quote(text)} is no path: it holds a NUL")
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    if _session_folders(parts) is None and not text.startswith("/"):
        # a path from inside the tree
        parts = tuple(part for part in absolute(text).split("/") if part)
    return parts


def _session_folders(parts: tuple[str, ...]) -> tuple[Place, int] | None:
    """The session's folders in a path, and the number of parts up to their end.

    One folder for ``.by-eid/<eid>`` and ``.by-ref/<ref>``, which need no others.
    """
    for at in reversed(range(1, len(parts))):
        if parts[at - 1] in (".by-eid", ".by-ref"):
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
    """Whether a UUID at the end is part of a file's name or folder, not Alyx's own."""
    folders = _session_folders(tuple(part for part in path.split("/") if part))
    return folders is not None and len(folders[0]) > 1


def _quote(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."

"""The paths of sessions in the tree. Only this module decides these paths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from onefs import alf
from onefs.cache.folder import Place
from onefs.errors import NotFound, OnefsError, Stopping
from onefs.model import Session
from onefs.tree.layout import SessionLayout, SubjectLayout, subject_layout
from onefs.tree.variant import FULL_TREE, Variant

if TYPE_CHECKING:
    from onefs.catalogue.catalogue import Catalogue
    from onefs.tree.layout_cache import LayoutCache


def session_path(catalogue: Catalogue, layouts: LayoutCache, session: Session) -> Place:
    """Return the path of a session's folder: lab, subject, date and number.

    Lists all sessions of the subject. Raises an error such as Unreachable if the listing fails.
    """
    catalogue.note_session(session)
    # If another session has the same date and number, digits of the eid are added to one of the two
    # folder names. So all sessions are needed.
    layout = load_subject_layout(catalogue, layouts, session.lab, session.subject)
    return _path_in_layout(layout, session)


def session_path_or_cached(catalogue: Catalogue, layouts: LayoutCache, session: Session) -> Place:
    """Return the path of a session's folder, like :func:`session_path`, even without Alyx.

    If the subject's sessions cannot be listed, the subject's sessions in the catalogue are used.
    Raises only NotFound and Stopping.
    """
    try:
        return session_path(catalogue, layouts, session)
    except (NotFound, Stopping):
        raise
    except OnefsError:
        return session_path_among(session, catalogue.known_sessions(session.lab, session.subject))


def session_paths_or_cached(
    catalogue: Catalogue,
    layouts: LayoutCache,
    sessions: Iterable[Session],
    *,
    has_complete_numbers: bool,
) -> dict[str, Place]:
    """Return the paths of the sessions' folders by eid, in the order of ``sessions``.

    Each path is that of :func:`session_path_or_cached`. If ``has_complete_numbers`` is True, no
    sessions are listed. Then, if several sessions of a subject have the same date and number,
    ``sessions`` must contain all of them or none.
    """
    if not has_complete_numbers:
        return {each.eid: session_path_or_cached(catalogue, layouts, each) for each in sessions}
    sessions = list(sessions)
    subjects: dict[tuple[str, str], list[Session]] = defaultdict(list)
    for session in sorted(sessions, key=lambda each: each.eid):
        subjects[session.lab, session.subject].append(session)
    built = {subject: subject_layout(of_subject) for subject, of_subject in subjects.items()}
    return {each.eid: _path_in_layout(built[each.lab, each.subject], each) for each in sessions}


def session_path_among(session: Session, others: Iterable[Session]) -> Place:
    """Return the path of a session's folder: lab, subject, date and number. No I/O.

    ``others`` are all sessions of the subject, sorted by date, number and eid.
    """
    # another session may have the same date and number (see ``session_path``)
    return _path_in_layout(subject_layout(others), session)


def load_subject_layout(
    catalogue: Catalogue, layouts: LayoutCache, lab: str, subject: str
) -> SubjectLayout:
    """Return a subject's sessions by date, and then by the name of the session's folder.

    Raises an error such as Unreachable if the listing fails.
    """
    listing = catalogue.sessions(lab, subject)
    return layouts.get_or_build(f"subject/{lab}/{subject}", listing, subject_layout)


def load_session_layout(
    catalogue: Catalogue, layouts: LayoutCache, session: Session, variant: Variant = FULL_TREE
) -> SessionLayout:
    """Return a session's folders and files in the full tree, as of a day, or in a flat tree.

    Raises an error such as Unreachable if the listing fails.
    """
    listing = catalogue.datasets(session)
    return layouts.get_or_build(f"content/{session.eid}@{variant}", listing, variant.build_layout)


def _path_in_layout(layout: SubjectLayout, session: Session) -> Place:
    lab, subject, date, number = alf.session_folder(session)
    for name, other in layout.get(session.date, {}).items():
        if other.eid == session.eid:
            number = name
    return lab, subject, date, number

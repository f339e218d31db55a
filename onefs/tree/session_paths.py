"""The paths of sessions in the tree. Only this module decides these paths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from onefs import alf
from onefs.cache.folder import Place
from onefs.catalogue.catalogue import Catalogue
from onefs.errors import NotFound, OnefsError, Stopping
from onefs.model import Session
from onefs.tree.layout import SessionLayout, SubjectLayout, subject_layout
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.variant import FULL_TREE, Variant


def session_path(catalogue: Catalogue, layouts: LayoutCache, session: Session) -> Place:
    """Return the path of a session's folder from the lab on.

    If two sessions have the same date and number, one of their folders has a mark. So all sessions
    of the subject are listed. Raises the errors of listing.
    """
    catalogue.note_session(session)
    layout = load_subject_layout(catalogue, layouts, session.lab, session.subject)
    return _path_in_layout(layout, session)


def session_path_or_cached(catalogue: Catalogue, layouts: LayoutCache, session: Session) -> Place:
    """Return :func:`session_path`. If listing fails, return the path among the cached sessions."""
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
    """Return :func:`session_path_or_cached` for each session, by eid, in the order of ``sessions``.

    If ``has_complete_numbers`` is true, no other session has the same subject, date and number as
    one of ``sessions``. Then no subject is listed.
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
    """Return the path of a session's folder from the lab on. No I/O.

    ``others`` are all sessions of the subject.
    """
    return _path_in_layout(subject_layout(others), session)


def load_subject_layout(
    catalogue: Catalogue, layouts: LayoutCache, lab: str, subject: str
) -> SubjectLayout:
    """Return the date and number folders of a subject. Raises the errors of listing."""
    listing = catalogue.sessions(lab, subject)
    return layouts.get_or_build(f"subject/{lab}/{subject}", listing, subject_layout)


def load_session_layout(
    catalogue: Catalogue, layouts: LayoutCache, session: Session, variant: Variant = FULL_TREE
) -> SessionLayout:
    """Return the folders and files of a session in a variant. Raises the errors of listing."""
    listing = catalogue.datasets(session)
    return layouts.get_or_build(f"content/{session.eid}@{variant}", listing, variant.build_layout)


def _path_in_layout(layout: SubjectLayout, session: Session) -> Place:
    lab, subject, date, number = alf.session_folder(session)
    for name, other in layout.get(session.date, {}).items():
        if other.eid == session.eid:
            number = name
    return lab, subject, date, number

"""Where sessions and datasets stand in the tree: the one place that decides it for all who ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from onefs import alf
from onefs.cache.store import Place
from onefs.catalogue.catalogue import Catalogue
from onefs.errors import NotFound, OnefsError, Stopping
from onefs.model import Session
from onefs.tree.layout import SessionLayout, SubjectLayout, subject_layout
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.variant import FULL_TREE, Variant


def session_path(catalogue: Catalogue, layouts: LayoutCache, session: Session) -> Place:
    """The folders of a session from the lab on.

    Its number folder may bear a mark, when two sessions share a number. So the subject's sessions
    are listed. Raises what listing raises.
    """
    catalogue.note_session(session)
    listing = catalogue.sessions(session.lab, session.subject)
    key = f"subject/{session.lab}/{session.subject}"
    return _path_in_layout(layouts.get_or_build(key, listing, subject_layout), session)


def session_path_or_cached(catalogue: Catalogue, layouts: LayoutCache, session: Session) -> Place:
    """As :func:`session_place`; by the sessions that are known where listing them fails."""
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
    """The folders of sessions, by eid, in their order: :func:`session_path_or_cached` of each.

    With ``has_complete_numbers`` these are all sessions of their days and numbers: none is listed.
    """
    found = list(sessions)
    if not has_complete_numbers:
        return {each.eid: session_path_or_cached(catalogue, layouts, each) for each in found}
    subjects: dict[tuple[str, str], list[Session]] = defaultdict(list)
    for session in sorted(found, key=lambda each: each.eid):
        subjects[session.lab, session.subject].append(session)
    built = {subject: subject_layout(theirs) for subject, theirs in subjects.items()}
    return {each.eid: _path_in_layout(built[each.lab, each.subject], each) for each in found}


def session_path_among(session: Session, others: Iterable[Session]) -> Place:
    """The folders of a session from the lab on, if these are all of its subject's sessions."""
    return _path_in_layout(subject_layout(others), session)


def load_session_layout(
    catalogue: Catalogue, layouts: LayoutCache, session: Session, variant: Variant = FULL_TREE
) -> SessionLayout:
    """The folders and files of a session, as a variant of the tree has them."""
    listing = catalogue.datasets(session)
    return layouts.get_or_build(f"content/{session.eid}@{variant}", listing, variant.build_layout)


def _path_in_layout(shape: SubjectLayout, session: Session) -> Place:
    lab, subject, date, number = alf.session_folder(session)
    for name, found in shape.sessions_by_date.get(session.date, {}).items():
        if found.eid == session.eid:
            number = name
    return lab, subject, date, number

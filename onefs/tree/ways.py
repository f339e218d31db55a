"""Where sessions and datasets stand in the tree: the one place that decides it for all who ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from onefs import alf
from onefs.content.store import Place
from onefs.errors import NotFound, OnefsError, Stopping
from onefs.metadata.catalogue import Catalogue
from onefs.model import Session
from onefs.tree.shape import SessionShape, SubjectShape, subject_shape
from onefs.tree.shapes import Shapes
from onefs.tree.variant import EVERYTHING, Variant


def session_place(catalogue: Catalogue, shapes: Shapes, session: Session) -> Place:
    """The folders of a session from the lab on.

    Its number folder may bear a mark, when two sessions share a number. So the subject's sessions
    are listed. Raises what listing raises.
    """
    catalogue.met(session)
    listing = catalogue.sessions(session.lab, session.subject)
    key = f"subject/{session.lab}/{session.subject}"
    return _place_in(shapes.of(key, listing, subject_shape), session)


def likely_place(catalogue: Catalogue, shapes: Shapes, session: Session) -> Place:
    """As :func:`session_place`; by the sessions that are known where listing them fails."""
    try:
        return session_place(catalogue, shapes, session)
    except (NotFound, Stopping):
        raise
    except OnefsError:
        return known_place(session, catalogue.known_sessions(session.lab, session.subject))


def likely_places(
    catalogue: Catalogue, shapes: Shapes, sessions: Iterable[Session], *, numbers_whole: bool
) -> dict[str, Place]:
    """The folders of sessions, by eid, in their order: :func:`likely_place` of each.

    With ``numbers_whole`` these are all sessions of their days and numbers: none is listed.
    """
    found = list(sessions)
    if not numbers_whole:
        return {each.eid: likely_place(catalogue, shapes, each) for each in found}
    subjects: dict[tuple[str, str], list[Session]] = defaultdict(list)
    for session in sorted(found, key=lambda each: each.eid):
        subjects[session.lab, session.subject].append(session)
    built = {subject: subject_shape(theirs) for subject, theirs in subjects.items()}
    return {each.eid: _place_in(built[each.lab, each.subject], each) for each in found}


def known_place(session: Session, others: Iterable[Session]) -> Place:
    """The folders of a session from the lab on, if these are all of its subject's sessions."""
    return _place_in(subject_shape(others), session)


def session_content(
    catalogue: Catalogue, shapes: Shapes, session: Session, variant: Variant = EVERYTHING
) -> SessionShape:
    """The folders and files of a session, as a variant of the tree has them."""
    listing = catalogue.datasets(session)
    return shapes.of(f"content/{session.eid}@{variant}", listing, variant.shape)


def _place_in(shape: SubjectShape, session: Session) -> Place:
    lab, subject, date, number = alf.session_folder(session)
    for name, found in shape.dates.get(session.date, {}).items():
        if found.eid == session.eid:
            number = name
    return lab, subject, date, number

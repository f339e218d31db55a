"""Where sessions and datasets stand in the tree, for whoever knows them by another name."""

from __future__ import annotations

from functools import partial

from onefs import alf
from onefs.content.store import Place
from onefs.metadata.catalogue import Catalogue
from onefs.model import Session
from onefs.tree.days import shape_as_of
from onefs.tree.shape import SessionShape, subject_shape
from onefs.tree.shapes import Shapes


def session_place(catalogue: Catalogue, shapes: Shapes, session: Session) -> Place:
    """The folders of a session from the lab on.

    Its number folder may bear a mark, when two sessions share a number.
    """
    lab, subject, date, number = alf.session_folder(session)
    catalogue.met(session)
    listing = catalogue.sessions(session.lab, session.subject)
    shape = shapes.of(f"subject/{session.lab}/{session.subject}", listing, subject_shape)
    for name, found in shape.dates.get(session.date, {}).items():
        if found.eid == session.eid:
            number = name
    return lab, subject, date, number


def session_content(
    catalogue: Catalogue, shapes: Shapes, session: Session, as_of: str = ""
) -> SessionShape:
    """The folders and files of a session: all revisions, or each file as of a day."""
    listing = catalogue.datasets(session)
    key = f"content/{session.eid}@{as_of}"
    return shapes.of(key, listing, partial(shape_as_of, day=as_of))

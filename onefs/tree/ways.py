"""Where sessions and datasets stand in the tree, for whoever knows them by another name."""

from __future__ import annotations

from onefs import alf
from onefs.content.store import Place
from onefs.metadata.catalogue import Catalogue
from onefs.model import Dataset, Session
from onefs.tree.shape import SessionShape, session_shape, subject_shape
from onefs.tree.shapes import Shapes


def session_place(catalogue: Catalogue, shapes: Shapes, session: Session) -> Place:
    """The folders of a session from the lab on.

    Its number folder may bear a mark, when two sessions share a number.
    """
    lab, subject, date, number = alf.session_folder(session)
    listing = catalogue.sessions(session.lab, session.subject)
    shape = shapes.of(f"subject/{session.lab}/{session.subject}", listing, subject_shape)
    for name, found in shape.dates.get(session.date, {}).items():
        if found.eid == session.eid:
            number = name
    return lab, subject, date, number


def session_content(catalogue: Catalogue, shapes: Shapes, session: Session) -> SessionShape:
    """The folders and files of a session."""
    listing = catalogue.datasets(session)
    return shapes.of(f"content/{session.eid}", listing, session_shape)


def datasets_by_place(shape: SessionShape) -> list[tuple[Place, Dataset]]:
    """A session's datasets with where each stands below it, by that place."""
    return sorted(
        ((*folders, name), dataset)
        for folders, children in shape.folders.items()
        for name, dataset in children.items()
        if dataset is not None
    )

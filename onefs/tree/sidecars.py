"""The virtual files of a session's folder, such as ``.session.json`` and ``.datasets.tsv``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onefs.dates import file_mtime
from onefs.model import Dataset, Session
from onefs.tree.context import TreeContext
from onefs.tree.entries import File
from onefs.tree.handles import TextHandle
from onefs.tree.layout import Folders, datasets_by_path
from onefs.tree.nodes import Handle, Node, NodeKind, inode_of_path
from onefs.tree.session_paths import session_path
from onefs.tree.tsv import INSERTION_COLUMNS, insertion_cells, tsv_cell, tsv_text
from onefs.tree.unserved import unserved

SESSION_JSON = ".session.json"
DATASETS_TSV = ".datasets.tsv"
INSERTIONS_TSV = ".insertions.tsv"
TSV_COLUMNS = ("name", "type", "size", "md5", "revision", "qc", "state")
#: the state of a dataset that is registered in Alyx, but that no reachable server has
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Sidecar(File):
    """A text file about a session. The text is generated at each ``stat`` and at each opening."""

    session: Session
    name: str
    text: Callable[[], str]

    def node(self) -> Node:
        text = self.text().encode()
        ino = inode_of_path(self.name, self.session.eid)
        return Node(NodeKind.FILE, ino, len(text), file_mtime(self.session.date, text))

    def open(self) -> Handle:
        return TextHandle(self.text().encode())


def session_json(context: TreeContext, session: Session) -> Sidecar:
    """Return ``.session.json``: the whole Alyx record of a session."""
    return Sidecar(session, SESSION_JSON, lambda: context.catalogue.record(session).value)


def datasets_tsv(context: TreeContext, session: Session) -> Sidecar:
    """Return ``.datasets.tsv``: a line for each dataset, sorted by path below the session.

    A dataset that the tree does not show because of its QC has no line.

    A cell is empty if its value is unknown. A dataset that is on no server has the state
    ``absent``. The state of all other datasets is empty.
    """
    return Sidecar(session, DATASETS_TSV, lambda: _datasets_table(context, session))


def insertions_tsv(context: TreeContext, session: Session) -> Sidecar:
    """Return ``.insertions.tsv``: a line for each probe insertion of a session, sorted by name."""

    def text() -> str:
        path = "/".join(session_path(context.catalogue, context.layouts, session))
        insertions = context.catalogue.insertions.of_session(session).value
        rows = ({**insertion_cells(each, session), "path": path} for each in insertions)
        return tsv_text(INSERTION_COLUMNS, rows)

    return Sidecar(session, INSERTIONS_TSV, text)


#: the function that returns the sidecar, by the sidecar's name
SIDECARS: Mapping[str, Callable[[TreeContext, Session], Sidecar]] = {
    SESSION_JSON: session_json,
    DATASETS_TSV: datasets_tsv,
    INSERTIONS_TSV: insertions_tsv,
}


def _datasets_table(context: TreeContext, session: Session) -> str:
    layout = context.load_layout(session)
    rows = {path: (dataset, "") for path, dataset in datasets_by_path(layout)}
    for path, dataset, _ in unserved(context.catalogue, session, context.variant):
        if context.shows(dataset):
            rows.setdefault(path, (dataset, ABSENT))
    lines = [TSV_COLUMNS, *(_line(path, *rows[path]) for path in sorted(rows))]
    return "".join("\t".join(line) + "\n" for line in lines)


def _line(path: Folders, dataset: Dataset, state: str) -> tuple[str, ...]:
    """Return the cells of a dataset's line, in the order of :data:`TSV_COLUMNS`."""
    size = "" if dataset.size is None else str(dataset.size)
    texts = (dataset.dataset_type, size, dataset.md5, dataset.revision, dataset.qc)
    return ("/".join(path), *(tsv_cell(text) for text in texts), state)

"""``.datasets.tsv``: what the database says of a session's datasets, as a table."""

from __future__ import annotations

from dataclasses import dataclass

from onefs import alf
from onefs.dates import file_mtime
from onefs.model import Dataset, Session
from onefs.printable import printable
from onefs.tree.context import TreeContext
from onefs.tree.layout import Folders, datasets_by_path
from onefs.tree.nodes import Handle, Node, NodeKind, inode_of_path
from onefs.tree.session_paths import load_session_layout
from onefs.tree.text_handle import TextHandle
from onefs.tree.unserved import unserved

DATASETS_TSV = ".datasets.tsv"
TSV_COLUMNS = ("name", "type", "size", "md5", "revision", "qc", "state")
#: the state of a dataset that is registered, but on no server that can be reached
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class DatasetsTsv:
    """A line for each dataset, by its path below the session; '' for what is not known.

    A dataset that is on no server has a line, too, with the state ``absent``; the state of all
    others is ''.
    """

    context: TreeContext
    session: Session

    def node(self) -> Node:
        text = self._text()
        ino = inode_of_path(DATASETS_TSV, self.session.eid)
        return Node(NodeKind.FILE, ino, len(text), file_mtime(self.session.date, text))

    def open(self) -> Handle:
        return TextHandle(self._text())

    def xattrs(self) -> dict[str, str]:
        return {}

    def _text(self) -> bytes:
        rooms = self.context
        shape = load_session_layout(rooms.catalogue, rooms.layouts, self.session, rooms.variant)
        found = {place: (dataset, "") for place, dataset in datasets_by_path(shape)}
        for place, dataset, _ in unserved(rooms.catalogue, self.session, rooms.variant):
            found.setdefault(place, (dataset, ABSENT))
        lines = [TSV_COLUMNS, *(_line(place, *found[place]) for place in sorted(found))]
        return "".join("\t".join(line) + "\n" for line in lines).encode()


def _line(place: Folders, dataset: Dataset, state: str) -> tuple[str, ...]:
    """The cells of a dataset."""
    size = "" if dataset.size is None else str(dataset.size)
    kind, revision = _tsv_cell(dataset.dataset_type), _tsv_cell(dataset.revision)
    md5, qc = _tsv_cell(dataset.md5), _tsv_cell(dataset.qc)
    return "/".join(place), kind, size, md5, revision, qc, state


def _tsv_cell(text: str) -> str:
    """A server's text that breaks no line."""
    return printable(alf.path_component(text)) if text else ""

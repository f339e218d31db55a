"""``.datasets.tsv``: what the database says of a session's datasets, as a table."""

from __future__ import annotations

from dataclasses import dataclass

from onefs import alf
from onefs.dates import file_time
from onefs.model import Dataset, Session
from onefs.printable import printable
from onefs.tree.basis import Rooms
from onefs.tree.nodes import Handle, Kind, Node, inode_of_path
from onefs.tree.shape import Folders, datasets_by_place
from onefs.tree.text import TextHandle
from onefs.tree.unserved import unserved
from onefs.tree.ways import session_content

DATASETS_TSV = ".datasets.tsv"
COLUMNS = ("name", "type", "size", "md5", "revision", "qc", "state")
#: the state of a dataset that is registered, but on no server that can be reached
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class DatasetsTsv:
    """A line for each dataset, by its path below the session; '' for what is not known.

    A dataset that is on no server has a line, too, with the state ``absent``; the state of all
    others is ''.
    """

    rooms: Rooms
    session: Session

    def node(self) -> Node:
        text = self._text()
        ino = inode_of_path(DATASETS_TSV, self.session.eid)
        return Node(Kind.FILE, ino, len(text), file_time(self.session.date, text))

    def open(self) -> Handle:
        return TextHandle(self._text())

    def xattrs(self) -> dict[str, str]:
        return {}

    def _text(self) -> bytes:
        rooms = self.rooms
        shape = session_content(rooms.catalogue, rooms.shapes, self.session, rooms.variant)
        found = {place: (dataset, "") for place, dataset in datasets_by_place(shape)}
        for place, dataset, _ in unserved(rooms.catalogue, self.session, rooms.variant):
            found.setdefault(place, (dataset, ABSENT))
        lines = [COLUMNS, *(_line(place, *found[place]) for place in sorted(found))]
        return "".join("\t".join(line) + "\n" for line in lines).encode()


def _line(place: Folders, dataset: Dataset, state: str) -> tuple[str, ...]:
    """The cells of a dataset."""
    size = "" if dataset.size is None else str(dataset.size)
    kind, revision = _cell(dataset.dataset_type), _cell(dataset.revision)
    md5, qc = _cell(dataset.md5), _cell(dataset.qc)
    return "/".join(place), kind, size, md5, revision, qc, state


def _cell(text: str) -> str:
    """A server's text that breaks no line."""
    return printable(alf.component(text)) if text else ""

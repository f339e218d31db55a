"""``.search``: each search is a folder.

For example, the folder ``.search/users=olivier&date_range=2018-08-24,2018-08-24/`` contains a link
for each session that the search finds, and two text files, ``.eids`` and ``.paths``. Two tables,
``.sessions.tsv`` and ``.insertions.tsv``, are not listed, but can be looked up. The name of a link
is the session's ref, such as ``2018-08-24_1_clns0730``. A mark is added to the name if two of the
sessions have the same ref. When the folder is looked up, its name is parsed, but no search runs.
The search runs when the folder is listed, or when an entry in the folder is looked up. ``.search``
itself lists the saved searches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from onefs.dates import file_mtime
from onefs.errors import NotFound
from onefs.model import Session
from onefs.search.vocabulary import Query
from onefs.tree.context import TreeContext, undated_folder_node
from onefs.tree.entries import File, Folder, SymbolicLink
from onefs.tree.handles import TextHandle
from onefs.tree.nodes import Handle, Node, NodeKind, inode_of_path
from onefs.tree.search_cache import EIDS, PATHS, SEARCH, SearchResult
from onefs.tree.session_paths import session_path
from onefs.tree.sidecars import INSERTIONS_TSV
from onefs.tree.tsv import (
    INSERTION_COLUMNS,
    SESSION_COLUMNS,
    insertion_cells,
    session_cells,
    tsv_text,
)

SESSIONS_TSV = ".sessions.tsv"


@dataclass(frozen=True, slots=True)
class SearchTextFile(File):
    """A text file about the sessions that a search found, such as ``.eids`` or ``.paths``.

    A line of these two is the eid of a session, or the path of a session's folder.
    """

    context: TreeContext
    name: str
    #: the eids of all sessions that the search found; the eids decide the inode number
    eids: tuple[str, ...]
    lines: Callable[[], tuple[str, ...]]

    def listed_node(self) -> Node:
        """Return the node (the values of ``stat``) of this file, for a listing of the folder.

        The node's size is None, because the size is not known yet.
        """
        ino = inode_of_path(SEARCH, self.name, *self.eids)
        # the size is unknown until the lines are computed
        return Node(NodeKind.FILE, ino, None, self.context.catalogue.created)

    def node(self) -> Node:
        text = self._encode_lines()
        return replace(self.listed_node(), size=len(text), mtime=file_mtime("", text))

    def open(self) -> Handle:
        return TextHandle(self._encode_lines())

    def _encode_lines(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines()).encode()


@dataclass(frozen=True, slots=True)
class SearchFolder(Folder):
    """The folder of one search. It contains a link for each session found, and two text files."""

    context: TreeContext
    name: str
    query: Query

    def node(self) -> Node:
        return undated_folder_node(self.context, SEARCH, self.name)

    def child(self, name: str) -> SymbolicLink | SearchTextFile:
        result = self.context.searches.get_result(self.query)
        if name in result.sessions:
            return _session_link(self.context, result.sessions[name])
        texts = self._text_files(result)
        if name in texts:
            return texts[name]
        tables = {SESSIONS_TSV: self._session_table, INSERTIONS_TSV: self._insertion_table}
        if name in tables:
            lines = partial(self.context.searches.table_lines, self.query, name, tables[name])
            return SearchTextFile(self.context, name, result.eids, lines)
        raise NotFound(f"the search {self.name} did not find a session {name}")

    def children(self) -> list[tuple[str, Node]]:
        result = self.context.searches.get_result(self.query)
        texts = [(name, text.listed_node()) for name, text in self._text_files(result).items()]
        links = (
            (name, _session_link(self.context, session).node())
            for name, session in result.sessions.items()
        )
        return [*texts, *links]

    def xattrs(self) -> dict[str, str]:
        return {"query": str(self.query)}

    def _session_table(self, result: SearchResult) -> str:
        paths = self._paths_by_eid(result)
        rows = (
            {**session_cells(each), "path": paths[each.eid]} for each in result.sessions.values()
        )
        return tsv_text(SESSION_COLUMNS, rows)

    def _insertion_table(self, result: SearchResult) -> str:
        # imported here, as in SearchCache.parse_name
        from onefs.search.insertions import find_in_sessions

        context, paths = self.context, self._paths_by_eid(result)
        by_eid = {each.eid: each for each in result.sessions.values()}
        insertions = find_in_sessions(
            context.searches.queries,
            context.catalogue.insertions,
            self.query,
            list(by_eid.values()),
        )
        rows = (
            {**insertion_cells(each, by_eid[each.eid]), "path": paths[each.eid]}
            for each in insertions
        )
        return tsv_text(INSERTION_COLUMNS, rows)

    def _paths_by_eid(self, result: SearchResult) -> dict[str, str]:
        context = self.context
        paths = context.searches.session_paths(self.query, context.catalogue, context.layouts)
        eids = (session.eid for session in result.sessions.values())
        return dict(zip(eids, paths, strict=True))

    def _text_files(self, result: SearchResult) -> dict[str, SearchTextFile]:
        context = self.context
        paths = partial(
            context.searches.session_paths, self.query, context.catalogue, context.layouts
        )
        return {
            EIDS: SearchTextFile(context, EIDS, result.eids, lambda: result.eids),
            PATHS: SearchTextFile(context, PATHS, result.eids, paths),
        }


@dataclass(frozen=True, slots=True)
class SearchRoot(Folder):
    """The folder ``.search``. It lists the saved searches. Every other search can be looked up."""

    context: TreeContext

    def node(self) -> Node:
        return undated_folder_node(self.context, SEARCH)

    def child(self, name: str) -> SearchFolder:
        return SearchFolder(self.context, name, self.context.searches.parse_name(name))

    def children(self) -> list[tuple[str, Node]]:
        searches = self.context.searches.queries.saved_searches()
        return [(name, undated_folder_node(self.context, SEARCH, name)) for name in searches]

    def xattrs(self) -> dict[str, str]:
        error = self.context.searches.last_error
        return {"error": error} if error else {}


def _session_link(context: TreeContext, session: Session) -> SymbolicLink:
    """Return a link, in a folder of ``.search``, that leads to a session's folder."""

    def target() -> str:
        return "../../" + "/".join(session_path(context.catalogue, context.layouts, session))

    ino = inode_of_path(SEARCH, session.eid)
    return SymbolicLink(ino, 0, context.catalogue.created, target)

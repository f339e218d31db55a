"""The laboratory as a tree: paths down to items."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import cast

from onefs.content.reader import Content
from onefs.content.store import Place
from onefs.errors import NotFound, UsageError
from onefs.metadata.catalogue import Catalogue
from onefs.metadata.queries import Queries
from onefs.model import Dataset
from onefs.printable import printable
from onefs.secret import redact
from onefs.tree import searches
from onefs.tree.basis import Folder, Item, Link, Rooms
from onefs.tree.files import File, SessionJson
from onefs.tree.finding import DATASET, expand, walk
from onefs.tree.items import LabFolder, Root, SessionFolder, SubjectFolder
from onefs.tree.nodes import Handle, Node, inode_as_of, inode_in_flat
from onefs.tree.one_folder import OneFolder, TableFile
from onefs.tree.opened import Opened
from onefs.tree.own_folders import OwnFolders, OwnLink
from onefs.tree.rest import REST, RestLink
from onefs.tree.searches import Searches
from onefs.tree.shapes import Shapes
from onefs.tree.sidecars import DatasetsTsv
from onefs.tree.sizes import Sizes
from onefs.tree.unserved import refuse_unserved
from onefs.tree.variant import EVERYTHING, Variant, split_variant
from onefs.tree.views import BY_EID

#: seconds for which a folder that was found is taken to be still there; what it holds is looked
#: up each time
NEAR = 0.5
_MOST_NEAR = 1024


class Laboratory:
    """The tree over a catalogue and a store (see ``onefs.tree.nodes.Tree``). Thread-safe.

    ``url`` is the database's address, shown on the root; ``deadline`` bounds, in seconds, how
    long a file server is asked for a size. ``variant`` is what the whole tree shows. ``rest`` is
    where ``.rest`` leads; None: there is none. ``own`` has the folders that users' code writes to.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        content: Content,
        url: str,
        queries: Queries,
        deadline: float = 10.0,
        variant: Variant = EVERYTHING,
        rest: Path | None = None,
        own: OwnFolders | None = None,
    ) -> None:
        self._variant = variant
        self._catalogue = catalogue
        self._content = content
        self._sizes = Sizes(catalogue, content, deadline)
        self._searches = Searches(queries)
        self._own = own
        self._near = _Near()
        #: what is open, and which paths have become another dataset
        self.opened = Opened()
        rest_link = RestLink(rest, catalogue.created) if rest is not None else None
        one_folder = OneFolder(content.one_tables, self.opened, rest_link)
        self._root = Root(
            Rooms(
                catalogue,
                content,
                Shapes(),
                self._sizes,
                self.opened,
                url,
                self._searches,
                one_folder,
                own,
                variant=variant,
            )
        )

    def close(self) -> None:
        """Wake all that waits for a size, a search or a folder, with Stopping."""
        self._sizes.close()
        self._searches.close()
        if self._own is not None:
            self._own.close()

    def look_again(self) -> None:
        """Drop what is kept in memory, so that the next look finds what ``onefs refresh`` wants.

        Waits for nothing. What is open stays as it is.
        """
        self._near = _Near()
        self._searches.drop()
        self._sizes.forget_failures()
        self._catalogue.look_again()

    def node(self, path: str) -> Node:
        node = self._find(path).node()
        return node if path == "/" else _in_variant(self._variant_at(path), node)

    def children(self, path: str) -> list[tuple[str, Node]]:
        found = self._folder(path).children()
        variant = self._variant_at(path)
        if variant.is_everything:
            return found
        return [(name, _in_variant(variant, node)) for name, node in found]

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        item = self._find(path)
        if isinstance(item, OwnLink):
            return item.follow(user)
        if isinstance(item, RestLink):
            if self._own is not None and user is not None and user != os.getuid():
                return self._own.of(REST, user)  # the mount's own are closed to other users
            return item.follow(caller)
        if not isinstance(item, Link | searches.Link):
            raise UsageError(f"{path} is no link")
        return item.follow()

    def open(self, path: str) -> Handle:
        item = self._find(path)
        if not isinstance(item, File | SessionJson | DatasetsTsv | searches.Text | TableFile):
            raise UsageError(f"{path} is no file")
        return item.open()

    def xattrs(self, path: str) -> dict[str, str]:
        found = self._find(path).xattrs()
        return {name: printable(redact(value)) for name, value in found.items()}

    def datasets(self, pattern: str) -> Iterator[tuple[Dataset, Place]]:
        """The datasets at and below a path, or all paths that a shell pattern matches.

        Each once. Raises NotFound when there is no such path, and what listing raises.
        """
        if pattern.startswith(DATASET):
            yield self._dataset(pattern.removeprefix(DATASET))
            return
        seen = set()
        for path in expand(self, pattern):
            for inner in walk(self, path):
                item = self._find(inner)
                if isinstance(item, File) and item.dataset.id not in seen:
                    seen.add(item.dataset.id)
                    yield item.dataset, item.place

    def _dataset(self, dataset_id: str) -> tuple[Dataset, Place]:
        """The dataset with a UUID. Raises NotFound, and what listing its session raises."""
        eid = self._searches.queries.session_of_dataset(dataset_id)
        for dataset, place in self.datasets(f"{BY_EID}/{eid}"):
            if dataset.id == dataset_id:
                return dataset, place
        session = self._catalogue.session(eid)
        refuse_unserved(self._catalogue, session, lambda _, dataset: dataset.id == dataset_id)
        raise NotFound(f"dataset {dataset_id} of session {eid} has no file on a server")

    def space(self) -> tuple[int, int]:
        return self._content.space()

    def _variant_at(self, path: str) -> Variant:
        """The variant of the tree that a path lies in; the path exists."""
        if not path.startswith("/."):
            return self._variant
        return split_variant(self._variant.path(path.lstrip("/")).split("/"))[0]

    def _find(self, path: str) -> Item:
        near = self._near  # of before, if it is dropped meanwhile
        known = near.get(path)
        if known is not None:
            return known
        above, _, name = path.rpartition("/")
        if not name:
            return self._find(above) if above else self._root
        found = self._folder_at(above).child(name)
        if isinstance(found, LabFolder | SubjectFolder | SessionFolder):
            near.put(path, found)
        return found

    def _folder_at(self, path: str) -> Folder:
        """The folder that something below it is looked up in."""
        item = self._find(path)
        if not hasattr(item, "child"):
            raise NotFound(f"{path} is no folder, and holds nothing")
        return cast("Folder", item)

    def _folder(self, path: str) -> Folder:
        item = self._find(path)
        if not hasattr(item, "children"):
            raise UsageError(f"{path} is no folder")
        return cast("Folder", item)


class _Near:
    """Folders that were found a moment ago, by path: a walk looks up all that a folder holds, and
    a listing looks at the folder and at the one above. Thread-safe, by single steps of a dict.
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, Folder]] = {}

    def get(self, path: str) -> Folder | None:
        known = self._found.get(path)
        return known[1] if known is not None and monotonic() - known[0] < NEAR else None

    def put(self, path: str, folder: Folder) -> None:
        if len(self._found) >= _MOST_NEAR:
            self._found.clear()
        self._found[path] = (monotonic(), folder)


def _in_variant(variant: Variant, node: Node) -> Node:
    """A node with the inode that it has in a variant: each variant has its own."""
    if variant.is_everything:
        return node
    ino = inode_as_of(variant.day, node.ino) if variant.day else node.ino
    return replace(node, ino=inode_in_flat(ino) if variant.flat else ino)

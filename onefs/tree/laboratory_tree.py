"""The laboratory as a tree: paths down to items."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import cast

from onefs.cache.store import Place
from onefs.catalogue.catalogue import Catalogue
from onefs.config.secret import redact
from onefs.content.content import Content
from onefs.errors import NotFound, UsageError
from onefs.model import Dataset
from onefs.printable import printable
from onefs.search.queries import SessionQueries
from onefs.tree import search_folders
from onefs.tree.context import (
    Folder,
    SymbolicLink,
    TreeContext,
    TreeEntry,
)
from onefs.tree.dataset_file import DatasetFile, SessionJson
from onefs.tree.entries import (
    LabFolder,
    RootFolder,
    SessionFolder,
    SubjectFolder,
)
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.lookup_folders import BY_EID
from onefs.tree.nodes import Handle, Node, inode_in_as_of, inode_in_flat
from onefs.tree.one_api_compat import OneApiFolder, OneTableFile
from onefs.tree.open_files import OpenFiles
from onefs.tree.path_patterns import DATASET_PREFIX, expand_pattern, walk_files
from onefs.tree.rest_link import REST, RestLink
from onefs.tree.search_folders import SearchCache
from onefs.tree.sidecars import DatasetsTsv
from onefs.tree.size_lookup import SizeLookup
from onefs.tree.unserved import refuse_unserved
from onefs.tree.user_folders import UserFolderLink, UserFolders
from onefs.tree.variant import FULL_TREE, Variant, split_variant

#: seconds for which a folder that was found is taken to be still there; what it holds is looked
#: up each time
FOLDER_CACHE_SECONDS = 0.5
_MAX_CACHED_FOLDERS = 1024


class LaboratoryTree:
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
        queries: SessionQueries,
        deadline: float = 10.0,
        variant: Variant = FULL_TREE,
        rest: Path | None = None,
        user_folders: UserFolders | None = None,
    ) -> None:
        self._variant = variant
        self._catalogue = catalogue
        self._content = content
        self._sizes = SizeLookup(catalogue, content, deadline)
        self._searches = SearchCache(queries)
        self._user_folders = user_folders
        self._folder_cache = _FolderCache()
        #: what is open, and which paths have become another dataset
        self.open_files = OpenFiles()
        rest_link = RestLink(rest, catalogue.created) if rest is not None else None
        one_folder = OneApiFolder(content.one_tables, self.open_files, rest_link)
        self._root = RootFolder(
            TreeContext(
                catalogue,
                content,
                LayoutCache(),
                self._sizes,
                self.open_files,
                url,
                self._searches,
                one_folder,
                user_folders,
                variant=variant,
            )
        )

    def close(self) -> None:
        """Wake all that waits for a size, a search or a folder, with Stopping."""
        self._sizes.close()
        self._searches.close()
        if self._user_folders is not None:
            self._user_folders.close()

    def drop_caches(self) -> None:
        """Drop what is kept in memory, so that the next look finds what ``onefs refresh`` wants.

        Waits for nothing. What is open stays as it is.
        """
        self._folder_cache = _FolderCache()
        self._searches.drop_results()
        self._sizes.clear_negative_cache()
        self._catalogue.reload_invalidations()

    def node(self, path: str) -> Node:
        node = self._resolve(path).node()
        return node if path == "/" else _with_variant_inode(self._variant_at(path), node)

    def children(self, path: str) -> list[tuple[str, Node]]:
        found = self._resolve_folder(path).children()
        variant = self._variant_at(path)
        if variant.is_full_tree:
            return found
        return [(name, _with_variant_inode(variant, node)) for name, node in found]

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        item = self._resolve(path)
        if isinstance(item, UserFolderLink):
            return item.read_target(user)
        if isinstance(item, RestLink):
            if self._user_folders is not None and user is not None and user != os.getuid():
                return self._user_folders.link_target(
                    REST, user
                )  # the mount's own are closed to other users
            return item.read_target(caller)
        if not isinstance(item, SymbolicLink | search_folders.SessionLink):
            raise UsageError(f"{path} is no link")
        return item.read_target()

    def open(self, path: str) -> Handle:
        item = self._resolve(path)
        if not isinstance(
            item,
            DatasetFile | SessionJson | DatasetsTsv | search_folders.SearchTextFile | OneTableFile,
        ):
            raise UsageError(f"{path} is no file")
        return item.open()

    def xattrs(self, path: str) -> dict[str, str]:
        found = self._resolve(path).xattrs()
        return {name: printable(redact(value)) for name, value in found.items()}

    def find_datasets(self, pattern: str) -> Iterator[tuple[Dataset, Place]]:
        """The datasets at and below a path, or all paths that a shell pattern matches.

        Each once. Raises NotFound when there is no such path, and what listing raises.
        """
        if pattern.startswith(DATASET_PREFIX):
            yield self._find_dataset_by_id(pattern.removeprefix(DATASET_PREFIX))
            return
        seen = set()
        for path in expand_pattern(self, pattern):
            for inner in walk_files(self, path):
                item = self._resolve(inner)
                if isinstance(item, DatasetFile) and item.dataset.id not in seen:
                    seen.add(item.dataset.id)
                    yield item.dataset, item.canonical_path

    def _find_dataset_by_id(self, dataset_id: str) -> tuple[Dataset, Place]:
        """The dataset with a UUID. Raises NotFound, and what listing its session raises."""
        eid = self._searches.queries.session_of_dataset(dataset_id)
        for dataset, place in self.find_datasets(f"{BY_EID}/{eid}"):
            if dataset.id == dataset_id:
                return dataset, place
        session = self._catalogue.session(eid)
        refuse_unserved(self._catalogue, session, lambda _, dataset: dataset.id == dataset_id)
        raise NotFound(f"dataset {dataset_id} of session {eid} has no file on a server")

    def space(self) -> tuple[int, int]:
        return self._content.disk_space()

    def _variant_at(self, path: str) -> Variant:
        """The variant of the tree that a path lies in; the path exists."""
        if not path.startswith("/."):
            return self._variant
        return split_variant(self._variant.path_in_full_tree(path.lstrip("/")).split("/"))[0]

    def _resolve(self, path: str) -> TreeEntry:
        near = self._folder_cache  # of before, if it is dropped meanwhile
        known = near.get(path)
        if known is not None:
            return known
        above, _, name = path.rpartition("/")
        if not name:
            return self._resolve(above) if above else self._root
        found = self._resolve_parent(above).child(name)
        if isinstance(found, LabFolder | SubjectFolder | SessionFolder):
            near.put(path, found)
        return found

    def _resolve_parent(self, path: str) -> Folder:
        """The folder that something below it is looked up in."""
        item = self._resolve(path)
        if not hasattr(item, "child"):
            raise NotFound(f"{path} is no folder, and holds nothing")
        return cast("Folder", item)

    def _resolve_folder(self, path: str) -> Folder:
        item = self._resolve(path)
        if not hasattr(item, "children"):
            raise UsageError(f"{path} is no folder")
        return cast("Folder", item)


class _FolderCache:
    """Folders that were found a moment ago, by path: a walk looks up all that a folder holds, and
    a listing looks at the folder and at the one above. Thread-safe, by single steps of a dict.
    """

    def __init__(self) -> None:
        self._folders: dict[str, tuple[float, Folder]] = {}

    def get(self, path: str) -> Folder | None:
        known = self._folders.get(path)
        return (
            known[1]
            if known is not None and monotonic() - known[0] < FOLDER_CACHE_SECONDS
            else None
        )

    def put(self, path: str, folder: Folder) -> None:
        if len(self._folders) >= _MAX_CACHED_FOLDERS:
            self._folders.clear()
        self._folders[path] = (monotonic(), folder)


def _with_variant_inode(variant: Variant, node: Node) -> Node:
    """A node with the inode that it has in a variant: each variant has its own."""
    if variant.is_full_tree:
        return node
    ino = inode_in_as_of(variant.day, node.ino) if variant.day else node.ino
    return replace(node, ino=inode_in_flat(ino) if variant.flat else ino)

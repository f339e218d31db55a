"""Show the laboratory as a tree, and find the entry at each path of the tree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from onefs.cache.folder import Place
from onefs.catalogue.catalogue import Catalogue
from onefs.config.secret import redact
from onefs.content.content import Content
from onefs.errors import NotFound, UsageError
from onefs.model import Dataset, Session
from onefs.printable import printable
from onefs.tree.context import TreeContext
from onefs.tree.dataset_file import DatasetFile
from onefs.tree.entries import File, Folder, SymbolicLink, TreeEntry, listed_entry
from onefs.tree.lab_folders import LabFolder, SubjectFolder
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.listed_sessions import ListedSessions
from onefs.tree.nodes import XATTR_PREFIX, Handle, ListedEntry, Node, inode_of_path
from onefs.tree.one_api_compat import OneApiFolder
from onefs.tree.open_files import OpenFiles
from onefs.tree.path_patterns import BY_EID, DATASET_PREFIX, expand_pattern, walk_files
from onefs.tree.releases import Releases, ReleaseSource
from onefs.tree.rest_link import REST, RestLink
from onefs.tree.root_folder import RootFolder
from onefs.tree.search_cache import SearchCache
from onefs.tree.session_folder import SessionFolder
from onefs.tree.size_lookup import SizeLookup
from onefs.tree.unserved import refuse_unserved
from onefs.tree.user_folders import UserFolderLink, UserFolders
from onefs.tree.variant import FULL_TREE, Variant, split_variant

if TYPE_CHECKING:
    from onefs.qc import QC
    from onefs.search.queries import SessionQueries
    from onefs.tree.siblings import Siblings

#: seconds for which a folder is used without looking it up again. A file in it is used for as long
#: at most, and only while the catalogue has not changed
FOLDER_CACHE_SECONDS = 0.5
_MAX_CACHED_ENTRIES = 4096


class LaboratoryTree:
    """The tree of a laboratory's sessions and datasets (``onefs.tree.nodes.Tree``). Thread-safe.

    - ``catalogue``: lists the sessions and datasets
    - ``content``: opens the datasets
    - ``queries``: returns what searches for sessions; called with the first search
    - ``url``: the database's address, shown as an extended attribute of the root
    - ``deadline``: the longest wait for a size from a file server, in seconds
    - ``variant``: what the root shows: the full tree, the tree as of a day, or the flat tree
    - ``rest``: the folder with a target of the link ``.rest`` for each process; None for no link
    - ``user_folders``: the links to the folders that users' code writes to; None for no links
    - ``releases``: the releases of the database, for the folder ``.tags``; None for no such folder
    - ``is_release``: this is the tree of a release. ONE's tables, which are in the cache folder,
      list the whole database, so that they are not shown
    - ``worst_qc``: only datasets with this QC or a better one are shown; None shows all
    """

    def __init__(
        self,
        catalogue: Catalogue,
        content: Content,
        url: str,
        queries: Callable[[], SessionQueries],
        deadline: float = 10.0,
        variant: Variant = FULL_TREE,
        rest: Path | None = None,
        user_folders: UserFolders | None = None,
        releases: ReleaseSource | None = None,
        *,
        is_release: bool = False,
        worst_qc: QC | None = None,
    ) -> None:
        self._entry_cache = _EntryCache()
        #: the open datasets, and the paths at which the dataset has changed
        self.open_files = OpenFiles()
        # the link leads each process to its own folder in ``rest``, which is outside of the tree
        rest_link = RestLink(rest, catalogue.created) if rest is not None else None
        self._context = TreeContext(
            catalogue,
            content,
            LayoutCache(),
            SizeLookup(catalogue, content, deadline),
            self.open_files,
            url,
            SearchCache(queries),
            OneApiFolder(content.one_tables, self.open_files, rest_link, has_tables=not is_release),
            ListedSessions(),
            user_folders,
            Releases(releases, deadline) if releases is not None else None,
            variant,
            worst_qc=worst_qc,
        )

    def close(self) -> None:
        """Raise Stopping in all threads that wait for a size, a search or a user's folder."""
        self._context.sizes.close()
        self._context.searches.close()
        if self._context.releases is not None:
            self._context.releases.close()
        if self._context.user_folders is not None:
            self._context.user_folders.close()

    def drop_caches(self) -> None:
        """Drop the folders, search results and failures that are cached in memory. Never waits.

        The next operation looks them up again. Open files keep their content.
        """
        self._entry_cache = _EntryCache()
        self._context.searches.drop_results()
        self._context.sizes.clear_negative_cache()
        self._context.catalogue.reload_invalidations()

    def node(self, path: str) -> Node:
        return self._node_of(path, self._resolve(path))

    def children(self, path: str) -> list[tuple[str, Node]]:
        entry = self._resolve(path)
        if not isinstance(entry, Folder):
            raise UsageError(f"{path} is not a folder")
        children = entry.children()
        variant = self._variant_at(path)
        if variant.is_full_tree:
            return children
        return [(name, _with_variant_inode(variant, node)) for name, node in children]

    def entries(self, path: str) -> list[ListedEntry]:
        parent_path = path.rpartition("/")[0]
        cache = self._entry_cache  # before the parent, as in _resolve
        parent = self._resolve(parent_path or "/")
        if isinstance(parent, SessionFolder) and parent.context.variant.is_full_tree:
            return self._list_subfolder(path, parent_path, parent, cache)
        return self._list(path, self._resolve(path), parent_path, parent)

    def _list_subfolder(
        self, path: str, parent_path: str, parent: SessionFolder, cache: _EntryCache
    ) -> list[ListedEntry]:
        """Return the entries of a folder in a session's folder, and put it into ``cache``."""
        cached = cache.get(path, self._context.catalogue.changes)
        entry = cached or parent.subfolder(os.path.basename(path))
        entries = self._list(path, entry, parent_path, parent)
        # its subfolders are probably listed next. It is not cached for longer by each listing,
        # because then it would never be looked up again
        if cached is None:
            cache.put(path, entry, monotonic() + FOLDER_CACHE_SECONDS)
        return entries

    def _list(
        self, path: str, entry: TreeEntry, parent_path: str, parent: TreeEntry
    ) -> list[ListedEntry]:
        """Return the entries of the folder ``entry`` at ``path``, after those of itself."""
        if not isinstance(entry, Folder):
            raise UsageError(f"{path} is not a folder")
        variant = self._variant_at(path)
        if variant.is_full_tree:
            children = entry.entries()
        else:
            children = [
                listed_entry(child, _with_variant_inode(variant, node))
                for child, node in entry.children()
            ]
        own = listed_entry(".", self._node_of(path, entry))
        return [own, listed_entry("..", self._node_of(parent_path or "/", parent)), *children]

    def target(self, path: str, caller: int = 0, user: int | None = None) -> str:
        entry = self._resolve(path)
        if isinstance(entry, UserFolderLink):
            return entry.read_target(user)
        if isinstance(entry, RestLink):
            user_folders = self._context.user_folders
            if user_folders is not None and user is not None and user != os.getuid():
                # other users cannot open the folders of the mount's user
                return user_folders.link_target(REST, user)
            return entry.read_target(caller)
        if not isinstance(entry, SymbolicLink):
            raise UsageError(f"{path} is not a link")
        return entry.read_target()

    def open(self, path: str) -> tuple[Node, Handle]:
        entry = self._resolve(path)
        if not isinstance(entry, File):
            raise UsageError(f"{path} is not a file")
        return self._node_of(path, entry), entry.open()

    def xattrs(self, path: str) -> dict[str, str]:
        return {
            XATTR_PREFIX + name: printable(redact(value))
            for name, value in self._resolve(path).xattrs().items()
        }

    def session_at(self, path: str) -> Session:
        """Return the session whose folder is at ``path``, a path from the root of the tree.

        Raises NotFound if ``path`` is not the folder of a session. Raises an error such as
        Unreachable if a listing fails.
        """
        entry = self._resolve(path)
        if not isinstance(entry, SessionFolder) or entry.folders:
            raise NotFound(f"{path} is not the folder of a session")
        return entry.session

    def siblings(self, max_size: int) -> Siblings:
        """Return an object that fetches files ahead, up to ``max_size`` bytes each."""
        from onefs.tree.siblings import Siblings  # only daemons fetch ahead

        return Siblings(self._context, self._resolve, max_size)

    def find_datasets(self, pattern: str) -> Iterator[tuple[Dataset, Place]]:
        """Yield the datasets at and below all paths that match ``pattern``, each with its path.

        ``pattern`` is a path, a path with wildcards, or ``dataset:<uuid>``. Each dataset is yielded
        once. Its path is that in the full tree, and begins with the lab. Raises NotFound if no path
        matches. Raises an error such as Unreachable if a listing fails.
        """
        if pattern.startswith(DATASET_PREFIX):
            yield self._find_dataset_by_id(pattern.removeprefix(DATASET_PREFIX))
            return
        seen = set()
        for path in expand_pattern(self, pattern):
            for file_path in walk_files(self, path):
                entry = self._resolve(file_path)
                if isinstance(entry, DatasetFile) and entry.dataset.id not in seen:
                    seen.add(entry.dataset.id)
                    yield entry.dataset, entry.canonical_path

    def _find_dataset_by_id(self, dataset_id: str) -> tuple[Dataset, Place]:
        """Return the dataset with a UUID, and its path in the full tree.

        Raises NotFound if Alyx has no such dataset, or if it is on no server. Raises the error of a
        failed request to Alyx.
        """
        catalogue = self._context.catalogue
        eid = self._context.searches.queries.session_of_dataset(dataset_id)
        for dataset, place in self.find_datasets(f"{BY_EID}/{eid}"):
            if dataset.uuid == dataset_id:
                return dataset, place
        session = catalogue.session(eid)
        refuse_unserved(catalogue, session, lambda _, dataset: dataset.uuid == dataset_id)
        raise NotFound(f"dataset {dataset_id} of session {eid} has no file on a server")

    def space(self) -> tuple[int, int]:
        return self._context.content.disk_space()

    def _node_of(self, path: str, entry: TreeEntry) -> Node:
        """Return the node of the entry at ``path``, with the inode number of its variant."""
        node = entry.node()
        return node if path == "/" else _with_variant_inode(self._variant_at(path), node)

    def _variant_at(self, path: str) -> Variant:
        """Return which tree contains an existing path: the full tree, as of a day, or flat."""
        variant = self._context.variant
        if not path.startswith("/."):
            return variant
        return split_variant(variant.path_in_full_tree(path.lstrip("/")).split("/"))[0]

    def _resolve(self, path: str) -> TreeEntry:
        cache = self._entry_cache  # if caches are dropped during this call, the entry goes here
        # read first, so that a change during this call makes the cached entry outdated
        changes = self._context.catalogue.changes
        cached = cache.get(path, changes)
        if cached is not None:
            return cached
        parent_path, _, name = path.rpartition("/")
        if not name:
            return self._resolve(parent_path) if parent_path else RootFolder(self._context)
        parent = self._resolve(parent_path)
        if not isinstance(parent, Folder):
            raise NotFound(f"{parent_path} is not a folder")
        entry = parent.child(name)
        if isinstance(entry, LabFolder | SubjectFolder | SessionFolder):
            cache.put(path, entry, monotonic() + FOLDER_CACHE_SECONDS)
        elif isinstance(entry, DatasetFile):
            until = min(entry.unchanged_until, cache.valid_until(parent_path))
            cache.put(path, entry, until, changes)
        return entry


class _EntryCache:
    """Folders and files that were looked up less than half a second ago, by path. Thread-safe."""

    # A program that walks the tree looks up each name in a folder, and each look-up needs the
    # folder and all folders above it. A program that opens a file needs it twice: the kernel looks
    # up its name, and opens it.
    def __init__(self) -> None:
        #: for each path: until when the entry is used (``time.monotonic``), the number of the
        #: catalogue's changes for which it is used (None: for any number), and the entry
        self._entries: dict[str, tuple[float, int | None, TreeEntry]] = {}
        self._clear_at = 0.0

    def get(self, path: str, changes: int) -> TreeEntry | None:
        cached = self._entries.get(path)
        if cached is None:
            return None
        until, unchanged, entry = cached
        is_valid = (unchanged is None or unchanged == changes) and monotonic() < until
        return entry if is_valid else None

    def valid_until(self, path: str) -> float:
        """Return until when the entry at ``path`` is used; 0 if it is not cached."""
        cached = self._entries.get(path)
        return 0.0 if cached is None else cached[0]

    def put(self, path: str, entry: TreeEntry, until: float, changes: int | None = None) -> None:
        now = monotonic()
        # old entries would keep listings in memory
        if now > self._clear_at or len(self._entries) >= _MAX_CACHED_ENTRIES:
            self._clear_at = now + FOLDER_CACHE_SECONDS
            self._entries.clear()
        self._entries[path] = (until, changes, entry)


def _with_variant_inode(variant: Variant, node: Node) -> Node:
    """Return ``node`` (``stat`` values) with the inode number that it has in ``variant``."""
    # Each variant has other numbers, because two variants may show different bytes at one path, and
    # because ``diff -r`` does not compare folders with the same inode number.
    if variant.tag:
        node = replace(node, ino=inode_of_path("tag", variant.tag, str(node.ino)))
    if variant.day:
        node = replace(node, ino=inode_of_path("as of", variant.day, str(node.ino)))
    return replace(node, ino=inode_of_path("flat", str(node.ino))) if variant.flat else node

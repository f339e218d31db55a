"""``.tags``: the trees of releases. Each has a catalogue of its own, and the same files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from onefs.tree.context import TreeContext
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.search_cache import SearchCache
from onefs.tree.size_lookup import SizeLookup
from onefs.tree.variant import TAGS, Variant

if TYPE_CHECKING:
    from onefs.catalogue.catalogue import Catalogue
    from onefs.search.queries import SessionQueries


class Release(Protocol):
    """The parts of one release that a tree needs."""

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue of the release."""

    @property
    def queries(self) -> SessionQueries:
        """The searches in this catalogue."""


class ReleaseSource(Protocol):
    """The releases of a database whose tables are loaded. Thread-safe."""

    def tags(self) -> Sequence[str]:
        """Return the names of the releases."""

    def open(self, tag: str) -> Release:
        """Return a release. Raises NotFound if it is not loaded."""

    def close(self) -> None:
        """Close the catalogues."""


class Releases:
    """The trees of the releases of one database. Thread-safe.

    ``deadline`` is the longest wait for a size from a file server, in seconds.
    """

    def __init__(self, source: ReleaseSource, deadline: float) -> None:
        self._source = source
        self._deadline = deadline
        self._lock = Lock()
        self._contexts: dict[str, TreeContext] = {}

    def tags(self) -> Sequence[str]:
        """Return the names of the loaded releases."""
        return self._source.tags()

    def context_of(self, whole: TreeContext, tag: str) -> TreeContext:
        """Return the context of a release's tree, below the tree ``whole``.

        Raises NotFound if the release is not loaded.
        """
        release = self._source.open(tag)
        with self._lock:
            if tag not in self._contexts:
                self._contexts[tag] = replace(
                    whole,
                    catalogue=release.catalogue,
                    layouts=LayoutCache(),
                    sizes=SizeLookup(release.catalogue, whole.content, self._deadline),
                    searches=SearchCache(lambda: release.queries),
                    user_folders=None,
                    releases=None,
                    variant=Variant(tag=tag),
                    path_prefix=(TAGS, tag),
                )
            return self._contexts[tag]

    def close(self) -> None:
        """Raise Stopping in all threads that wait for a size or a search in a release."""
        with self._lock:
            contexts = list(self._contexts.values())
        for context in contexts:
            context.sizes.close()
            context.searches.close()
        self._source.close()

"""The laboratories that one ``ONE`` object reads: the whole database, or a release of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onefs.access import Access

if TYPE_CHECKING:
    from onefs.lowlevel.lazy import Lazy
    from onefs.one.laboratory import Laboratory
    from onefs.one.loader import Loader
    from onefs.one.resolver import SessionResolver


class Parts(NamedTuple):
    """An opened laboratory, with what names its sessions and loads its files."""

    laboratory: Laboratory
    resolver: Lazy[SessionResolver]
    loader: Lazy[Loader]

    def interrupt(self) -> None:
        """End the requests in progress. Later requests use new connections."""
        self.laboratory.interrupt()
        # in this order, because another thread may make a loader meanwhile, from the resolver
        self.resolver.reset()
        self.loader.reset()


class View(NamedTuple):
    """The laboratories that a ``ONE`` object reads. To change one, the whole view is replaced.

    ``shown`` has the sessions and datasets that are listed and loaded: those of a release, or of
    the whole database.
    """

    shown: Parts
    whole: Parts
    is_offline: bool
    #: the name of the release that is shown, or None
    tag: str | None = None

    @property
    def searched(self) -> Parts:
        """What searches ask: the whole database if it has an Alyx that may be asked."""
        whole = self.whole.laboratory
        if self.is_offline or not isinstance(whole, Access) or not whole.without_alyx.has_alyx:
            return self.shown
        return self.whole

    def interrupt(self) -> None:
        """End the requests in progress. Later requests use new connections."""
        self.shown.interrupt()
        if self.whole is not self.shown:
            self.whole.interrupt()

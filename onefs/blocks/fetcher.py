"""Fetcher: carries out block requests. The fetcher locks the blocks of a request, reserves disk
space, and fetches the blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable

from onefs.blocks.claimed_blocks import BlocksArrived, ClaimedBlocks
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.request_fetch import RequestFetch
from onefs.blocks.requests import BlockRequest
from onefs.blocks.scheduler import Scheduler
from onefs.cache.files import disk_errors
from onefs.cache.reservations import DiskSpace
from onefs.cache.store import Store
from onefs.download.hosts import Hosts
from onefs.download.sources.interface import RemoteFileChanged

log = logging.getLogger(__name__)


class Fetcher:
    """Carries out block requests. Thread-safe.

    - ``stall``: seconds within which each block must arrive
    - ``reject``: marks a file as bad, if the responses contradict the database
    - ``drop``: removes the blocks of a file that has changed on the server

    ``reject`` and ``drop`` get the partial file and the reason.
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        space: DiskSpace,
        stall: float,
        reject: Callable[[PartialFile, str], None],
        drop: Callable[[PartialFile, str], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._space = space
        self._stall = stall
        self._reject = reject
        self._drop = drop

    def fetch(self, request: BlockRequest, scheduler: Scheduler, arrived: BlocksArrived) -> None:
        """Fetch the blocks of a request, except blocks that another process is fetching.

        Raises the error that ended the request early.
        """
        with disk_errors(self._store.root):
            first, last = request.partial.claim(request.first, request.last)
            scheduler.narrow(request, first, last)
            if first == last:
                return
            self._store.note_fetch(request.partial.dataset)
            claimed = set(range(first, last))
            try:
                self._fetch_reserved(request, scheduler, arrived, claimed)
            finally:
                request.partial.release_claims(claimed)

    def _fetch_reserved(
        self,
        request: BlockRequest,
        scheduler: Scheduler,
        arrived: BlocksArrived,
        claimed: set[int],
    ) -> None:
        block_size = request.partial.block_file.header.block_size
        size, least = len(claimed) * block_size, block_size if request.urgent else 0
        with self._space.reservation(size, least) as reservation:
            # read-ahead gets no space. A reader that waits for the blocks sends an urgent request
            if not reservation.granted_bytes:
                return
            if reservation.granted_bytes < size:
                request.partial.release_claims(block for block in claimed if block != request.first)
                claimed.intersection_update({request.first})
                scheduler.narrow(request, request.first, request.first + 1)
            claims = ClaimedBlocks(request, scheduler, arrived, claimed, reservation)
            try:
                RequestFetch(self._store, self._hosts, self._stall, self._reject, claims).run()
            except RemoteFileChanged as error:
                self._drop(request.partial, "has changed on the server")
                log.warning(
                    "the file %s is fetched again from its beginning, because of an error: %s",
                    "/".join(request.partial.place),
                    error,
                )
                raise
            finally:
                claims.punch_incomplete()

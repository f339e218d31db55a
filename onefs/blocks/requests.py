"""The blocks that readers of a partial file wait for, and the requests for these blocks.

All objects of this module are guarded by the scheduler's lock.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from onefs.blocks.readahead import Readahead
from onefs.download.server_names import server_of
from onefs.download.sources.interface import Body
from onefs.errors import OnefsError, Stopping

if TYPE_CHECKING:
    from onefs.blocks.partial_file import PartialFile


@dataclass(eq=False)
class Ticket:
    """One reader that waits for the blocks from ``first`` to ``last``, ``last`` excluded."""

    first: int
    last: int
    #: the error that ended the request for the blocks
    error: OnefsError | None = None


@dataclass
class Demand:
    """The blocks of one partial file that readers wait for, and the blocks that are requested."""

    #: a condition on the scheduler's lock. It is notified when waiting readers should check the
    #: file
    condition: threading.Condition
    tickets: set[Ticket] = field(default_factory=set)
    #: the read-ahead of each open handle
    readaheads: set[Readahead] = field(default_factory=set)
    #: the request for each block that is requested
    in_flight: dict[int, BlockRequest] = field(default_factory=dict)
    #: blocks that another process is fetching, and when to check them again (monotonic seconds)
    fetched_elsewhere: dict[int, float] = field(default_factory=dict)
    #: the last error, and the time until which readers get this error without a new request
    #: (monotonic seconds)
    last_failure: tuple[OnefsError, float] | None = None
    #: True if the server does not support ranges. Then requests run one at a time, and each
    #: response starts at the beginning of the file
    without_ranges: bool = False
    #: increases with each change that a reader may wait for
    change_count: int = 0

    def wanted_ranges(self) -> list[tuple[int, int]]:
        """Return the block ranges that readers wait for, or that are to be read ahead.

        Each range is its first block and the block after its last block.
        """
        ranges = [(ticket.first, ticket.last) for ticket in self.tickets]
        for readahead in self.readaheads:
            ranges += readahead.wanted_ranges()
        return ranges

    def notify_waiters(self) -> None:
        """Wake all waiting readers."""
        self.change_count += 1
        self.condition.notify_all()


@dataclass(eq=False)
class BlockRequest:
    """A request for adjacent blocks of one file: from ``first`` to ``last``, ``last`` excluded."""

    partial: PartialFile
    first: int
    last: int
    #: the URL of the replica that is tried first. The limits on connections count this URL's server
    url: str
    #: True if a reader waits for one of the blocks
    urgent: bool
    running: bool = False
    #: when the request was started, or when its last block arrived (monotonic seconds)
    last_progress_at: float = field(default_factory=time.monotonic)
    #: set when no reader wants the blocks any more, or when onefs is being stopped
    cancel_event: threading.Event = field(default_factory=threading.Event)
    body: Body | None = None
    #: the last error of the request, while the request is being retried
    last_error: OnefsError | None = None

    @cached_property
    def server(self) -> str:
        """Return the server of ``url``: its host, or ``S3`` for all buckets."""
        return server_of(self.url)

    def attach_body(self, body: Body) -> None:
        """Store the body that :meth:`cancel` aborts. Raises Stopping if the request was
        cancelled."""
        self.body = body
        self.raise_if_cancelled()

    def raise_if_cancelled(self) -> None:
        """Raise Stopping if the request was cancelled."""
        if self.cancel_event.is_set():
            raise Stopping(f"the download of {self.partial.dataset.name} was cancelled")

    def cancel(self) -> None:
        """Set ``cancel_event``, and abort the body if there is a body, so that the request
        ends."""
        self.cancel_event.set()
        if self.body is not None:
            self.body.abort()

    def pending_blocks(self) -> list[int]:
        """Return the blocks of this request that have not arrived yet."""
        in_flight = self.partial.demand.in_flight
        return [block for block in range(self.first, self.last) if in_flight.get(block) is self]

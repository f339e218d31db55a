"""What readers ask of a partial file, and the requests to file servers that result from it.

All objects here are guarded by the scheduler's lock.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from onefs.blocks.readahead import ReadaheadWindow
from onefs.config.urls import host_of
from onefs.errors import OnefsError, Stopping
from onefs.http import Stream

if TYPE_CHECKING:
    from onefs.blocks.partial_file import PartialFile


@dataclass(eq=False)
class Ticket:
    """One reader that waits for the blocks from ``first`` to ``last``, ``last`` excluded."""

    first: int
    last: int
    #: why the blocks will not arrive
    error: OnefsError | None = None


@dataclass
class Demand:
    """The blocks of one partial file that readers wait for, and those in flight."""

    #: on the scheduler's lock; notified when a waiting reader should look again
    condition: threading.Condition
    tickets: set[Ticket] = field(default_factory=set)
    windows: set[ReadaheadWindow] = field(default_factory=set)
    #: the request of each block that has one
    in_flight: dict[int, BlockRequest] = field(default_factory=dict)
    #: blocks that another process is fetching, and when to look for them again (monotonic seconds)
    fetched_elsewhere: dict[int, float] = field(default_factory=dict)
    #: the last error, and until when readers get it without a new request (monotonic seconds)
    last_failure: tuple[OnefsError, float] | None = None
    #: the server does not support ranges: one request at a time, from the beginning of the file
    without_ranges: bool = False
    #: grows whenever something changes that a reader may wait for
    change_count: int = 0

    def notify_waiters(self) -> None:
        """Wake all waiting readers."""
        self.change_count += 1
        self.condition.notify_all()


@dataclass(eq=False)
class BlockRequest:
    """Adjacent blocks of one file that are requested together, ``last`` excluded."""

    partial: PartialFile
    first: int
    last: int
    #: the replica that is tried first; its server's connections are counted
    url: str
    #: a reader waits for one of the blocks
    urgent: bool
    running: bool = False
    #: when it was started, or its last block arrived (monotonic seconds)
    last_progress_at: float = field(default_factory=time.monotonic)
    #: set when no reader wants the blocks any more, or onefs is being stopped
    cancel_event: threading.Event = field(default_factory=threading.Event)
    stream: Stream | None = None
    #: the last error, while the request is being retried
    last_error: OnefsError | None = None

    @cached_property
    def host(self) -> str:
        """The host of ``url``."""
        return host_of(self.url)

    def attach_stream(self, stream: Stream) -> None:
        """Note the stream that :meth:`cancel` aborts. Raises Stopping if it was cancelled."""
        self.stream = stream
        self.raise_if_cancelled()

    def raise_if_cancelled(self) -> None:
        """Raise Stopping if the request was cancelled."""
        if self.cancel_event.is_set():
            raise Stopping(f"{self.partial.dataset.name} is not wanted any more")

    def cancel(self) -> None:
        """End the request, wherever it is."""
        self.cancel_event.set()
        if self.stream is not None:
            self.stream.abort()

    def pending_blocks(self) -> list[int]:
        """The blocks that have not arrived yet."""
        in_flight = self.partial.demand.in_flight
        return [block for block in range(self.first, self.last) if in_flight.get(block) is self]

"""What comes of asking the copies of one dataset: which of them may still be the good one.

A copy that is wrong is no verdict on the dataset while another is *unheard*: its server is silent,
away for a moment, or asks to wait.
"""

from __future__ import annotations

from collections.abc import Iterable

from onefs.download.hosts import Hosts, no_replica_error
from onefs.download.responses import WrongSize
from onefs.errors import (
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.http import retry_delay
from onefs.model import Dataset, Replica

#: rounds through all copies without a single byte; with the pauses between them, 20 seconds
MAX_ROUNDS = 8
#: the troubles of one copy, after which another may do
REPLICA_ERRORS = (
    Unreachable,
    DeadlineExceeded,
    ServerError,
    DataServerCredentials,
    Throttled,
    WrongSize,
)
#: statuses of a file that is not there, and will not come back by itself
_GONE_STATUSES = (404, 410)


class Replicas:
    """One download's view of them. For one thread."""

    def __init__(self, hosts: Hosts, dataset: Dataset) -> None:
        self._hosts = hosts
        self._dataset = dataset
        self._tried: set[str] = set()
        self._unanswered: dict[str, OnefsError] = {}
        #: URLs of those that are not there, or are another file by now
        self.gone_urls: set[str] = set()
        #: the last that went wrong with any
        self.last_error: OnefsError | None = None
        #: what was wrong with copies that are not what the database says, by URL
        self.mismatches: dict[str, str] = {}

    def next_untried(self, copies: Iterable[Replica]) -> list[Replica]:
        """Those that were not asked yet, in the order to ask them.

        Raises Throttled or Silent when there are some, and none of them can be asked.
        """
        fresh = [copy for copy in copies if copy.url not in self._tried]
        found = self._hosts.order_replicas(fresh)
        for copy in fresh:
            if copy not in found:
                why = f"{self._dataset.name}: not all its copies can be asked"
                self._unanswered[copy.url] = ServerError(why)
        self._tried.update(copy.url for copy in found)
        return found

    def note_response(self, copy: Replica) -> None:
        """A copy was had, whatever it is worth."""
        self._unanswered.pop(copy.url, None)

    def note_mismatch(self, copy: Replica, reason: str) -> None:
        """A copy was had, and is not what the database says."""
        self.note_response(copy)
        self.mismatches[copy.url] = reason

    def note_failure(self, copy: Replica, error: OnefsError, attempt: int) -> float | None:
        """Note what went wrong; the seconds after which to try again, None when that is useless.

        A wait that nobody waits for is useless: who asked has given up by then.
        """
        self.last_error = error
        self._hosts.note_failure(copy.url, error)
        if isinstance(error, DeadlineExceeded):
            self._hosts.note_timeout(copy.url)
        elif isinstance(error, Throttled):
            self._hosts.note_throttled(copy.url, error.retry_after)
        elif isinstance(error, WrongSize):
            self.mismatches[copy.url] = str(error)
        if isinstance(error, WrongSize) or _is_gone(error):
            self.gone_urls.add(copy.url)
        if _is_transient(error):
            self._unanswered[copy.url] = error
        else:
            self.note_response(copy)
        delay = retry_delay(error, attempt, attempts=MAX_ROUNDS)
        return None if delay is None or self._hosts.is_longer_than_stall(delay) else delay

    def evidence(self) -> str:
        """What was wrong with the copies, in words that are the same whoever is asked first."""
        return "; ".join(sorted({*self.mismatches.values()}))

    def final_error(self) -> OnefsError:
        """What it comes to when none could be had."""
        return self.last_error or self.unanswered_error or no_replica_error(self._dataset)

    @property
    def unanswered_error(self) -> OnefsError | None:
        """What stands between us and a copy that may be the good one."""
        return next(iter(self._unanswered.values()), None)


def _is_gone(error: OnefsError) -> bool:
    return isinstance(error, ServerError) and error.status in _GONE_STATUSES


def _is_transient(error: OnefsError) -> bool:
    return isinstance(error, DeadlineExceeded) or retry_delay(error, 1) is not None

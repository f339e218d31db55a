"""The replicas of one dataset during one download: tried, failed, wrong, or not answered yet.

A wrong replica does not make the dataset bad while another one is *unanswered*: its server does not
answer, is unavailable for a moment, or asks to wait.
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

#: rounds through all replicas without a byte; with the pauses between them, 20 seconds
MAX_ROUNDS = 8
#: errors of one replica, after which another is tried
REPLICA_ERRORS = (
    Unreachable,
    DeadlineExceeded,
    ServerError,
    DataServerCredentials,
    Throttled,
    WrongSize,
)
#: statuses of a file that does not exist, which a retry does not change
_GONE_STATUSES = (404, 410)


class Replicas:
    """The replicas of one dataset, as one download knows them. For one thread."""

    def __init__(self, hosts: Hosts, dataset: Dataset) -> None:
        self._hosts = hosts
        self._dataset = dataset
        self._tried: set[str] = set()
        self._unanswered: dict[str, OnefsError] = {}
        #: URLs of replicas that do not exist, or are another file now
        self.gone_urls: set[str] = set()
        #: the last error of any replica
        self.last_error: OnefsError | None = None
        #: why replicas contradict the database, by URL
        self.mismatches: dict[str, str] = {}

    def next_untried(self, replicas: Iterable[Replica]) -> list[Replica]:
        """Those of ``replicas`` that were not tried yet, in the order to try them.

        Raises Throttled or CircuitOpen when there are some, and none can be requested now.
        """
        untried = [replica for replica in replicas if replica.url not in self._tried]
        usable = self._hosts.order_replicas(untried)
        for replica in untried:
            if replica not in usable:
                reason = f"{self._dataset.name}: not all its replicas can be requested now"
                self._unanswered[replica.url] = ServerError(reason)
        self._tried.update(replica.url for replica in usable)
        return usable

    def note_mismatch(self, replica: Replica, reason: str) -> None:
        """Note that a replica answered, and contradicts the database."""
        self._unanswered.pop(replica.url, None)
        self.mismatches[replica.url] = reason

    def note_failure(self, replica: Replica, error: OnefsError, attempt: int) -> float | None:
        """Note an error of attempt number ``attempt`` (from 1); the seconds until the next one.

        None when a retry is useless, also because readers would have given up by then.
        """
        self.last_error = error
        self._hosts.note_failure(replica.url, error)
        if isinstance(error, DeadlineExceeded):
            self._hosts.note_timeout(replica.url)
        elif isinstance(error, Throttled):
            self._hosts.note_throttled(replica.url, error.retry_after)
        elif isinstance(error, WrongSize):
            self.mismatches[replica.url] = str(error)
        is_gone = isinstance(error, ServerError) and error.status in _GONE_STATUSES
        if is_gone or isinstance(error, WrongSize):
            self.gone_urls.add(replica.url)
        if isinstance(error, DeadlineExceeded) or retry_delay(error, 1) is not None:
            self._unanswered[replica.url] = error
        else:
            self._unanswered.pop(replica.url, None)
        delay = retry_delay(error, attempt, attempts=MAX_ROUNDS)
        return None if delay is None or self._hosts.is_longer_than_stall(delay) else delay

    def evidence(self) -> str:
        """Why the replicas contradict the database, in the same words for any order of replicas."""
        return "; ".join(sorted({*self.mismatches.values()}))

    def final_error(self) -> OnefsError:
        """The error of a download for which no replica could be fetched."""
        return self.last_error or self.unanswered_error or no_replica_error(self._dataset)

    @property
    def unanswered_error(self) -> OnefsError | None:
        """Why a replica that may be right could not be fetched; None when there is none."""
        return next(iter(self._unanswered.values()), None)

"""Records which replicas of a dataset were tried, failed or were wrong during one download.

A replica is *wrong* if its server sends a file that contradicts the database. A replica is
*unanswered* if its server does not answer, asks for a pause, or is unavailable for a moment. While
any replica is unanswered, the dataset is not rejected, because this replica may be right.
"""

from __future__ import annotations

from collections.abc import Iterable

from onefs.download.hosts import GONE_STATUSES, Hosts, no_replica_error
from onefs.download.sources.interface import BucketUnknown, WrongSize
from onefs.errors import (
    DataServerCredentials,
    DeadlineExceeded,
    MissingLibrary,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    copy_error,
)
from onefs.http import retry_delay
from onefs.model import Dataset, Replica

#: largest number of rounds in which all replicas are tried; the pauses between the rounds take
#: about 20 seconds in all
MAX_ROUNDS = 8
#: errors of one replica after which another replica is tried
REPLICA_ERRORS = (
    Unreachable,
    DeadlineExceeded,
    ServerError,
    DataServerCredentials,
    Throttled,
    WrongSize,
    MissingLibrary,
)


class Replicas:
    """What happened to each replica of one dataset during one download. Not thread-safe."""

    def __init__(self, hosts: Hosts, dataset: Dataset) -> None:
        self._hosts = hosts
        self._dataset = dataset
        self._tried: set[str] = set()
        self._unanswered: dict[str, OnefsError] = {}
        #: URLs of replicas that do not exist, or whose size differs from the size in the database
        self.gone_urls: set[str] = set()
        #: by URL: the most recent error of each replica; the last item is the most recent of all
        self._errors: dict[str, OnefsError] = {}
        #: by URL: the reason why the replica contradicts the database
        self.mismatches: dict[str, str] = {}

    def next_untried(self, replicas: Iterable[Replica]) -> list[Replica]:
        """Return the replicas that were not tried yet, in the order in which to try them.

        From now on, these replicas count as tried. The list is empty if all replicas were tried.
        Raises Throttled or CircuitOpen if no untried replica can be requested now.
        """
        untried = [replica for replica in replicas if replica.url not in self._tried]
        usable = self._hosts.order_replicas(untried)
        for replica in untried:
            if replica not in usable:
                reason = f"{self._dataset.name}: some file servers of this file cannot be asked now"
                # a replica that cannot be requested now may still be right
                self._unanswered[replica.url] = ServerError(reason)
        self._tried.update(replica.url for replica in usable)
        return usable

    def note_mismatch(self, replica: Replica, reason: str) -> None:
        """Record that ``replica`` is wrong: its file contradicts the database."""
        self._unanswered.pop(replica.url, None)
        self.mismatches[replica.url] = reason

    def note_failure(self, replica: Replica, error: OnefsError, attempt: int) -> float | None:
        """Record that attempt number ``attempt`` (from 1) for ``replica`` raised ``error``.

        Return the seconds to wait before the next attempt. Return None if a retry is useless or
        would come too late for readers.
        """
        self._errors.pop(replica.url, None)
        self._errors[replica.url] = error
        self._hosts.note_failure(replica.url, error)
        if isinstance(error, DeadlineExceeded):
            self._hosts.note_timeout(replica.url)
        elif isinstance(error, Throttled):
            self._hosts.note_throttled(replica.url, error.retry_after)
        elif isinstance(error, WrongSize):
            self.mismatches[replica.url] = str(error)
        is_gone = isinstance(error, ServerError) and error.status in GONE_STATUSES
        if is_gone or isinstance(error, WrongSize):
            self.gone_urls.add(replica.url)
        is_unknown = isinstance(error, DeadlineExceeded | BucketUnknown)
        if is_unknown or retry_delay(error, 1) is not None:
            self._unanswered[replica.url] = error
        else:
            self._unanswered.pop(replica.url, None)
        delay = retry_delay(error, attempt, attempts=MAX_ROUNDS)
        return None if delay is None or self._hosts.is_longer_than_stall(delay) else delay

    def evidence(self) -> str:
        """Return the reasons why replicas contradict the database, as one text.

        The text is the same for any order in which the replicas were tried.
        """
        return "; ".join(sorted({*self.mismatches.values()}))

    def final_error(self) -> OnefsError:
        """Return the error to raise after a download in which no replica could be fetched.

        This is the most recent error among all replicas, and its text names the errors of all. If
        no replica was requested, the error says why not.
        """
        if not self._errors:
            return self.unanswered_error or no_replica_error(self._dataset)
        texts = dict.fromkeys(map(str, self._errors.values()))
        error = copy_error(list(self._errors.values())[-1])
        error.args = ("; ".join(texts),)
        return error

    @property
    def unanswered_error(self) -> OnefsError | None:
        """The error of the first unanswered replica, or None if no replica is unanswered.

        A replica is unanswered if its server did not answer, asked for a pause, or was unavailable.
        """
        return next(iter(self._unanswered.values()), None)

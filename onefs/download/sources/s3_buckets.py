"""Finds the buckets of Alyx's repositories, with one request for each repository."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from onefs.config.bucket import Bucket
from onefs.download.sources.interface import BucketUnknown, KeysRefused, NoBucket
from onefs.errors import Busy, NotFound, OnefsError, Stopping, reason_of
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import SingleFlight, result_of, wait_until_done

#: seconds after which the bucket of a repository, and its keys, are requested again
BUCKET_TTL_SECONDS = 3600.0
#: seconds after which a known bucket is requested again if Alyx has failed
RENEWAL_RETRY_SECONDS = 60.0
#: seconds after which an unknown bucket is requested again, and that its readers wait at most
FAILURE_TTL_SECONDS = 5.0
MAX_WAIT_SECONDS = 60.0
#: most requests to Alyx at the same time
_MAX_REQUESTS = 4


@dataclass
class _Known:
    """A bucket that Alyx has named. The times are those of ``time.monotonic``."""

    bucket: Bucket
    requested_at: float
    #: when the bucket is requested again
    due: float
    #: whether the bucket has refused its keys, so that readers wait for the next request
    is_refused: bool = False


class Buckets:
    """The buckets of repositories. Thread-safe.

    ``find`` asks Alyx for the bucket of the repository with this name. It raises NotFound if the
    repository has no bucket.
    """

    def __init__(self, find: Callable[[str], Bucket]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._single_flight: SingleFlight[Bucket] = SingleFlight("onefs-bucket", _MAX_REQUESTS)
        self._failures: NegativeCache[str] = NegativeCache(256, lambda error: FAILURE_TTL_SECONDS)

    def bucket_of(self, repository: str, seconds: float = MAX_WAIT_SECONDS) -> Bucket:
        """Return the bucket of a repository.

        All callers share one request, also for an hour after its answer; then the bucket is
        requested again in the background. Raises NoBucket if the repository has no bucket,
        KeysRefused if Alyx refuses the login, and BucketUnknown if Alyx fails, or does not answer
        in ``seconds``.
        """
        known = self._known.get(repository)
        if known is not None and time.monotonic() < known.due:
            return known.bucket
        if known is None:
            self._failures.raise_failure(repository)
        try:
            future = self._single_flight.start(repository, partial(self._request, repository))
        except Busy as error:  # no thread can be started
            if known is None:
                raise _as_replica_error(error, repository) from error
            return known.bucket
        if known is not None and not known.is_refused:
            return known.bucket
        if wait_until_done(future, min(seconds, MAX_WAIT_SECONDS)):
            return result_of(future)
        if known is not None:
            return known.bucket
        raise BucketUnknown(f"Alyx does not say which bucket the repository {repository} has")

    def renew(self, repository: str, min_seconds: float) -> None:
        """Request a bucket that refuses its keys again at the next call.

        Do nothing if it was requested less than ``min_seconds`` ago.
        """
        with self._lock:
            known, now = self._known.get(repository), time.monotonic()
            if known is not None and now >= known.requested_at + min_seconds:
                known.due, known.is_refused = now, True

    def _request(self, repository: str) -> Bucket:
        known = self._known.get(repository)
        if known is not None and time.monotonic() < known.due:  # another thread was faster
            return known.bucket
        if known is None:
            self._failures.raise_failure(repository)
        now = time.monotonic()
        try:
            bucket = self._find(repository)
        except Stopping:
            raise
        except (OnefsError, ValueError) as error:
            return self._after_failure(repository, _as_replica_error(error, repository))
        with self._lock:
            self._known[repository] = _Known(bucket, now, now + BUCKET_TTL_SECONDS)
        return bucket

    def _after_failure(self, repository: str, failure: OnefsError) -> Bucket:
        """Return the bucket that is known, if Alyx has not said anything else about it.

        Otherwise raise ``failure``.
        """
        with self._lock:
            known, now = self._known.get(repository), time.monotonic()
            if known is not None and isinstance(failure, BucketUnknown):
                self._known[repository] = _Known(known.bucket, now, now + RENEWAL_RETRY_SECONDS)
                return known.bucket
            self._known.pop(repository, None)
        self._failures.add(repository, failure)
        raise failure


def _as_replica_error(error: Exception, repository: str) -> OnefsError:
    """Return the error of a replica for an error of Alyx, so that other replicas are tried.

    It says nothing of S3: neither that S3 does not answer, nor that S3 asks to wait.
    """
    if isinstance(error, NotFound):
        return NoBucket(str(error), 404)
    if isinstance(error, PermissionError):
        return KeysRefused(str(error))
    says = f"Alyx does not say which bucket the repository {repository} has: {reason_of(error)}"
    return BucketUnknown(says) if isinstance(error, OnefsError) else NoBucket(says, 400)

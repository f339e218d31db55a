"""Finds the buckets of Alyx's repositories, with one request for each repository."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from onefs.config.bucket import Bucket
from onefs.download.sources.interface import KeysRefused, NoBucket
from onefs.errors import NotFound, OnefsError, ServerError
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import result_of, wait_until_done

#: seconds after which the bucket of a repository, and its keys, are requested again
BUCKET_TTL_SECONDS = 3600.0
#: seconds after which a request that failed is sent again, and after which it counts as failed
FAILURE_TTL_SECONDS = 5.0
MAX_WAIT_SECONDS = 60.0


class Buckets:
    """The buckets of repositories. Thread-safe.

    ``find`` asks Alyx for the bucket of the repository with this name. It raises NotFound if the
    repository has no bucket.
    """

    def __init__(self, find: Callable[[str], Bucket]) -> None:
        self._find = find
        self._lock = threading.Lock()
        #: by repository: the request for its bucket, and when it was sent (``time.monotonic``)
        self._requests: dict[str, tuple[Future[Bucket], float]] = {}
        self._failures: NegativeCache[str] = NegativeCache(256, lambda error: FAILURE_TTL_SECONDS)

    def bucket_of(self, repository: str) -> Bucket:
        """Return the bucket of a repository.

        All callers share one request, also for an hour after its answer. Raises ServerError if the
        repository has no bucket, DataServerCredentials if Alyx refuses the login, and the errors of
        requests.
        """
        self._failures.raise_failure(repository)
        now = time.monotonic()
        with self._lock:
            future, sent_at = self._requests.get(repository, (None, 0.0))
            is_first = future is None or now > sent_at + BUCKET_TTL_SECONDS
            if future is None or is_first:
                future = Future()
                self._requests[repository] = future, now
        if is_first:
            self._send(repository, future)
        if not wait_until_done(future, MAX_WAIT_SECONDS):
            raise ServerError(f"Alyx does not say which bucket the repository {repository} has")
        return result_of(future)

    def forget(self, repository: str, min_seconds: float = 0.0) -> None:
        """Request the bucket again at the next call.

        Do nothing if it was requested less than ``min_seconds`` ago.
        """
        with self._lock:
            _, sent_at = self._requests.get(repository, (None, 0.0))
            if time.monotonic() >= sent_at + min_seconds:
                self._requests.pop(repository, None)

    def _send(self, repository: str, future: Future[Bucket]) -> None:
        try:
            future.set_result(self._find(repository))
        except BaseException as error:
            self.forget(repository)
            failure = _as_file_server_error(error)
            if isinstance(failure, OnefsError):
                self._failures.add(repository, failure)
            future.set_exception(failure)


def _as_file_server_error(error: BaseException) -> BaseException:
    """Return the error of a replica for an error of Alyx, so that other replicas are tried."""
    if isinstance(error, NotFound):
        return NoBucket(str(error), 404)
    if isinstance(error, PermissionError):
        return KeysRefused(str(error))
    return error

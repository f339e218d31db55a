"""S3 buckets as a source: ``s3://BUCKET/KEY``, and ``alyx-s3://REPOSITORY/KEY``.

The second form is used for a repository of Alyx whose bucket and keys are requested from Alyx at
its first use. So neither the catalogue nor a record of the cache has a key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from urllib.parse import unquote

from onefs.config.bucket import Bucket, is_bucket_name
from onefs.config.urls import safe_url
from onefs.download.sources.http import HttpBody
from onefs.download.sources.http_answer import range_headers
from onefs.download.sources.interface import (
    CONNECT_TIMEOUT_SECONDS,
    Body,
    ByteRequest,
    KeysRefused,
)
from onefs.download.sources.s3_buckets import Buckets
from onefs.download.sources.s3_client import S3Client
from onefs.errors import DataServerCredentials, ServerError, Throttled
from onefs.http import Stream

#: seconds after which keys that a bucket refuses are requested from Alyx again
KEYS_RECHECK_SECONDS = 60.0


class S3Source:
    """Buckets that are asked over ``client``. Implements :class:`Source`.

    ``buckets`` finds the bucket of an ``alyx-s3://`` URL. ``known`` has the buckets of ``s3://``
    URLs of which more than the name is known.
    """

    def __init__(self, client: S3Client, buckets: Buckets, known: Iterable[Bucket] = ()) -> None:
        self._client = client
        self._buckets = buckets
        self._known = {each.name: each for each in known}

    def open(self, request: ByteRequest) -> Body:
        """Return the body of the answer to ``request``."""
        return HttpBody(lambda: self._send(request, CONNECT_TIMEOUT_SECONDS), request)

    def probe(self, url: str, seconds: float) -> None:
        """Request one byte of ``url``. Raises an OnefsError if S3 does not answer.

        Also raises one if S3 was not asked, because the bucket or the keys are unknown.
        """
        is_answered = threading.Event()
        try:
            self._send(ByteRequest(url, seconds, 0, 1), seconds, is_answered.set).__exit__()
        except (DataServerCredentials, ServerError, Throttled):
            if not is_answered.is_set():
                raise  # else it is an answer that refuses

    def _send(
        self,
        request: ByteRequest,
        connect_timeout: float,
        on_answer: Callable[[], object] = lambda: None,
    ) -> Stream:
        bucket, key = self._resolve(request.url, request.stall)
        try:
            return self._client.get(
                bucket,
                key,
                request.stall,
                headers=range_headers(request),
                connect_timeout=connect_timeout,
                on_answer=on_answer,
            )
        except KeysRefused:
            if bucket.access_key:  # the keys in Alyx may have been replaced
                self._buckets.renew(_name_of(request.url), KEYS_RECHECK_SECONDS)
            raise

    def _resolve(self, url: str, seconds: float) -> tuple[Bucket, str]:
        """Return the bucket and the key of a URL. Wait at most ``seconds`` for Alyx.

        Raises ServerError for an invalid URL, and the errors of :meth:`Buckets.bucket_of`.
        """
        name, path = _name_of(url), url.partition("://")[2].partition("/")[2]
        is_repository = url.lower().startswith("alyx-")
        if not path or not (name if is_repository else is_bucket_name(name)):
            raise ServerError(f"{safe_url(url)} names no bucket and key", 400)
        if is_repository:
            bucket = self._buckets.bucket_of(name, seconds)
        else:
            bucket = self._known.get(name) or Bucket(name)
        return bucket, unquote(path, errors="surrogateescape")


def _name_of(url: str) -> str:
    """Return the bucket or the repository in a URL."""
    return unquote(url.partition("://")[2].partition("/")[0])

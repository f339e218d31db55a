"""Fetches the first bytes or the size of a dataset without the rest of the file."""

from __future__ import annotations

from onefs.cache.verify import new_hash
from onefs.download.hosts import no_replica_error
from onefs.download.sources.interface import ByteRequest, Source
from onefs.errors import OnefsError, ServerError
from onefs.model import Dataset

#: seconds to wait for the next byte
STALL_SECONDS = 60.0
#: size in bytes of the largest body that may be an error text instead of a file
MAX_ERROR_TEXT_BYTES = 1 << 16


def fetch_head(dataset: Dataset, length: int, source: Source) -> bytes:
    """Return the first ``length`` bytes of a dataset, or fewer if the file is shorter.

    The bytes come from the first replica that answers, and are not verified. Raises the error of
    the last replica if all replicas fail.
    """
    error = no_replica_error(dataset)
    for replica in dataset.replicas:
        try:
            return _fetch(replica.url, length, source)
        except OnefsError as replica_error:
            error = replica_error
    raise error


def _fetch(url: str, length: int, source: Source) -> bytes:
    head = b""
    with source.open(ByteRequest(url, STALL_SECONDS, 0, length)) as body:
        if body.end == body.start:  # an empty file has no first byte
            return b""
        for chunk in body.iter_chunks(length):
            head += chunk
            if len(head) >= length:
                break
    return head[:length]


def fetch_size(dataset: Dataset, url: str, deadline: float, source: Source) -> int:
    """Return the size in bytes of the whole file at ``url``, with a request for its first byte.

    Waits at most ``deadline`` seconds for the beginning of the answer, and for each next byte.
    Raises ServerError if the answer does not contain the size, and the errors of :class:`Body`.
    """
    with source.open(ByteRequest(url, deadline, 0, 1)) as body:
        if body.total is None:
            raise ServerError(f"{body.label}: the file server does not say how large the file is")
        if not body.is_partial and body.total <= MAX_ERROR_TEXT_BYTES and dataset.md5:
            # the length of an error text must not be stored as the size of the file
            digest = new_hash(dataset)
            for chunk in body.iter_chunks():
                digest.update(chunk)
            if digest.hexdigest() != dataset.md5:
                raise ServerError(
                    f"{body.label}: the file server sends something else than the file", 200
                )
        return body.total

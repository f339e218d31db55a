"""Fetches the first bytes of a dataset without the rest of the file."""

from __future__ import annotations

from onefs.config.urls import safe_url
from onefs.download.hosts import no_replica_error
from onefs.errors import OnefsError, ServerError
from onefs.http import HostAuth, Transport
from onefs.model import Dataset


def fetch_head(dataset: Dataset, length: int, transport: Transport, auth: HostAuth) -> bytes:
    """Return the first ``length`` bytes of a dataset, or fewer if the file is shorter.

    The bytes come from the first replica that answers, and are not verified. Raises the error of
    the last replica if all replicas fail.
    """
    error = no_replica_error(dataset)
    for replica in dataset.replicas:
        try:
            return _fetch(replica.url, length, transport, auth)
        except OnefsError as replica_error:
            error = replica_error
    raise error


def _fetch(url: str, length: int, transport: Transport, auth: HostAuth) -> bytes:
    head = b""
    headers = {"Range": f"bytes=0-{length - 1}"}
    with transport.stream(url, headers=headers, auth=auth) as stream:
        if stream.status == 416:  # an empty file has no first byte
            return b""
        is_page = stream.headers.get("Content-Type", "").startswith("text/html")
        if stream.status not in (200, 206) or (is_page and not url.endswith((".html", ".htm"))):
            raise ServerError(
                f"{safe_url(url)}: the file server does not send the file (HTTP {stream.status})",
                stream.status,
            )
        for chunk in stream.iter_chunks(lambda: length):
            head += chunk
            if len(head) >= length:
                break
    return head[:length]

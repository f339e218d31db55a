"""The server of a URL: what may be unreachable as a whole, and what status shows."""

from __future__ import annotations

from onefs.config.urls import host_of

#: stands for the server of files on this machine
DISK = "disk"
_S3_SCHEMES = ("s3://", "alyx-s3://")


def server_of(url: str) -> str:
    """Return the server that answers for ``url``: its host, ``S3`` for all buckets, or ``disk``.

    If one file of a server does not arrive in time, no other file of the server is requested until
    it answers again.
    """
    return "S3" if url.startswith(_S3_SCHEMES) else shown_server(url)


def shown_server(url: str) -> str:
    """Return the host, the bucket, the repository with a bucket, or ``disk``, for messages."""
    return DISK if url.startswith("file://") else host_of(url)

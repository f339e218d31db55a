"""The server of a URL: what may be unreachable as a whole, and what status shows."""

from __future__ import annotations

from onefs.config.bucket import is_bucket_url
from onefs.config.urls import host_of


def server_of(url: str) -> str:
    """Return the server that answers for ``url``: its host, or ``S3`` for all buckets.

    If one file of a server does not arrive in time, no other file of the server is requested until
    it answers again.
    """
    return "S3" if is_bucket_url(url) else host_of(url)


def bucket_of(url: str) -> str:
    """Return the part of a URL that names the bucket or the repository; '' for a file server."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if is_bucket_url(url) else ""


def kind_of(url: str) -> str:
    """Return ``bucket`` for the URL of a file in a bucket, or ``server``."""
    return "bucket" if is_bucket_url(url) else "server"

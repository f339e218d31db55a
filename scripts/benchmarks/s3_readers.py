"""Read objects of a bucket, or files, one after another, with one Python library.

Usage: ``python -m scripts.benchmarks.s3_readers KIND ENDPOINT FOLDER PATH...``. A path is
``BUCKET/KEY``, for ``files`` the path of a file. Prints the seconds of reading: neither the start
of Python nor the loading of the library counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.benchmarks.laboratory import ACCESS_KEY, SECRET_KEY

#: takes bytes as programs do that read a file in parts
_PART = 1 << 20


def _boto3(endpoint: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )


def _downloaded(endpoint: str, folder: Path) -> Callable[[str], None]:
    """Return what does boto3's ``download_file``, in parallel parts, as ONE does."""
    client = _boto3(endpoint)

    def read(path: str) -> None:
        bucket, _, key = path.partition("/")
        client.download_file(bucket, key, str(folder / Path(key).name))

    return read


def _s3fs(endpoint: str, folder: Path) -> Callable[[str], None]:
    """Return what reads whole objects into memory by ``s3fs``."""
    import s3fs

    files = s3fs.S3FileSystem(
        key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=endpoint, use_listings_cache=True
    )

    def read(path: str) -> None:
        with files.open(path) as file:
            file.read()

    return read


def _files(endpoint: str, folder: Path) -> Callable[[str], None]:
    """Return what reads files of a mount."""

    def read(path: str) -> None:
        with open(path, "rb") as file:
            while file.read(_PART):
                pass

    return read


_KINDS = {"boto3": _downloaded, "s3fs": _s3fs, "files": _files}

if __name__ == "__main__":
    kind, endpoint, folder, *paths = sys.argv[1:]
    read_one = _KINDS[kind](endpoint, Path(folder))
    began = time.perf_counter()
    for path in paths:
        read_one(path)
    print(time.perf_counter() - began)

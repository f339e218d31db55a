"""File records of Alyx's repositories on S3: the addresses of their files.

Such an address is ``alyx-s3://REPOSITORY/KEY``. The bucket of the repository, and the keys for it,
are requested from Alyx at its first use, so that they are not stored with each dataset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from onefs import alf
from onefs.config.bucket import ALYX_SCHEME
from onefs.config.urls import MAX_URL_LENGTH

#: an address of a file in a bucket over https, which a private bucket refuses
_AMAZON_URL = re.compile(
    r"https?://[^/?#@]*\.amazonaws\.com(?:\.cn)?(?::[0-9]*)?(?:/|$)", re.IGNORECASE
)


def is_on_s3(repository: str) -> bool:
    """Whether the repository with this name is on S3, as ONE decides it."""
    return repository.startswith("aws")


def s3_url(record: Mapping[str, Any], dataset_id: str) -> str:
    """Return the address of a file record on S3. Return '' for a record on another server.

    A record on S3 with an http address that is not Amazon's is on another server: a laboratory may
    serve its files itself.
    """
    repository, url = record.get("data_repository"), record.get("data_url")
    if not isinstance(repository, str) or not is_on_s3(repository):
        return ""
    is_served = isinstance(url, str) and "://" in url and not _AMAZON_URL.match(url)
    root, path = record.get("data_repository_path"), record.get("relative_path")
    if is_served or not (isinstance(root, str) and isinstance(path, str) and root and path):
        return ""
    # the same key as in ONE's _download_aws
    key = str(PurePosixPath(root, path))
    folder, slash, name = key.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if dot and dataset_id not in stem:
        name = f"{stem}.{dataset_id}.{extension}"
    server = quote(alf.valid_text(repository), safe="")
    address = f"{ALYX_SCHEME}://{server}/{alf.valid_text(f'{folder}{slash}{name}')}"
    return address if len(address) <= MAX_URL_LENGTH else ""

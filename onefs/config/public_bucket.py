"""The public database: where IBL's public bucket on S3 and the public file server are.

Nobody needs an account for them, and there is no Alyx.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache

from onefs.alf import SUBJECTS
from onefs.config.bucket import Bucket
from onefs.config.urls import host_key, normalise
from onefs.model import Repository

#: IBL's public bucket, which answers requests without a signature
BUCKET_URL = "https://ibl-brain-wide-map-public.s3.us-east-1.amazonaws.com"
#: the folder with the same files on IBL's file server
DATA_URL = "https://ibl.flatironinstitute.org/public"
#: the Alyx with the same data, for which an account is needed
ALYX_URL = "https://openalyx.internationalbrainlab.org"
BUCKET_VARIABLE = "ONEFS_PUBLIC_BUCKET"
DATA_VARIABLE = "ONEFS_PUBLIC_DATA"

#: how the names of public databases, and of their folders, begin
_PUBLIC_PREFIX = "public-"
#: the folder of ONE's cache tables in the bucket
TABLES_FOLDER = "caches/openalyx"
_UNSAFE = re.compile(r"[^\w.-]")


def bucket_url(environ: Mapping[str, str] | None = None) -> str:
    """Return the address of the public bucket, from ``ONEFS_PUBLIC_BUCKET`` or IBL's.

    Raises UsageError for an invalid variable.
    """
    environ = os.environ if environ is None else environ
    return normalise(environ.get(BUCKET_VARIABLE) or BUCKET_URL)


def public_name(url: str) -> str:
    """Return the name of the public database in the bucket ``url``, for names of folders."""
    path = normalise(url).partition("://")[2].partition("/")[2]
    return _PUBLIC_PREFIX + "_".join(filter(None, (host_key(url), _UNSAFE.sub("_", path))))


def is_public_name(name: str, url: str) -> bool:
    """Whether ``name`` is that of the public database in the bucket ``url``, and of no host."""
    return bool(url) and name == public_name(url)


def lab_repositories(url: str, lab: str) -> list[Repository]:
    """Return the two repositories of a lab's public data: in the bucket, and on the file server.

    ``url`` is the bucket's address.
    """
    data_url = normalise(os.environ.get(DATA_VARIABLE) or DATA_URL)
    return [
        Repository(
            f"aws_{lab}", public_bucket(url).url_of(f"data/{lab}/{SUBJECTS}"), personal=False
        ),
        Repository(f"flatiron_{lab}", f"{data_url}/{lab}/{SUBJECTS}", personal=False),
    ]


@lru_cache(maxsize=8)
def public_bucket(url: str) -> Bucket:
    """Return the bucket at ``url``. Its name is in the path or else in the host."""
    host, _, path = url.partition("://")[2].partition("/")
    return Bucket(path.rpartition("/")[2] or host.partition(".")[0], url=url)

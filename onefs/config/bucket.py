"""An S3 bucket and the keys for it, and the schemes of URLs of files in buckets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from onefs.config.secret import Secret

#: the region of the buckets of IBL, and of any bucket whose region is not known
DEFAULT_REGION = "us-east-1"
_NO_KEY = Secret("")

#: the scheme of a URL with the name of a repository of Alyx instead of the bucket's name
ALYX_SCHEME = "alyx-s3"
#: schemes of URLs of files in buckets
SCHEMES = ("s3", ALYX_SCHEME)
_BEGINNINGS = tuple(f"{scheme}://" for scheme in SCHEMES)
#: names of buckets on Amazon's and other servers, names of regions, and keys. Other characters
#: could change the address or the header that they become a part of
_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,255}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_KEY = re.compile(r"[!-~]{1,1000}")


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3 bucket. Without keys, the keys of the user's own AWS configuration are used."""

    name: str
    #: the AWS region; '' if unknown
    region: str = ""
    access_key: Secret = _NO_KEY
    secret_key: Secret = _NO_KEY
    #: the address of a public bucket, if it is not the one that S3 gives it; '' otherwise
    url: str = ""

    def __reduce__(self) -> NoReturn:
        raise TypeError("the keys of a bucket are not written to files or pipes")

    def url_of(self, key: str) -> str:
        """Return the URL of a file in the bucket, or of all files below a prefix."""
        return f"s3://{self.name}/{key}"

    @property
    def is_public(self) -> bool:
        """Whether requests are sent without a signature, as ONE does for IBL's public bucket."""
        return bool(self.url) or (not self.access_key and "public" in self.name.lower())


def is_bucket_url(url: str) -> bool:
    """Whether ``url`` is the address of a file in a bucket."""
    return url.startswith(_BEGINNINGS)


def parse_bucket(record: Mapping[str, Any]) -> Bucket | None:
    """Return the bucket that Alyx's ``json`` of a repository describes.

    Return None if ``record`` describes no bucket. A region or a key that is invalid is left out.
    """
    name, region, access_key, secret_key = (
        value.strip() if isinstance(value, str) else ""
        for value in map(
            record.get, ("bucket_name", "region_name", "Access key ID", "Secret access key")
        )
    )
    if not is_bucket_name(name):
        return None
    if not (_KEY.fullmatch(access_key) and _KEY.fullmatch(secret_key)):
        access_key = secret_key = ""
    return Bucket(name, region if is_region(region) else "", Secret(access_key), Secret(secret_key))


def is_bucket_name(name: str) -> bool:
    """Whether a bucket can have this name."""
    return _NAME.fullmatch(name) is not None


def is_region(name: str) -> bool:
    """Whether a region of Amazon's can have this name."""
    return _REGION.fullmatch(name) is not None

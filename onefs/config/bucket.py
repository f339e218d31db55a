"""An S3 bucket and the keys for it, and the schemes of URLs of files in buckets."""

from __future__ import annotations

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

    Return None if ``record`` describes no bucket.
    """
    name, region, access_key, secret_key = (
        value if isinstance(value, str) else ""
        for value in map(
            record.get, ("bucket_name", "region_name", "Access key ID", "Secret access key")
        )
    )
    if not name or "/" in name:
        return None
    if not (access_key and secret_key):
        access_key = secret_key = ""
    return Bucket(name, region, Secret(access_key), Secret(secret_key))

"""Signs requests to S3 with botocore's signer (SigV4).

botocore is imported only for a bucket that needs a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onefs.config.bucket import Bucket
from onefs.download.sources.interface import KeysRefused
from onefs.download.sources.s3_own_keys import OwnKeys
from onefs.errors import MissingLibrary


class Signer:
    """Makes the headers of signed requests. Thread-safe.

    ``environ`` may have the keys of the user. The environment of a daemon does not have them.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._own_keys = OwnKeys(environ)

    def sign(self, url: str, bucket: Bucket, region: str, seconds: float) -> dict[str, str]:
        """Return the headers that sign a GET of ``url``.

        ``seconds`` is the longest wait for the user's own keys.

        Raises MissingLibrary without botocore, and KeysRefused if there are no keys.
        """
        try:
            from botocore.auth import S3SigV4Auth
            from botocore.awsrequest import AWSRequest
        except ImportError as error:
            raise MissingLibrary(
                f"the bucket {bucket.name} needs signed requests: install `pip install 'onefs[s3]'`"
            ) from error
        request = AWSRequest("GET", url)
        S3SigV4Auth(self._keys_for(bucket, seconds), "s3", region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    def note_refusal(self, bucket: Bucket) -> None:
        """Record that S3 has refused the keys for ``bucket``."""
        if not bucket.access_key:  # the user may have renewed them
            self._own_keys.reread()

    def _keys_for(self, bucket: Bucket, seconds: float) -> Any:
        from botocore.credentials import Credentials

        if bucket.access_key:
            return Credentials(bucket.access_key, bucket.secret_key)
        keys = self._own_keys.get(seconds)
        if not keys:
            raise KeysRefused(
                f"the bucket {bucket.name} needs keys, and neither Alyx nor your AWS configuration "
                "has any: run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return keys

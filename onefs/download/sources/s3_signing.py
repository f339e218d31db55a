"""Signs requests to S3 with botocore's signer (SigV4) and finds the keys of the user.

botocore is imported only for a bucket that needs a signature.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from onefs.config.bucket import Bucket
from onefs.config.secret import Secret
from onefs.download.sources.interface import KeysRefused
from onefs.errors import MissingLibrary, reason_of

log = logging.getLogger(__name__)


class Signer:
    """Makes the headers of signed requests. Thread-safe.

    ``environ`` may have the keys of the user. The environment of a daemon does not have them.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        #: the keys of the user's own AWS configuration, which botocore renews if they expire
        self._own_keys: Any = None

    def sign(self, url: str, bucket: Bucket, region: str) -> dict[str, str]:
        """Return the headers that sign a GET of ``url``.

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
        S3SigV4Auth(self._keys_for(bucket), "s3", region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    def _keys_for(self, bucket: Bucket) -> Any:
        from botocore.credentials import Credentials

        if bucket.access_key:
            return Credentials(bucket.access_key, bucket.secret_key)
        if self._own_keys is None:
            self._own_keys = _find_own_keys(self._environ)
        try:
            keys = self._own_keys and self._own_keys.get_frozen_credentials()
        except Exception as error:  # botocore's errors name files and commands of the user
            log.info("the AWS keys cannot be renewed: %s", reason_of(error))
            keys = None
        if not keys:
            raise KeysRefused(
                f"the bucket {bucket.name} needs keys, and neither Alyx nor your AWS configuration "
                "has any: run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        for secret in (keys.secret_key, keys.token):
            Secret(secret or "")  # from now on, logs do not show it
        return keys


def _find_own_keys(environ: Mapping[str, str]) -> Any:
    """Return the keys that the AWS tools of this user use. Return None if there are none."""
    from botocore.credentials import Credentials
    from botocore.session import Session

    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    access_key, secret_key, token = (environ.get(name) or None for name in names)
    if access_key and secret_key:
        return Credentials(access_key, secret_key, token)
    try:
        return Session().get_credentials()
    except Exception as error:  # a configuration file of the user may be invalid
        log.info("the AWS configuration cannot be read: %s", reason_of(error))
        return None

"""The keys of the user's own AWS configuration, as botocore finds them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from onefs.config.secret import Secret
from onefs.download.sources.interface import KeysRefused
from onefs.errors import reason_of
from onefs.lowlevel.single_flight import wait_until_done

log = logging.getLogger(__name__)

#: seconds for which keys, and the lack of keys, are used before botocore is asked again
KEYS_TTL_SECONDS = 60.0
#: least seconds between two readings of the AWS configuration after S3 has refused its keys
REREAD_SECONDS = 60.0
#: seconds after which a search is given up, and most searches that have not ended
SEARCH_SECONDS = 60.0
_MAX_SEARCHES = 8
#: most seconds that a request waits for keys
MAX_WAIT_SECONDS = 20.0


class OwnKeys:
    """Looks the keys up in the background, one search at a time if it ends. Thread-safe.

    ``environ`` may have the keys. botocore may run a program of the user, or ask servers of
    Amazon's, which may take seconds or not end. On a machine without keys, only the first request
    waits for that.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lock = threading.Lock()
        #: the latest search that is running, and when it began (``time.monotonic``)
        self._search: Future[None] | None = None
        self._search_began = 0.0
        #: how many searches are running; all but the latest one were given up
        self._running = 0
        #: botocore's object, which renews keys that expire, and when it was made
        self._source: Any = None
        self._source_made_at = 0.0
        #: the keys; None if there are none
        self._keys: Any = None
        #: when the last search ended; None if there was none, or if S3 has refused its keys
        self._found_at: float | None = None

    def get(self, seconds: float) -> Any:
        """Return botocore's object with the keys. Return None if there are no keys.

        Raises KeysRefused if the keys are not found in ``seconds``.
        """
        now = time.monotonic()
        with self._lock:
            is_new = self._found_at is None
            is_due = self._found_at is None or now >= self._found_at + KEYS_TTL_SECONDS
            is_given_up = (
                self._running < _MAX_SEARCHES and now >= self._search_began + SEARCH_SECONDS
            )
            if is_due and (self._search is None or is_given_up):
                self._start(now)
            search = self._search
            left = min(seconds, self._search_began + MAX_WAIT_SECONDS - now)
            must_wait = is_new or (is_due and self._keys is not None)
        if search is not None and must_wait:
            wait_until_done(search, max(0.0, left))
        with self._lock:
            if self._found_at is None:
                raise KeysRefused(
                    "your AWS configuration does not give any keys in time: try `aws sts "
                    "get-caller-identity`, and check its credential_process"
                )
            return self._keys

    def reread(self) -> None:
        """Read the AWS configuration again at the next call, because S3 has refused its keys.

        Do nothing if it was read less than a minute ago.
        """
        with self._lock:
            if time.monotonic() >= self._source_made_at + REREAD_SECONDS:
                self._source = self._found_at = None

    def _start(self, now: float) -> None:
        search: Future[None] = Future()
        # not a thread of a pool, because Python would wait for its end when the program ends
        thread = threading.Thread(
            target=self._run, args=(search,), name="onefs-aws-keys", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise KeysRefused("no more threads can be started now; try again later") from error
        self._search, self._search_began = search, now
        self._running += 1

    def _run(self, search: Future[None]) -> None:
        keys = None
        try:
            keys = self._look_up()
        except Exception as error:  # botocore's errors name files and programs of the user
            log.info("the AWS keys cannot be found: %s", reason_of(error))
        with self._lock:
            self._running -= 1
            if self._search is search:  # it was not given up
                self._keys, self._found_at, self._search = keys, time.monotonic(), None
        search.set_result(None)

    def _look_up(self) -> Any:
        with self._lock:
            source = self._source
        if source is None:
            began = time.monotonic()
            source = _find_source(self._environ)
            with self._lock:
                self._source, self._source_made_at = source, began
        keys = source and source.get_frozen_credentials()
        for secret in (keys.secret_key, keys.token) if keys else ():
            Secret(secret or "")  # from now on, logs do not show it
        return keys


def _find_source(environ: Mapping[str, str]) -> Any:
    """Return botocore's source of the keys that the AWS tools of this user use, or None."""
    from botocore.credentials import Credentials
    from botocore.session import Session

    access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    # the second is the older name
    token = environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN")
    if access_key and secret_key:
        return Credentials(access_key, secret_key, token or None)
    return Session().get_credentials()

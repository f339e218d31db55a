"""The origins that get the file servers' user name and password, and when they get them."""

from __future__ import annotations

import re
import threading
from base64 import b64encode
from collections.abc import Iterable

from onefs.config.credentials import DataCredentials
from onefs.config.urls import (
    host_of,
    is_loopback,
    origin,
    with_https,
)
from onefs.errors import DataServerCredentials

_BASIC_CHALLENGE = re.compile(r"(?:^|,)\s*basic(?:\s|,|$)", re.IGNORECASE)


class HostAuth:
    """One user name and password, and the origins that may receive them. Thread-safe.

    An origin is scheme, host and port. Origins of ``preemptive`` (the data server of the profile)
    get the pair with the first request, those of ``confirmed`` after a Basic challenge
    (RFC 7617), and no other origin gets it. An http origin gets it only if it is named as http
    itself. With ``loopback`` every port of this machine counts as confirmed: the embedded
    laboratory's file server has another port at each start.
    """

    def __init__(
        self,
        credentials: DataCredentials | None,
        preemptive: Iterable[str] = (),
        confirmed: Iterable[str] = (),
        *,
        loopback: bool = False,
    ) -> None:
        self._lock = threading.Lock()
        self._credentials = credentials
        self._loopback = loopback
        self.set_trusted_origins(preemptive, confirmed)

    def replace_credentials(self, credentials: DataCredentials | None) -> None:
        """Use these credentials from now on, after a new login."""
        with self._lock:
            self._credentials = credentials

    def set_trusted_origins(self, preemptive: Iterable[str], confirmed: Iterable[str]) -> None:
        """Send the pair to these origins from now on, and to no others."""
        preemptive_origins = _with_https_origins(preemptive)
        with self._lock:
            #: origins that get the pair with the first request
            self._preemptive_origins = preemptive_origins
            self._trusted_origins = preemptive_origins | _with_https_origins(confirmed)

    def secure_url(self, url: str) -> str:
        """``url``, with https where its host may receive the pair by https only."""
        base = origin(url)
        if base.startswith("https:") or self._is_trusted(base):
            return url
        https_url = with_https(url)
        return https_url if self._is_trusted(origin(https_url)) else url

    def without_credentials(self) -> HostAuth:
        """A :class:`HostAuth` without the pair, for http after a redirect from https."""
        return _WithheldAuth(None)

    def authorization_header(self, url: str) -> str | None:
        """The Authorization header for ``url``; None when its origin must not get it."""
        with self._lock:
            credentials = self._credentials
            if credentials is None or origin(url) not in self._preemptive_origins:
                return None
        pair = f"{credentials.username}:{credentials.password}".encode()
        return f"Basic {b64encode(pair).decode('ascii')}"

    def header_for_challenge(self, url: str, challenge: str, sent: str | None) -> str | None:
        """The Authorization header to send to ``url`` after a 401.

        ``challenge`` is the ``WWW-Authenticate`` header of the response, ``sent`` the header that
        was refused (None when none was sent). None when there is no other header to try.
        """
        base = origin(url)
        if _BASIC_CHALLENGE.search(challenge) and self._is_trusted(base):
            with self._lock:
                self._preemptive_origins.add(base)
        header = self.authorization_header(url)
        return None if header == sent else header

    def refusal_error(self, url: str, sent: str | None) -> DataServerCredentials:
        """The error after the last 401; ``sent`` as for :meth:`header_for_challenge`."""
        host = host_of(url)
        if sent is not None:
            return DataServerCredentials(
                f"the file server {host} refuses its user and password: run `onefs setup`, or "
                "check ONEFS_DATA_USERNAME and ONEFS_DATA_PASSWORD"
            )
        if self._credentials is None:
            return DataServerCredentials(
                f"the file server {host} asks for a user and password, and none are known for it: "
                "run `onefs setup`, or set ONEFS_DATA_USERNAME and ONEFS_DATA_PASSWORD"
            )
        base = origin(url)
        if self._is_trusted(base):
            return DataServerCredentials(
                f"the file server {host} asks for a login of another kind than user and password"
            )
        return DataServerCredentials(
            f"the file server {host} asks for a user and password, and is not confirmed to get "
            f"them: run `onefs setup`, or add {base} to ONEFS_DATA_HOSTS"
        )

    def _is_trusted(self, base: str) -> bool:
        with self._lock:
            return base in self._trusted_origins or (self._loopback and is_loopback(base))


def _with_https_origins(urls: Iterable[str]) -> set[str]:
    """The origins of ``urls``; an http server may have moved to https."""
    origins = {origin(url) for url in urls}
    return origins | {with_https(base) for base in origins}


class _WithheldAuth(HostAuth):
    """No pair, because a redirect led from https to http, where it could be read."""

    def refusal_error(self, url: str, sent: str | None) -> DataServerCredentials:
        return DataServerCredentials(
            f"{host_of(url)} asks for a user and password after a redirect from https to http: "
            "they are not sent in clear; tell the administrator of the file server"
        )

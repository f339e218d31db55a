"""Decides which origins get the user name and password for file servers, and when."""

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
    """Holds one user name and password, and decides which origins get them. Thread-safe.

    An origin is a scheme, a host and a port.

    - ``preemptive``: origins that get the credentials with the first request
    - ``confirmed``: origins that get the credentials after a Basic challenge (RFC 7617)
    - ``loopback``: whether every port of this machine is a confirmed origin

    No other origin gets the credentials. An http URL in these lists also allows https to the same
    host. An https URL allows https only.
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
        # for the file server of the embedded laboratory, which has a new port at each start
        self._loopback = loopback
        self.set_trusted_origins(preemptive, confirmed)

    def replace_credentials(self, credentials: DataCredentials | None) -> None:
        """Use these credentials for later requests, because the user has logged in again."""
        with self._lock:
            self._credentials = credentials

    def set_trusted_origins(self, preemptive: Iterable[str], confirmed: Iterable[str]) -> None:
        """Replace the origins that get the credentials. For the two lists see :class:`HostAuth`."""
        preemptive_origins = _with_https_origins(preemptive)
        with self._lock:
            #: origins that get the credentials with the first request
            self._preemptive_origins = preemptive_origins
            self._trusted_origins = preemptive_origins | _with_https_origins(confirmed)

    def secure_url(self, url: str) -> str:
        """Return ``url``, with https if its host may get the credentials by https only."""
        base = origin(url)
        if base.startswith("https:") or self._is_trusted(base):
            return url
        https_url = with_https(url)
        return https_url if self._is_trusted(origin(https_url)) else url

    def without_credentials(self) -> HostAuth:
        """Return a :class:`HostAuth` without credentials, for a redirect from https to http."""
        return _WithheldAuth(None)

    def authorization_header(self, url: str) -> str | None:
        """Return the Authorization header for the first request to ``url``.

        Return None if the origin of ``url`` gets no credentials with the first request.
        """
        with self._lock:
            credentials = self._credentials
            if credentials is None or origin(url) not in self._preemptive_origins:
                return None
        pair = f"{credentials.username}:{credentials.password}".encode()
        return f"Basic {b64encode(pair).decode('ascii')}"

    def header_for_challenge(self, url: str, challenge: str, sent: str | None) -> str | None:
        """Return the Authorization header to send to ``url`` after a response with status 401.

        - ``challenge``: the ``WWW-Authenticate`` header of the response
        - ``sent``: the Authorization header that was refused, or None

        Return None if there is no other header to try.
        """
        base = origin(url)
        if _BASIC_CHALLENGE.search(challenge) and self._is_trusted(base):
            with self._lock:
                self._preemptive_origins.add(base)
        header = self.authorization_header(url)
        return None if header == sent else header

    def refusal_error(self, url: str, sent: str | None) -> DataServerCredentials:
        """Return the error to raise when the server still answers 401.

        ``sent`` is the Authorization header that was refused, or None if no such header was sent.
        """
        host = host_of(url)
        if sent is not None:
            return DataServerCredentials(
                f"the file server {host} refuses the user and password: run `onefs setup`, or "
                "check ONEFS_DATA_USERNAME and ONEFS_DATA_PASSWORD"
            )
        if self._credentials is None:
            return DataServerCredentials(
                f"the file server {host} asks for a user and password, and onefs has none: run "
                "`onefs setup`, or set ONEFS_DATA_USERNAME and ONEFS_DATA_PASSWORD"
            )
        base = origin(url)
        if self._is_trusted(base):
            return DataServerCredentials(
                f"the file server {host} asks for a kind of login that onefs does not have: onefs "
                "can only send a user and password"
            )
        return DataServerCredentials(
            f"the file server {host} asks for a user and password, but onefs may not send yours to "
            f"this server: run `onefs setup`, or add {base} to ONEFS_DATA_HOSTS"
        )

    def _is_trusted(self, base: str) -> bool:
        with self._lock:
            return base in self._trusted_origins or (self._loopback and is_loopback(base))


def _with_https_origins(urls: Iterable[str]) -> set[str]:
    """Return the origins of ``urls``, each as given and with https.

    The origins with https are added because a server may have moved to https.
    """
    origins = {origin(url) for url in urls}
    return origins | {with_https(base) for base in origins}


class _WithheldAuth(HostAuth):
    """Sends no credentials, because a redirect from https to http would expose them."""

    def refusal_error(self, url: str, sent: str | None) -> DataServerCredentials:
        return DataServerCredentials(
            f"{host_of(url)} asks for a user and password after a redirect from https to http: "
            "onefs does not send them unencrypted; tell the administrator of the file server"
        )

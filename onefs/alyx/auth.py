"""Alyx tokens: got for a password, checked, and which of them is sent."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping

from onefs.alyx.request import database_down_error
from onefs.config.credentials import CredentialStore, find_alyx_password, find_token
from onefs.config.secret import Secret, excerpt
from onefs.config.settings import Settings
from onefs.errors import (
    AlyxCredentials,
    OnefsError,
    ServerError,
    UsageError,
    copy_error,
)
from onefs.http import DEADLINE_SECONDS, JsonAnswer, Transport
from onefs.lowlevel.negative_cache import NegativeCache

_TOKEN_PATTERN = re.compile(r"[0-9a-f]{40}")
#: letters; Alyx's have 40
_MAX_TOKEN_LENGTH = 1000
#: seconds after a log-in in which there is no other, since it would give the same
LOGIN_PAUSE_SECONDS = 5.0

log = logging.getLogger(__name__)


def is_token_like(text: str) -> bool:
    """Whether a text given as "password or token" is a token (40 hex digits in Alyx)."""
    return _TOKEN_PATTERN.fullmatch(text) is not None


def fetch_token(
    transport: Transport, url: str, username: str, password: str, deadline: float = DEADLINE_SECONDS
) -> Secret:
    """The token of a user, for the password. Alyx gives the same one each time.

    Waits at most ``deadline`` seconds, as all of these do. Raises AlyxCredentials for a wrong
    user or password (Alyx says 400 to both), ServerError when ``url`` is not an Alyx server, and
    what ``Transport.post_json`` raises.
    """
    answer = transport.post_json(
        f"{url}/auth-token",
        {"username": username, "password": password},
        headers={"Accept": "application/json"},
        deadline=deadline,
    )
    token = answer.body.get("token") if isinstance(answer.body, dict) else None
    if answer.status == 200 and isinstance(token, str) and _is_valid_in_header(token):
        return Secret(token)
    if answer.status in (400, 401, 403) and isinstance(answer.body, dict):
        raise AlyxCredentials(
            f"{url} refuses the password of user {username!r}{_server_message(answer)}"
        )
    raise _not_alyx_error(url, answer)


def _is_valid_in_header(token: str) -> bool:
    """Whether a header can hold the token."""
    return 0 < len(token) <= _MAX_TOKEN_LENGTH and token.isascii() and token.isprintable()


def check_token(
    transport: Transport, url: str, token: str, deadline: float = DEADLINE_SECONDS
) -> None:
    """Return when Alyx accepts the token for reading.

    Raises AlyxCredentials when it does not, ServerError when ``url`` is not an Alyx server, and
    what ``Transport.get_json`` raises.
    """
    answer = transport.get_json(
        f"{url}/labs",
        params={"limit": "1"},
        headers={"Authorization": f"Token {token}"},
        deadline=deadline,
    )
    if answer.status in (401, 403) and isinstance(answer.body, dict):
        raise AlyxCredentials(
            f"{url} refuses the token{_server_message(answer)}; run `onefs login`"
        )
    rows = answer.body.get("results") if isinstance(answer.body, dict) else answer.body
    if answer.status != 200 or not isinstance(rows, list):
        raise _not_alyx_error(url, answer)


def obtain_token(
    transport: Transport, settings: Settings, given: str, deadline: float = DEADLINE_SECONDS
) -> Secret:
    """The token for what a user gives as "password or token". Raises as the two above do."""
    if is_token_like(given):
        check_token(transport, settings.url, given, deadline)
        return Secret(given)
    return fetch_token(transport, settings.url, settings.username, given, deadline)


def log_in(
    transport: Transport,
    settings: Settings,
    store: CredentialStore,
    environ: Mapping[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
    *,
    deadline: float = DEADLINE_SECONDS,
) -> Secret:
    """A token that the server accepts: the known one, else one got for the password, and kept.

    Where it cannot be kept, the log says so. Raises AlyxCredentials when the server refuses what
    is known and what is given, or when nothing is known and ``ask`` is None, and what the requests
    raise.
    """
    refusal = AlyxCredentials(_no_login_message(settings))
    token = find_token(settings, store, environ)
    if token is not None:
        try:
            check_token(transport, settings.url, token, deadline)
            return token
        except AlyxCredentials as error:
            refusal = error
    password = find_alyx_password(settings, environ, ask) if settings.username else None
    if password is None:
        raise refusal
    token = obtain_token(transport, settings, password, deadline)
    _save_token(settings, store, token)
    return token


def unsaved_token(settings: Settings, store: CredentialStore, token: Secret) -> Secret:
    """The token of a log-in where it could not be kept, to be handed on; '' where it is kept."""
    return Secret("") if find_token(settings, store) == token else token


def _save_token(settings: Settings, store: CredentialStore, token: Secret) -> None:
    """Keep a token for later commands; one that cannot be kept serves this one all the same."""
    try:
        store.set_token(settings.url, settings.username, token)
    except UsageError as error:
        log.warning("the login is not saved: %s", error)


class FixedToken:
    """One token that stays as it is."""

    def __init__(self, token: str) -> None:
        self._token = token

    def current_token(self) -> str:
        """The token."""
        return self._token

    def renew(self, refused: str) -> str | None:
        """None: there is no other one."""
        return None


class StoredToken:
    """The token of ONEFS_TOKEN or of the store; what ``onefs login`` writes is taken up at once.

    Where there is none, or the server refuses it, the password of ONEFS_PASSWORD or
    ONEFS_PASSWORD_FILE gets another, over ``transport``. Thread-safe. The store is asked again
    only after it has been written.
    """

    def __init__(
        self,
        settings: Settings,
        store: CredentialStore,
        environ: Mapping[str, str] | None = None,
        transport: Callable[[], Transport] | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._environ = environ
        self._transport = transport
        #: when the password was sent last (``time.monotonic``), and the failures of user names
        self._logged_in_at = float("-inf")
        self._failures: NegativeCache[str] = NegativeCache(1, lambda error: LOGIN_PAUSE_SECONDS)
        self._lock = threading.Lock()
        self._stamp = store.stamp()
        self._token = find_token(settings, store, environ)

    def current_token(self) -> str:
        """The token to send. Raises AlyxCredentials when there is none, and as fetch_token."""
        with self._lock:
            self._reload_if_changed()
            if self._token is None:
                self._token = self._log_in()
            if self._token is None:
                raise AlyxCredentials(_no_login_message(self._settings))
            return self._token

    def renew(self, refused: str) -> str | None:
        """Another token than the refused one: of a later login, or for the password.

        Raises as :func:`fetch_token`.
        """
        with self._lock:
            self._reload_if_changed()
            if self._token == refused:
                # ONEFS_TOKEN was refused; a kept token may be good
                kept = self._store.token(self._settings.url, self._settings.username)
                self._token = kept or self._token
            if self._token == refused:
                self._token = self._log_in() or self._token
            return self._token if self._token != refused else None

    def _log_in(self) -> Secret | None:
        """A token for the password that the environment gives; None without one.

        Soon after a log-in it does what that one did. Raises as :func:`fetch_token`.
        """
        if self._transport is None or not self._settings.username:
            return None
        self._failures.raise_failure(self._settings.username)
        if time.monotonic() - self._logged_in_at < LOGIN_PAUSE_SECONDS:
            return None
        password = find_alyx_password(self._settings, self._environ)
        if password is None:
            return None
        self._logged_in_at = time.monotonic()
        try:
            token = obtain_token(self._transport(), self._settings, password)
        except OnefsError as error:
            self._failures.add(self._settings.username, error)
            raise copy_error(error) from None
        _save_token(self._settings, self._store, token)
        self._stamp = self._store.stamp()
        return token

    def _reload_if_changed(self) -> None:
        stamp = self._store.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            kept = self._store.token(self._settings.url, self._settings.username)
            self._token = kept or self._token


def _no_login_message(settings: Settings) -> str:
    if not settings.username:
        return (
            f"no user name is known for {settings.url}: give --username, or set ONEFS_USERNAME "
            "or ONEFS_TOKEN"
        )
    return (
        f"nobody is logged in to {settings.url} as {settings.username!r}: run `onefs login`, or "
        "set ONEFS_PASSWORD or ONEFS_TOKEN"
    )


def _server_message(answer: JsonAnswer) -> str:
    """Alyx's own words, when it gives any."""
    body = answer.body
    others = body.get("non_field_errors")
    errors = [body.get("detail"), *(others if isinstance(others, list) else ())]
    said = [text for text in errors if isinstance(text, str)]
    return f": {excerpt(said[0]).rstrip('.')}" if said else ""


def _not_alyx_error(url: str, answer: JsonAnswer) -> OnefsError:
    """The error of a server that does not answer as Alyx does."""
    if answer.status == 500:
        return database_down_error(url, answer)
    return ServerError(
        f"{url} is not an Alyx server, or does not work as one (HTTP {answer.status}): check "
        "the URL",
        answer.status,
    )

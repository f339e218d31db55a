"""Alyx tokens: obtained for a password, checked, stored and renewed."""

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
#: characters of the longest token that is accepted; tokens of Alyx have 40
_MAX_TOKEN_LENGTH = 1000
#: seconds after a log-in without another one, which would have the same result
LOGIN_PAUSE_SECONDS = 5.0

log = logging.getLogger(__name__)


def is_token_like(text: str) -> bool:
    """Whether an answer to "password or token" is a token (40 hex digits in Alyx)."""
    return _TOKEN_PATTERN.fullmatch(text) is not None


def fetch_token(
    transport: Transport, url: str, username: str, password: str, deadline: float = DEADLINE_SECONDS
) -> Secret:
    """Obtain a user's token for the password, within ``deadline`` seconds.

    Alyx returns the same token each time. Raises AlyxCredentials for a wrong user or password
    (Alyx answers 400 to both), ServerError when ``url`` is not an Alyx server, and what
    ``Transport.post_json`` raises.
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
    """Whether the token can be sent in a header."""
    return 0 < len(token) <= _MAX_TOKEN_LENGTH and token.isascii() and token.isprintable()


def check_token(
    transport: Transport, url: str, token: str, deadline: float = DEADLINE_SECONDS
) -> None:
    """Check within ``deadline`` seconds that Alyx accepts the token for reading.

    Raises AlyxCredentials if it does not, ServerError if ``url`` is not an Alyx server, and what
    ``Transport.get_json`` raises.
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
    transport: Transport, settings: Settings, answer: str, deadline: float = DEADLINE_SECONDS
) -> Secret:
    """The token for a user's answer to "password or token".

    Raises as :func:`check_token` and :func:`fetch_token`.
    """
    if is_token_like(answer):
        check_token(transport, settings.url, answer, deadline)
        return Secret(answer)
    return fetch_token(transport, settings.url, settings.username, answer, deadline)


def log_in(
    transport: Transport,
    settings: Settings,
    store: CredentialStore,
    environ: Mapping[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
    *,
    deadline: float = DEADLINE_SECONDS,
) -> Secret:
    """A token that the server accepts: the stored one, else a new one, which is then stored.

    A new one needs a password, of the environment or from ``ask``. A token that cannot be stored
    is logged. Raises AlyxCredentials when the server refuses the token and the password, or when
    there is neither, and what the requests raise.
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
    """``token`` if a log-in could not store it, so that it has to be passed on; else ''."""
    return Secret("") if find_token(settings, store) == token else token


def _save_token(settings: Settings, store: CredentialStore, token: Secret) -> None:
    """Store a token for later commands; log an error, since this command can use it anyway."""
    try:
        store.set_token(settings.url, settings.username, token)
    except UsageError as error:
        log.warning("the login is not saved: %s", error)


class FixedToken:
    """A token that is never renewed."""

    def __init__(self, token: str) -> None:
        self._token = token

    def current_token(self) -> str:
        """The token."""
        return self._token

    def renew(self, refused: str) -> str | None:
        """None: there is no other token."""
        return None


class StoredToken:
    """The token of ONEFS_TOKEN or of the credential store. Thread-safe.

    When there is none, or the server refuses it, the password of ONEFS_PASSWORD or
    ONEFS_PASSWORD_FILE obtains another over ``transport``. The store is read again whenever it
    changes, so that a token of ``onefs login`` is used at once.
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
        """The token to send. Raises AlyxCredentials without one, and as :func:`fetch_token`."""
        with self._lock:
            self._reload_if_changed()
            if self._token is None:
                self._token = self._log_in()
            if self._token is None:
                raise AlyxCredentials(_no_login_message(self._settings))
            return self._token

    def renew(self, refused: str) -> str | None:
        """A token other than the refused one: of a later login, or for the password.

        None when there is no other. Raises as :func:`fetch_token`.
        """
        with self._lock:
            self._reload_if_changed()
            if self._token == refused:
                # ONEFS_TOKEN was refused; the stored token may be valid
                self._load_stored_token()
            if self._token == refused:
                self._token = self._log_in() or self._token
            return self._token if self._token != refused else None

    def _log_in(self) -> Secret | None:
        """Obtain a token for the password of the environment; None without a password.

        For LOGIN_PAUSE_SECONDS after a log-in, fail as that one did, or return None. Raises as
        :func:`fetch_token`.
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
            self._load_stored_token()

    def _load_stored_token(self) -> None:
        stored = self._store.token(self._settings.url, self._settings.username)
        self._token = stored or self._token


def _no_login_message(settings: Settings) -> str:
    if not settings.username:
        return (
            f"no user name is known for {settings.url}: give --username, or set ONEFS_USERNAME "
            "or ONEFS_TOKEN"
        )
    return (
        f"there is no login of {settings.username!r} for {settings.url}: run `onefs login`, or "
        "set ONEFS_PASSWORD or ONEFS_TOKEN"
    )


def _server_message(answer: JsonAnswer) -> str:
    """The message in Alyx's answer with a colon before it; '' when there is none."""
    body = answer.body
    others = body.get("non_field_errors")
    errors = [body.get("detail"), *(others if isinstance(others, list) else ())]
    messages = [text for text in errors if isinstance(text, str)]
    return f": {excerpt(messages[0]).rstrip('.')}" if messages else ""


def _not_alyx_error(url: str, answer: JsonAnswer) -> OnefsError:
    """The error of a server whose answer is not one of Alyx."""
    if answer.status == 500:
        return database_down_error(url, answer)
    return ServerError(
        f"{url} is not an Alyx server, or does not work as one (HTTP {answer.status}): check "
        "the URL",
        answer.status,
    )

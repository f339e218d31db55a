"""Log-in: obtains Alyx tokens with a password, checks tokens, and stores tokens."""

from __future__ import annotations

import logging
import re
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
)
from onefs.http import DEADLINE_SECONDS, JsonAnswer, Transport

_TOKEN_PATTERN = re.compile(r"[0-9a-f]{40}")
#: number of characters of the longest token that is accepted; Alyx tokens have 40
_MAX_TOKEN_LENGTH = 1000

log = logging.getLogger(__name__)


def is_token_like(text: str) -> bool:
    """Whether ``text`` has the form of an Alyx token: 40 hex digits in lower case."""
    return _TOKEN_PATTERN.fullmatch(text) is not None


def fetch_token(
    transport: Transport, url: str, username: str, password: str, deadline: float = DEADLINE_SECONDS
) -> Secret:
    """Return the token that Alyx sends for a user's password.

    Takes at most ``deadline`` seconds. Raises AlyxCredentials if the user name or the password is
    wrong. Raises ServerError if ``url`` is not an Alyx server, and Unreachable if Alyx answers 500.
    Also raises what ``Transport.post_json`` raises.
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
    """Whether the token can be sent in an HTTP header."""
    return 0 < len(token) <= _MAX_TOKEN_LENGTH and token.isascii() and token.isprintable()


def check_token(
    transport: Transport, url: str, token: str, deadline: float = DEADLINE_SECONDS
) -> None:
    """Check that Alyx accepts the token for reading, within ``deadline`` seconds.

    Raises AlyxCredentials if Alyx refuses the token. Raises ServerError if ``url`` is not an Alyx
    server, and Unreachable if Alyx answers 500. Also raises what ``Transport.get_json`` raises.
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
    """Return a token for ``answer``, which is a token or a password that the user has typed.

    Alyx checks whether a token is valid. For a password, Alyx sends the user's token. Raises what
    :func:`check_token` and :func:`fetch_token` raise.
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
    """Return a token that the server accepts.

    The token is the first of these that the server accepts:

    - the token in the environment or in the store
    - a new token for the password from the environment or from ``ask``

    A new token is stored; a failure to store it is logged. Raises AlyxCredentials if there is no
    such token. Also raises what :func:`check_token` and :func:`fetch_token` raise.
    """
    refusal = AlyxCredentials(no_login_message(settings))
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
    save_token(settings, store, token)
    return token


def unsaved_token(settings: Settings, store: CredentialStore, token: Secret) -> Secret:
    """Return ``token`` if it is not in the store, otherwise an empty Secret.

    The caller passes the result to its child process, which can read only stored tokens itself.
    """
    return Secret("") if find_token(settings, store) == token else token


def save_token(settings: Settings, store: CredentialStore, token: Secret) -> None:
    """Store a token for later commands. If the token cannot be stored, log a warning."""
    try:
        store.set_token(settings.url, settings.username, token)
    except UsageError as error:
        # no error, because the current command can use the token anyway
        log.warning("the login cannot be saved for later commands: %s", error)


def no_login_message(settings: Settings) -> str:
    """Return a message that says why there is no token, and what the user can do."""
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
    """Return ``": "`` followed by the error message in Alyx's answer.

    Return '' if the answer has no message.
    """
    body = answer.body
    others = body.get("non_field_errors")
    errors = [body.get("detail"), *(others if isinstance(others, list) else ())]
    messages = [text for text in errors if isinstance(text, str)]
    return f": {excerpt(messages[0]).rstrip('.')}" if messages else ""


def _not_alyx_error(url: str, answer: JsonAnswer) -> OnefsError:
    """Return the error for an answer that a working Alyx does not send.

    This is Unreachable for the status 500, otherwise a ServerError.
    """
    if answer.status == 500:
        return database_down_error(url, answer)
    return ServerError(
        f"{url} is not an Alyx server, or does not work as one (HTTP {answer.status}): check "
        "the URL",
        answer.status,
    )

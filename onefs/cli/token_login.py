"""Alyx tokens for ``onefs setup`` and ``onefs login``.

A token comes from the environment, is saved, or is obtained with a password that the user types.
"""

from __future__ import annotations

import os
from contextlib import suppress

from onefs.alyx.auth import check_token, fetch_token, obtain_token
from onefs.cli.output import say
from onefs.cli.prompts import can_prompt, no_terminal_error, prompt, prompt_secret
from onefs.config.credentials import CredentialStore, find_alyx_password, find_token
from onefs.config.one_params import OneSettings
from onefs.config.secret import Secret
from onefs.config.settings import Settings, is_environment_for
from onefs.errors import AlyxCredentials
from onefs.http import Transport

#: maximum number of times that a password is asked for
MAX_PASSWORD_TRIES = 3


def prompt_username(url: str, default: str) -> str:
    """Ask for the name of the Alyx user. Raises NotConfigured if there is no terminal."""
    if not can_prompt():
        raise no_terminal_error("the user name: give --username or set ONEFS_USERNAME")
    return prompt(f"User name at {url}", default)


def find_valid_token(
    transport: Transport, settings: Settings, store: CredentialStore, one: OneSettings | None
) -> Secret:
    """Return a token that Alyx accepts. ``one`` is ONE's settings for the database.

    The token is the first of these that works:

    - the token from the environment
    - the tokens that onefs and ONE have saved
    - a new token for the password that ONE has saved
    - a new token for a password that the user types

    Raises what :func:`environment_token` and :func:`prompt_token` raise.
    """
    token = environment_token(transport, settings)
    if token is not None:
        return token
    username = settings.username
    for saved in (find_token(settings, store), one and one.tokens.get(username)):
        with suppress(AlyxCredentials):
            if saved:
                check_token(transport, settings.url, saved)
                say(f"the saved token of {username} still works")
                return saved
    if one is not None and one.password and one.username == username:
        with suppress(AlyxCredentials):
            token = fetch_token(transport, settings.url, username, one.password)
            say(f"the password that ONE has saved for {username} works")
            return token
    return prompt_token(transport, settings)


def environment_token(transport: Transport, settings: Settings) -> Secret | None:
    """Return the token in ONEFS_TOKEN, or a new token for the password in the environment.

    Return None if the environment has neither. Raises AlyxCredentials if Alyx refuses the token or
    password. Also raises the errors of requests.
    """
    token = os.environ.get("ONEFS_TOKEN") if is_environment_for(os.environ, settings.url) else None
    password = Secret(token.strip()) if token else find_alyx_password(settings)
    return None if password is None else obtain_token(transport, settings, password)


def prompt_token(transport: Transport, settings: Settings) -> Secret:
    """Ask for a password or token, and return a token that Alyx accepts.

    Raises NotConfigured without a terminal. Raises AlyxCredentials after MAX_PASSWORD_TRIES refused
    answers. Also raises the errors of requests.
    """
    if not can_prompt():
        raise no_terminal_error(
            "the password: set ONEFS_PASSWORD, ONEFS_PASSWORD_FILE or ONEFS_TOKEN"
        )
    question = f"Password (or token) of {settings.username} at {settings.url}"
    for _ in range(MAX_PASSWORD_TRIES - 1):
        try:
            return obtain_token(transport, settings, Secret(prompt_secret(question)))
        except AlyxCredentials as error:
            say(str(error), err=True)
    return obtain_token(transport, settings, Secret(prompt_secret(question)))

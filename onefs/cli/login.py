"""``onefs login`` and ``logout``: save and delete the secrets of a database.

The user types the passwords, or the passwords come from the environment. No command has a password
as an argument.
"""

from __future__ import annotations

import os
from dataclasses import replace

import click

from onefs.cli.data_login import prompt_missing_data_login
from onefs.cli.options import database_options
from onefs.cli.output import say
from onefs.cli.token_login import environment_token, prompt_token, prompt_username
from onefs.config.credentials import CredentialStore, Removal
from onefs.config.settings import Settings, resolve_settings
from onefs.errors import OnefsError, UsageError
from onefs.http import Transport

_SECRET_VARIABLES = ("ONEFS_TOKEN", "ONEFS_PASSWORD", "ONEFS_PASSWORD_FILE", "ONEFS_DATA_PASSWORD")


@click.command()
@database_options
def login(**flags: str | None) -> None:
    """Get a new Alyx token and save it; running mounts use it without a restart.

    The password comes from ONEFS_PASSWORD or ONEFS_PASSWORD_FILE. If neither is set, the command
    asks for the password. A token may be given in place of the password, or in ONEFS_TOKEN.
    """
    settings = _settings_with_login(flags)
    if not settings.username:
        settings = replace(settings, username=prompt_username(settings.url, ""))
    store = CredentialStore()
    with Transport() as transport:
        token = environment_token(transport, settings) or prompt_token(transport, settings)
        store.set_token(settings.url, settings.username, token)
        say(
            f"logged in to {settings.url} as {settings.username}; the token is in "
            f"{store.describe_location()}"
        )
        prompt_missing_data_login(transport, settings, store, token)


@click.command()
@database_options
def logout(**flags: str | None) -> None:
    """Delete the saved Alyx token of a database, and the saved password for its file server."""
    settings = _settings_with_login(flags)
    url, user = settings.url, settings.username
    store = CredentialStore()
    removals = {
        "the token": store.delete_token(url, user) if user else Removal(False),
        "the file server's password": store.delete_data_login(url),
    }
    removed = [name for name, removal in removals.items() if removal.removed]
    absent = [name for name, removal in removals.items() if removal == Removal(False)]
    if removed:
        say(f"deleted {' and '.join(removed)} of {url}")
    if any(removal.is_left_in_keyring for removal in removals.values()):
        raise OnefsError(
            f"the system keyring cannot be used here, so it may still hold a login for {url}: run "
            "`onefs logout` where the keyring works, such as on the desktop where you logged in"
        )
    if absent:
        say(f"{store.describe_location()} holds no copy of {' or '.join(absent)}")
        if store.is_keyring_unavailable():
            say(
                "the system keyring cannot be used here: if you logged in elsewhere with the "
                "keyring, such as on a desktop, run `onefs logout` there, too"
            )
    for name in _SECRET_VARIABLES:
        if os.environ.get(name):
            say(f"the environment variable {name} is still set, and onefs still uses it")


def _settings_with_login(flags: dict[str, str | None]) -> Settings:
    """Return the settings of a database. Raises UsageError for one that has no logins."""
    settings = resolve_settings(flags)
    if settings.public:
        raise UsageError("the public database has no logins: nobody needs an account for it")
    return settings

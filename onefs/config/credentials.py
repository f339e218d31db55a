"""Tokens and passwords: where they are stored, and which of them a command uses.

The Alyx token is stored. The Alyx password is never stored. If there is a system keyring, secrets
are stored in the keyring. Otherwise secrets are stored in ``<user config>/onefs/credentials.json``
(mode 0600 in a folder of mode 0700). This file also lists the names of the secrets in the keyring,
so that these names are known when the keyring is unavailable, for example over SSH.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from onefs.config.keyrings import Keyring, KeyringUnavailable, NoKeyringInstalled
from onefs.config.private_files import file_lock, read_json, write_json
from onefs.config.secret import Secret
from onefs.config.settings import Settings, config_dir, is_environment_for
from onefs.config.urls import normalise
from onefs.errors import UsageError, reason_of

if TYPE_CHECKING:
    from onefs.config.one_params import OneSettings


@dataclass(frozen=True, slots=True)
class DataCredentials:
    """User and password of the file server."""

    username: str
    password: Secret
    #: where user and password come from, for messages
    source: str


class Removal(NamedTuple):
    """Whether there was a secret to remove, and whether an unavailable keyring still has it.

    :meth:`CredentialStore.delete_token` and ``delete_data_login`` return this.
    """

    #: whether there was a secret to remove
    removed: bool
    #: whether the secret is also in the keyring, which is unavailable now
    is_left_in_keyring: bool = False


class CredentialStore:
    """Stores the secrets of this user in the keyring or in a file. Thread- and process-safe.

    Every method that reads or writes a secret raises UsageError if the file is broken or belongs to
    another user.
    """

    def __init__(self, path: Path | None = None, keyring: Keyring | None = None) -> None:
        self._path = path or config_dir() / "credentials.json"
        self._keyring = keyring or Keyring()

    def token(self, url: str, username: str) -> Secret | None:
        """Return the stored Alyx token of a user. Return None if no token is stored."""
        token = self._get(_token_key(url, username))
        return Secret(token) if token else None

    def set_token(self, url: str, username: str, token: str) -> None:
        """Store a user's Alyx token."""
        self._set(_token_key(url, username), token)

    def delete_token(self, url: str, username: str) -> Removal:
        """Remove a user's Alyx token. The returned Removal tells whether there was a token."""
        return self._delete(_token_key(url, username))

    def data_login(self, url: str) -> tuple[str, Secret] | None:
        """Return the stored user and password for the file server of the database at ``url``.

        Return None if no user and password are stored.
        """
        stored = self._get(_data_key(url))
        with suppress(ValueError):
            pair = json.loads(stored or "null")
            if isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair):
                return pair[0], Secret(pair[1])
        return None

    def set_data_login(self, url: str, username: str, password: str) -> None:
        """Store user and password for the file server of the database at ``url``."""
        self._set(_data_key(url), json.dumps([username, password]))

    def delete_data_login(self, url: str) -> Removal:
        """Remove the user and password for the file server of the database at ``url``.

        The returned Removal tells whether a user and a password were stored.
        """
        return self._delete(_data_key(url))

    def stamp(self) -> tuple[int, ...]:
        """Return a value that changes when any process writes or removes a secret.

        The value comes from one call of ``stat`` on ``credentials.json``.
        """
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def describe_location(self) -> str:
        """Return a text for messages that says where secrets are stored now.

        The text is ``the system keyring``, or the path of ``credentials.json``.
        """
        with suppress(KeyringUnavailable):
            self._keyring.get("probe")
            return "the system keyring"
        return str(self._path)

    def is_keyring_unavailable(self) -> bool:
        """Whether a keyring is installed but unavailable now.

        While the keyring is unavailable, the secrets in the keyring cannot be read.
        """
        try:
            self._keyring.get("probe")
        except NoKeyringInstalled:
            return False
        except KeyringUnavailable:
            return True
        return False

    def _get(self, key: str) -> str | None:
        # The file is read first, because a secret in the file is newer than one in the keyring. (A
        # secret that the keyring accepts is removed from the file.) A keyring is also slow: to load
        # and ask it takes as long as all other work of a search.
        secret = self._read()[0].get(key)
        if isinstance(secret, str):
            return secret
        with suppress(KeyringUnavailable):
            return self._keyring.get(key)
        return None

    def _set(self, key: str, secret: str) -> None:
        try:
            self._keyring.set(key, secret)
        except KeyringUnavailable:
            self._write(key, secret)
        else:
            self._write(key, None, in_keyring=True)

    def _delete(self, key: str) -> Removal:
        in_file = key in self._read()[0]
        try:
            in_keyring = self._keyring.delete(key)
        except KeyringUnavailable:
            return Removal(in_file, is_left_in_keyring=self._write(key, None))
        self._write(key, None, in_keyring=False)
        return Removal(in_file or in_keyring)

    def _read(self) -> tuple[dict[str, object], set[str]]:
        """Return the secrets in ``credentials.json``, and the names of secrets in the keyring."""
        data = read_json(self._path)
        entries, in_keyring = data.get("secrets", {}), data.get("in keyring", [])
        if not isinstance(entries, dict) or not isinstance(in_keyring, list):
            raise UsageError(
                f"the file {self._path} is broken: move the file away and run `onefs login`"
            )
        return entries, {str(name) for name in in_keyring}

    def _write(self, key: str, secret: str | None, in_keyring: bool | None = None) -> bool:
        """Write a secret to ``credentials.json``, or remove the secret if ``secret`` is None.

        The file also records whether the keyring has the secret: ``in_keyring``, or as before if
        this is None. Return what is recorded now.
        """
        with file_lock(self._path):
            entries, names = self._read()
            entries.pop(key, None)
            if secret is not None:
                entries[key] = secret
            if in_keyring is not None:
                names = names | {key} if in_keyring else names - {key}
            data: dict[str, object] = {"secrets": entries}
            if names:
                data["in keyring"] = sorted(names)
            # written even if no secret in the file changes, so that stamp() changes
            write_json(self._path, data)
        return key in names


def find_token(
    settings: Settings, store: CredentialStore, environ: Mapping[str, str] | None = None
) -> Secret | None:
    """Return the Alyx token, or None if there is no token.

    This is the token in ONEFS_TOKEN, unless ONEFS_URL names another database. Otherwise this is the
    stored token of the user.
    """
    environ = os.environ if environ is None else environ
    if environ.get("ONEFS_TOKEN") and is_environment_for(environ, settings.url):
        return Secret(environ["ONEFS_TOKEN"].strip())
    return store.token(settings.url, settings.username) if settings.username else None


def find_alyx_password(
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> Secret | None:
    """Return the Alyx password, or None if the password is unknown.

    The first of these sources that exists is used:

    - the variable ONEFS_PASSWORD
    - the file that the variable ONEFS_PASSWORD_FILE names
    - ``ask``, which shows its argument on the terminal and returns what the user types

    Variables that are for another database are ignored. ``ask`` is None without a terminal. Raises
    UsageError if the password file cannot be read.
    """
    environ = os.environ if environ is None else environ
    if is_environment_for(environ, settings.url):
        if environ.get("ONEFS_PASSWORD"):
            return Secret(environ["ONEFS_PASSWORD"])
        if environ.get("ONEFS_PASSWORD_FILE"):
            return _read_password_file(Path(environ["ONEFS_PASSWORD_FILE"]).expanduser())
    if ask is None:
        return None
    return Secret(ask(f"Password (or token) of {settings.username} at {settings.url}"))


def find_data_credentials(
    settings: Settings,
    store: CredentialStore,
    environ: Mapping[str, str] | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    home: Path | None = None,
) -> DataCredentials | None:
    """Return the user and password for the file server, or None if they are unknown.

    The first of these sources that has a password is used:

    - the arguments
    - the environment
    - the secrets stored for the database's URL
    - the settings that ONE has saved for this URL

    The Alyx password is never used.
    """
    environ = os.environ if environ is None else environ
    if password is not None:
        return DataCredentials(username or settings.data_username, Secret(password), "arguments")
    variable = environ.get("ONEFS_DATA_PASSWORD")
    if variable and settings.data_username and is_environment_for(environ, settings.url):
        return DataCredentials(settings.data_username, Secret(variable), "environment")
    stored = store.data_login(settings.url)
    if stored is not None:
        source = f"profile {settings.profile}" if settings.profile else f"stored for {settings.url}"
        return DataCredentials(*stored, source)
    saved = _find_in_one_params(settings.url, home)
    if saved is not None and saved.data_username and saved.data_password:
        return DataCredentials(saved.data_username, saved.data_password, str(saved.source))
    return None


def data_server_urls(settings: Settings, home: Path | None = None) -> list[str]:
    """Return a list that holds the URL of the file server. The list is empty if the URL is unknown.

    The URL is the one in the profile, otherwise the one that ONE has saved.
    """
    if settings.data_url:
        return [settings.data_url]
    saved = _find_in_one_params(settings.url, home)
    with suppress(UsageError):
        if saved is not None and saved.data_url:
            return [normalise(saved.data_url)]
    return []


def _read_password_file(path: Path) -> Secret:
    """Return the text of a file, without a newline at the end of the text.

    Raises UsageError if the file cannot be read or is not text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = reason_of(error, path) if isinstance(error, OSError) else "the file is not text"
        raise UsageError(f"ONEFS_PASSWORD_FILE {path} cannot be read: {why}") from error
    return Secret(text.removesuffix("\n").removesuffix("\r"))


def _token_key(url: str, username: str) -> str:
    return f"token {username} {url}"


def _data_key(url: str) -> str:
    return f"data {url}"


def _find_in_one_params(url: str, home: Path | None) -> OneSettings | None:
    """Return what ONE has saved for a database, or None."""
    # slow to import, and only needed if onefs has no login of its own
    from onefs.config import one_params

    return one_params.find_by_url(url, home)

"""Tokens and passwords: where they are stored, and which of them are used.

The Alyx token is stored, the Alyx password never. Secrets are stored in the system keyring if there
is one, else in ``<user config>/onefs/credentials.json`` (mode 0600 in a folder of mode 0700). That
file also names the secrets in the keyring, for when the keyring is unavailable, as over SSH.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onefs.config import one_params
from onefs.config.keyrings import Keyring, KeyringUnavailable, NoKeyringInstalled
from onefs.config.private_files import file_lock, read_json, write_json
from onefs.config.secret import Secret
from onefs.config.settings import Settings, config_dir, is_environment_for
from onefs.config.urls import normalise
from onefs.errors import UsageError, reason_of


@dataclass(frozen=True, slots=True)
class DataCredentials:
    """User and password of the file server."""

    username: str
    password: Secret
    #: where they come from, for messages
    source: str


@dataclass(frozen=True, slots=True)
class Removal:
    """The outcome of removing a secret."""

    #: whether there was one to remove
    removed: bool
    #: whether the secret is also in the keyring, which is unavailable now
    is_left_in_keyring: bool = False


class CredentialStore:
    """The stored secrets of this user, in the keyring or the file. Thread- and process-safe.

    Every method but :meth:`stamp` raises UsageError if the file is broken or another user's.
    """

    def __init__(self, path: Path | None = None, keyring: Keyring | None = None) -> None:
        self._path = path or config_dir() / "credentials.json"
        self._keyring = keyring or Keyring()

    def token(self, url: str, username: str) -> Secret | None:
        """Return the stored Alyx token of a user, None if there is none."""
        token = self._get(_token_key(url, username))
        return Secret(token) if token else None

    def set_token(self, url: str, username: str, token: str) -> None:
        """Store a user's Alyx token."""
        self._set(_token_key(url, username), token)

    def delete_token(self, url: str, username: str) -> Removal:
        """Remove a user's Alyx token."""
        return self._delete(_token_key(url, username))

    def data_login(self, url: str) -> tuple[str, Secret] | None:
        """Return user and password for the file server of the database ``url``, None if unknown."""
        stored = self._get(_data_key(url))
        with suppress(ValueError):
            pair = json.loads(stored or "null")
            if isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair):
                return pair[0], Secret(pair[1])
        return None

    def set_data_login(self, url: str, username: str, password: str) -> None:
        """Store user and password of a database's file server."""
        self._set(_data_key(url), json.dumps([username, password]))

    def delete_data_login(self, url: str) -> Removal:
        """Remove user and password of a database's file server."""
        return self._delete(_data_key(url))

    def stamp(self) -> tuple[int, ...]:
        """Return a value that changes when any process writes a secret; costs one ``stat``."""
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def describe_location(self) -> str:
        """Return where secrets are stored, for messages."""
        with suppress(KeyringUnavailable):
            self._keyring.get("probe")
            return "the system keyring"
        return str(self._path)

    def is_keyring_unavailable(self) -> bool:
        """Whether a keyring is installed but unavailable now, so that its secrets are unknown."""
        try:
            self._keyring.get("probe")
        except NoKeyringInstalled:
            return False
        except KeyringUnavailable:
            return True
        return False

    def _get(self, key: str) -> str | None:
        # A secret that the keyring accepts is removed from the file, so one in the file is newer.
        # To load and ask a keyring also takes as long as all the rest of a search.
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
        """Return the secrets in the file, and the names of those in the keyring."""
        data = read_json(self._path)
        entries, in_keyring = data.get("secrets", {}), data.get("in keyring", [])
        if not isinstance(entries, dict) or not isinstance(in_keyring, list):
            raise UsageError(f"{self._path} is broken: move it away and run `onefs login`")
        return entries, {str(name) for name in in_keyring}

    def _write(self, key: str, secret: str | None, in_keyring: bool | None = None) -> bool:
        """Rewrite the file, also if only the keyring has the secret, so that ``stamp`` changes.

        ``in_keyring`` is whether the keyring has the secret now, None if it is unavailable. Returns
        whether the keyring has it as far as is known.
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
            write_json(self._path, data)
        return key in names


def find_token(
    settings: Settings, store: CredentialStore, environ: Mapping[str, str] | None = None
) -> Secret | None:
    """Return ONEFS_TOKEN, else the stored Alyx token; None if there is neither."""
    environ = os.environ if environ is None else environ
    if environ.get("ONEFS_TOKEN") and is_environment_for(environ, settings.url):
        return Secret(environ["ONEFS_TOKEN"].strip())
    return store.token(settings.url, settings.username) if settings.username else None


def find_alyx_password(
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> Secret | None:
    """Return ONEFS_PASSWORD, else the content of ONEFS_PASSWORD_FILE, else what ``ask`` returns.

    ``ask`` prompts with its argument on the terminal; it is None if there is no terminal. Raises
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
    """Return user and password of the file server; None to send nothing.

    The first of these is used: the arguments, the environment, what is stored for the database's
    URL, what ONE has saved for that URL. The Alyx password is never used.
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
    saved = one_params.find_by_url(settings.url, home)
    if saved is not None and saved.data_username and saved.data_password:
        return DataCredentials(saved.data_username, saved.data_password, str(saved.source))
    return None


def data_server_urls(settings: Settings, home: Path | None = None) -> list[str]:
    """Return the file server of the profile, else the one that ONE has saved; [] for neither."""
    if settings.data_url:
        return [settings.data_url]
    saved = one_params.find_by_url(settings.url, home)
    with suppress(UsageError):
        if saved is not None and saved.data_url:
            return [normalise(saved.data_url)]
    return []


def _read_password_file(path: Path) -> Secret:
    """Return the file's text without a newline at its end."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = reason_of(error, path) if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"ONEFS_PASSWORD_FILE {path} cannot be read: {why}") from error
    return Secret(text.removesuffix("\n").removesuffix("\r"))


def _token_key(url: str, username: str) -> str:
    return f"token {username} {url}"


def _data_key(url: str) -> str:
    return f"data {url}"

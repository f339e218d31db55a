"""Tokens and passwords: where they are kept, and which of them is used.

The Alyx token is kept, the Alyx password never. Secrets lie in the system keyring where there is
one, else in ``<user config>/onefs/credentials.json`` (0600 in a 0700 folder). That file also names
what the keyring was given: where the keyring cannot be asked, as over SSH, it tells what stays.
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
    """The file server's user and password, and where they come from."""

    username: str
    password: Secret
    source: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of a secret that was to be forgotten."""

    #: it was kept, and is gone
    removed: bool
    #: the keyring was given it and cannot be asked now
    is_left_in_keyring: bool = False


class CredentialStore:
    """The secrets of this user, in the keyring or the file. Thread- and process-safe.

    Every method but :meth:`stamp` may raise UsageError, for a file that is broken or not ours.
    """

    def __init__(self, path: Path | None = None, keyring: Keyring | None = None) -> None:
        self._path = path or config_dir() / "credentials.json"
        self._keyring = keyring or Keyring()

    def token(self, url: str, username: str) -> Secret | None:
        """The kept Alyx token of a user."""
        found = self._get(_token_key(url, username))
        return Secret(found) if found else None

    def set_token(self, url: str, username: str, token: str) -> None:
        """Keep a user's Alyx token."""
        self._set(_token_key(url, username), token)

    def delete_token(self, url: str, username: str) -> Removal:
        """Forget a user's Alyx token."""
        return self._delete(_token_key(url, username))

    def data_login(self, url: str) -> tuple[str, Secret] | None:
        """User and password of the file server that belongs to the database ``url``."""
        found = self._get(_data_key(url))
        with suppress(ValueError):
            pair = json.loads(found or "null")
            if isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair):
                return pair[0], Secret(pair[1])
        return None

    def set_data_login(self, url: str, username: str, password: str) -> None:
        """Keep user and password of a database's file server."""
        self._set(_data_key(url), json.dumps([username, password]))

    def delete_data_login(self, url: str) -> Removal:
        """Forget user and password of a database's file server."""
        return self._delete(_data_key(url))

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever any process writes a secret; costs one stat."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    def describe_location(self) -> str:
        """Where secrets are written, in words."""
        with suppress(KeyringUnavailable):
            self._keyring.get("probe")
            return "the system keyring"
        return str(self._path)

    def is_keyring_unavailable(self) -> bool:
        """Whether a keyring is installed that cannot be asked now: what it has is not known."""
        try:
            self._keyring.get("probe")
        except NoKeyringInstalled:
            return False
        except KeyringUnavailable:
            return True
        return False

    def _get(self, key: str) -> str | None:
        # What the keyring takes goes from the file, so what is in the file is the latest; and to
        # load and ask a keyring takes as long as all else that a search does.
        found = self._file_entries().get(key)
        if isinstance(found, str):
            return found
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
        in_file = key in self._file_entries()
        try:
            in_keyring = self._keyring.delete(key)
        except KeyringUnavailable:
            return Removal(in_file, is_left_in_keyring=self._write(key, None))
        self._write(key, None, in_keyring=False)
        return Removal(in_file or in_keyring)

    def _file_entries(self) -> dict[str, object]:
        return self._read()[0]

    def _read(self) -> tuple[dict[str, object], set[str]]:
        """The secrets in the file, and the names of those that the keyring was given."""
        found = read_json(self._path)
        entries, given = found.get("secrets", {}), found.get("in keyring", [])
        if not isinstance(entries, dict) or not isinstance(given, list):
            raise UsageError(f"{self._path} is broken: move it away and run `onefs login`")
        return entries, {str(name) for name in given}

    def _write(self, key: str, secret: str | None, in_keyring: bool | None = None) -> bool:
        """Rewrite the file, also when the keyring has the secret: it is what ``stamp`` watches.

        ``in_keyring`` says whether the keyring has it now, None where it could not be asked.
        Returns whether it has it, as far as is known.
        """
        with file_lock(self._path):
            entries, given = self._read()
            entries.pop(key, None)
            if secret is not None:
                entries[key] = secret
            if in_keyring is not None:
                given = given | {key} if in_keyring else given - {key}
            kept: dict[str, object] = {"secrets": entries}
            if given:
                kept["in keyring"] = sorted(given)
            write_json(self._path, kept)
        return key in given


def find_token(
    settings: Settings, store: CredentialStore, environ: Mapping[str, str] | None = None
) -> Secret | None:
    """The Alyx token to use without asking anybody: ONEFS_TOKEN, else the kept one."""
    environ = os.environ if environ is None else environ
    if environ.get("ONEFS_TOKEN") and is_environment_for(environ, settings.url):
        return Secret(environ["ONEFS_TOKEN"].strip())
    return store.token(settings.url, settings.username) if settings.username else None


def find_alyx_password(
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> Secret | None:
    """ONEFS_PASSWORD, else the file that ONEFS_PASSWORD_FILE names, else what ``ask`` gets.

    ``ask`` prompts on the terminal and is None where there is none. Raises UsageError when the
    password file cannot be read.
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
    """The file server's user and password; the first found wins.

    Asked in order: the arguments, the environment, what is kept for the database's URL, ONE's
    saved settings for that URL. The Alyx password is none of them. None: send nothing.
    """
    environ = os.environ if environ is None else environ
    if password is not None:
        return DataCredentials(username or settings.data_username, Secret(password), "arguments")
    variable = environ.get("ONEFS_DATA_PASSWORD")
    if variable and settings.data_username and is_environment_for(environ, settings.url):
        return DataCredentials(settings.data_username, Secret(variable), "environment")
    kept = store.data_login(settings.url)
    if kept is not None:
        source = f"profile {settings.profile}" if settings.profile else f"kept for {settings.url}"
        return DataCredentials(kept[0], kept[1], source)
    saved = one_params.find_by_url(settings.url, home)
    if saved is not None and saved.data_username and saved.data_password:
        return DataCredentials(saved.data_username, saved.data_password, str(saved.source))
    return None


def data_server_urls(settings: Settings, home: Path | None = None) -> list[str]:
    """The file server that the pair belongs to: the profile's, else the one that ONE has saved.

    [] when neither names one.
    """
    if settings.data_url:
        return [settings.data_url]
    saved = one_params.find_by_url(settings.url, home)
    with suppress(UsageError):
        if saved is not None and saved.data_url:
            return [normalise(saved.data_url)]
    return []


def _read_password_file(path: Path) -> Secret:
    """The file's text without one newline at its end."""
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

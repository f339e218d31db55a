"""From the arguments of ``ONE()`` to a laboratory opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onefs.access import Access, Deadlines, GivenLogin
from onefs.alyx.auth import log_in, unsaved_token
from onefs.cache.folder_check import check_usable_as_cache
from onefs.config.credentials import (
    CredentialStore,
    DataCredentials,
    find_data_credentials,
    find_token,
)
from onefs.config.secret import Secret
from onefs.config.settings import Settings, parse_data_hosts
from onefs.databases import (
    ResolvedDatabase,
    other_users_mount,
    other_users_mount_at,
    resolve_database,
)
from onefs.errors import (
    DeadlineExceeded,
    NotConfigured,
    Throttled,
    Unreachable,
    UsageError,
    WrongScheme,
)
from onefs.http import Transport

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo


@dataclass(frozen=True, slots=True)
class ConnectionArguments:
    """What ``ONE()`` was given; None where it was given nothing."""

    username: str | None = None
    password: str | None = None
    base_url: str | None = None
    token: str | None = None
    profile: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    data_username: str | None = None
    data_password: str | None = None
    #: file servers that may have them, as in ONEFS_DATA_HOSTS
    data_hosts: str | None = None
    #: never ask a server
    offline: bool = False
    #: never ask on the terminal
    silent: bool = False

    def __post_init__(self) -> None:
        for name in ("username", "password", "base_url", "token", "profile", "data_username",
                     "data_password", "data_hosts"):  # fmt: skip
            _check_text(name, getattr(self, name))
        if self.data_hosts is not None:
            parse_data_hosts(self.data_hosts, "data_hosts")
        if self.cache_dir is not None:
            if not isinstance(self.cache_dir, (str, os.PathLike)):
                raise UsageError(f"cache_dir is {type(self.cache_dir).__name__}: give a path")
            _check_text("cache_dir", os.fspath(self.cache_dir))

    def flags(self) -> dict[str, str | None]:
        """What of it says which database is meant."""
        return {
            "url": self.base_url,
            "username": self.username,
            "profile": self.profile,
            "cache_dir": None if self.cache_dir is None else os.fspath(self.cache_dir),
            "data_username": self.data_username,
            "data_hosts": self.data_hosts,
        }

    def has_secret(self) -> bool:
        """Whether there is something that only the server that is meant may see."""
        return any(each is not None for each in (self.password, self.token, self.data_password))


def open_access(asked: ConnectionArguments, set_up: Callable[[], None]) -> tuple[Access, Settings]:
    """The laboratory that the arguments name, and the settings that it has.

    Where nothing is named or set up it is the one that is mounted, if there is only one and no
    secret is given; else ``set_up_logging`` asks a user at a terminal. Raises NotConfigured,
    UsageError, AlyxCredentials, Unreachable (when nothing is known of the laboratory) or
    CacheError.
    """
    site = _resolve_site(asked, set_up)
    check_usable_as_cache(site.settings.cache_dir, site.settings.state_dir)
    known = None if asked.offline else site.embedded_login()
    if known is not None:
        settings, login = known
    else:
        settings, login = site.settings, _given_login(asked, site.settings)
        if not (asked.offline or login.token or login.password):
            login = replace(login, token=_ensure_token(asked, settings))
    deadlines = Deadlines.from_environment()
    access = Access(
        settings, site.database, login=login, deadlines=deadlines, offline=asked.offline
    )
    return access, settings


def mount_of_another(asked: ConnectionArguments) -> MountInfo | None:
    """The mount of another user that is meant: named as ``cache_dir``, or where nothing is named or
    set up; None for a database of this user."""
    named = asked.flags()
    folder = named.pop("cache_dir")
    if asked.has_secret() or any(named.values()):
        return None
    if folder is not None:
        return other_users_mount_at(folder)
    return other_users_mount(asked.flags())


def _resolve_site(asked: ConnectionArguments, set_up: Callable[[], None]) -> ResolvedDatabase:
    try:
        return resolve_database(asked.flags(), allow_mounted=not asked.has_secret())
    except NotConfigured:
        if asked.silent or not _can_prompt():
            raise
        set_up()
        return resolve_database(asked.flags(), allow_mounted=False)


def _given_login(asked: ConnectionArguments, settings: Settings) -> GivenLogin:
    if asked.password is not None and not settings.username:
        raise UsageError("a password is given for nobody: add username=")
    data: DataCredentials | None = None
    if asked.data_password is not None:
        if not settings.data_username:
            raise UsageError("data_password is given for nobody: add data_username=")
        data = find_data_credentials(settings, CredentialStore(), password=asked.data_password)
    return GivenLogin(
        password=Secret(asked.password) if asked.password else "",
        data=data,
        token=Secret(asked.token.strip()) if asked.token else "",
    )


def _ensure_token(asked: ConnectionArguments, settings: Settings) -> Secret:
    """Have a token kept, and return it where it cannot be; a server that is away matters only
    when nothing is known."""
    store = CredentialStore()
    if find_token(settings, store) is not None:
        return Secret("")
    ask = None if asked.silent or not _can_prompt() else _prompt_secret
    try:
        with Transport() as transport:
            token = log_in(transport, settings, store, ask=ask)
    except WrongScheme:
        raise
    except (Unreachable, DeadlineExceeded, Throttled):
        if not (settings.state_dir / "catalogue.sqlite").exists():
            raise
        return Secret("")
    return unsaved_token(settings, store, token)


def _prompt_secret(question: str) -> str:
    from getpass import getpass

    return getpass(f"{question}: ")


def _can_prompt() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise UsageError(f"{name} is {type(value).__name__}: give a text")
    if not value.strip():
        raise UsageError(f"{name} is empty: leave it out, or give it a value")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise UsageError(f"{name} holds characters that cannot be sent")

"""Opening of the laboratory (one database) that the arguments of ``ONE()`` identify."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from onefs.access import Access, GivenLogin, ensure_token
from onefs.config.credentials import (
    CredentialStore,
    DataCredentials,
    find_data_credentials,
)
from onefs.config.public_bucket import ALYX_URL
from onefs.config.secret import Secret
from onefs.config.settings import Settings, parse_data_hosts
from onefs.config.urls import normalise
from onefs.databases import (
    ResolvedDatabase,
    other_users_mount,
    other_users_mount_at,
    resolve_database,
)
from onefs.errors import NotConfigured, UsageError

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo

#: the modes of ONE-api
_MODES = ("local", "remote")
#: the user of IBL's public Alyx whom everybody may be
_PUBLIC_USERNAME = "intbrainlab"


@dataclass(frozen=True, slots=True)
class ConnectionArguments:
    """The arguments of ``ONE()``. An argument that was not given is None."""

    username: str | None = None
    password: str | None = None
    base_url: str | None = None
    token: str | None = None
    profile: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    #: disks whose files are served in place, separated by colons
    source: str | os.PathLike[str] | None = None
    data_username: str | None = None
    data_password: str | None = None
    #: file servers that may receive ``data_username`` and ``data_password``, in the form of
    #: ONEFS_DATA_HOSTS: ``https://host``, separated by commas
    data_hosts: str | None = None
    #: whether the database is IBL's public one, which needs no account
    public: bool = False
    #: whether no request may be sent
    offline: bool = False
    #: whether nothing may be asked on the terminal
    silent: bool = False
    #: ``local`` or ``remote``, as in ONE-api
    mode: str | None = None
    #: whether texts that name datasets may be patterns, as in ONE-api
    wildcards: bool = True
    #: the folder of ONE-api's tables, which has no meaning here
    tables_dir: str | os.PathLike[str] | None = None
    #: ``GET`` if answers of ``alyx.rest`` may be used again for some minutes
    cache_rest: str | None = "GET"

    def __post_init__(self) -> None:
        for name in ("username", "password", "base_url", "token", "profile", "data_username",
                     "data_password", "data_hosts", "cache_rest"):  # fmt: skip
            _check_text(name, getattr(self, name))
        for name in ("public", "offline", "silent", "wildcards"):
            check_bool(name, getattr(self, name))
        if self.mode is not None:
            check_mode("mode", self.mode)
        if self.offline and self.mode == "remote":
            raise UsageError("mode='remote' contradicts offline=True: leave one of them out")
        if self.data_hosts is not None:
            parse_data_hosts(self.data_hosts, "data_hosts")
        for name in ("cache_dir", "source", "tables_dir"):
            path = getattr(self, name)
            if path is None:
                continue
            if not isinstance(path, (str, os.PathLike)):
                raise UsageError(f"the argument {name} is {type(path).__name__}: give a path")
            _check_text(name, os.fspath(path))

    @property
    def sends_no_request(self) -> bool:
        """Whether only what is known may be used."""
        return self.offline or self.mode == "local"

    def flags(self) -> dict[str, str | None]:
        """Return a dict of the arguments that identify the database.

        The keys are the names of the same flags on the command line, for example ``url``.
        """
        username = self.username
        if username is None and self.password is not None and self.base_url is not None:
            username = default_username(self.base_url)
        return {
            "public": "yes" if self.public else None,
            "url": self.base_url,
            "username": username,
            "profile": self.profile,
            "cache_dir": None if self.cache_dir is None else os.fspath(self.cache_dir),
            "source": None if self.source is None else os.fspath(self.source),
            "data_username": self.data_username,
            "data_hosts": self.data_hosts,
        }

    def has_secret(self) -> bool:
        """Whether a password or token is given.

        If so, no mounted database is opened, because only the server in ``base_url`` may receive
        the password or token.
        """
        return any(each is not None for each in (self.password, self.token, self.data_password))


def open_access(
    arguments: ConnectionArguments, set_up: Callable[[], None]
) -> tuple[Access, Settings]:
    """Open the database that the arguments identify. Return it, and its settings (address, login).

    The database is the first of these:

    - the database that the arguments name, or that is set up
    - the only mounted database, if no password or token is given
    - the database that ``set_up`` asks for, if there is a terminal

    Raises NotConfigured, UsageError, AlyxCredentials or CacheError. Raises Unreachable if Alyx is
    unreachable and the catalogue is empty.
    """
    site = _resolve_site(arguments, set_up)
    login = GivenLogin() if site.is_embedded else _given_login(arguments, site.settings)
    ask = None if arguments.silent or not _can_prompt() else _prompt_secret
    log_in = partial(ensure_token, ask=ask, check_saved=False)
    access = site.open(login, log_in, offline=arguments.sends_no_request)
    return access, access.settings


def mount_of_another(arguments: ConnectionArguments) -> MountInfo | None:
    """Return the mount of another user that contains ``cache_dir``.

    Without ``cache_dir``, return the mount that :func:`onefs.databases.other_users_mount` finds.
    Return None if there is no such mount, or if another argument names a database or a login.
    """
    named = arguments.flags()
    folder = named.pop("cache_dir")
    if arguments.has_secret() or any(named.values()):
        return None
    if folder is not None:
        return other_users_mount_at(folder)
    return other_users_mount(arguments.flags())


def _resolve_site(arguments: ConnectionArguments, set_up: Callable[[], None]) -> ResolvedDatabase:
    try:
        return resolve_database(arguments.flags(), allow_mounted=not arguments.has_secret())
    except NotConfigured:
        if arguments.silent or not _can_prompt():
            raise
        set_up()
        return resolve_database(arguments.flags(), allow_mounted=False)


def _given_login(arguments: ConnectionArguments, settings: Settings) -> GivenLogin:
    if arguments.password is not None and not settings.username:
        raise UsageError("a password is given without a user: add username=")
    data: DataCredentials | None = None
    if arguments.data_password is not None:
        if not settings.data_username:
            raise UsageError("data_password is given without a user: add data_username=")
        data = find_data_credentials(settings, CredentialStore(), password=arguments.data_password)
    return GivenLogin(
        password=Secret(arguments.password) if arguments.password else "",
        data=data,
        token=Secret(arguments.token.strip()) if arguments.token else "",
    )


def default_username(url: str) -> str | None:
    """Return the user that ONE-api assumes for IBL's public Alyx. Return None for other servers."""
    return _PUBLIC_USERNAME if normalise(url) == ALYX_URL else None


def token_text(token: object) -> str | None:
    """Return a token as text. ONE-api also takes a dict with the key ``token``, as Alyx sends it.

    Raises UsageError if it is neither.
    """
    text = token.get("token") if isinstance(token, Mapping) else token
    if isinstance(token, Mapping) and text is None:
        raise UsageError("the argument token is a dict without the key token: give the text")
    _check_text("token", text)
    return cast("str | None", text)


def check_mode(name: str, mode: object) -> None:
    """Raise UsageError if the argument ``name`` is not one of the modes of ONE-api."""
    if mode not in _MODES:
        raise UsageError(
            f"the argument {name} is {ascii(mode)[:80]}: give 'local', to send no request, or "
            "'remote'"
        )


def check_bool(name: str, value: object) -> None:
    """Raise UsageError if the argument ``name`` is neither True nor False."""
    if not isinstance(value, bool):
        raise UsageError(f"the argument {name} is {type(value).__name__}: give True or False")


def _prompt_secret(question: str) -> str:
    from getpass import getpass

    return getpass(f"{question}: ")


def _can_prompt() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise UsageError(f"the argument {name} is {type(value).__name__}: give a text")
    if not value.strip():
        raise UsageError(f"the argument {name} is empty: give a value, or leave the argument out")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise UsageError(f"the argument {name} contains characters that cannot be sent")

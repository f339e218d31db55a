"""``onefs setup``, ``login``, ``logout``: which database, who, and what lets us in.

Everything is tested against the servers before anything is written. ONE's own settings are
offered as defaults and never changed. Passwords are asked for or come from the environment; they
are never arguments.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import click

from onefs.alyx.auth import check_token, fetch_token, obtain_token
from onefs.cache.folder_check import check_usable_as_cache, is_adopt_requested, mark_as_cache_folder
from onefs.cli.file_servers import FileServer, find_file_servers, try_login
from onefs.cli.options import (
    TRUST_VARIABLE,
    can_prompt,
    database_options,
    prompt,
    prompt_secret,
    say,
    trust_options,
)
from onefs.config import one_params, settings
from onefs.config.credentials import (
    CredentialStore,
    DataCredentials,
    Removal,
    data_server_urls,
    find_alyx_password,
    find_data_credentials,
    find_token,
)
from onefs.config.one_params import OneSettings
from onefs.config.secret import Secret
from onefs.config.settings import Profile, Settings
from onefs.config.urls import host_key, normalise, origin
from onefs.errors import (
    AlyxCredentials,
    DataServerCredentials,
    DeadlineExceeded,
    NotConfigured,
    OnefsError,
    Unreachable,
    UsageError,
)
from onefs.http import Transport
from onefs.integers import parse_whole_number
from onefs.lowlevel.paths import absolute

#: how often a password is asked for
MAX_PASSWORD_TRIES = 3


@dataclass(frozen=True, slots=True)
class _SetupArguments:
    """What the command line of ``onefs setup`` says; None where it says nothing."""

    url: str | None
    username: str | None
    profile: str | None
    cache_dir: str | None
    data_username: str | None

    def flags(self, url: str) -> dict[str, str | None]:
        return {"url": url, "username": self.username, "data_username": self.data_username}


@click.command()
@database_options
@click.option("--cache-dir", type=click.Path(file_okay=False), help="Where files are kept.")
@trust_options
@click.option("--data-username", metavar="NAME", help="The file server's user.")
@click.option("--default/--no-default", "default", default=None, help="Use it when none is named.")
def setup(
    url: str | None,
    username: str | None,
    profile: str | None,
    cache_dir: str | None,
    data_username: str | None,
    default: bool | None,
) -> None:
    """Save a database's URL, user and credentials, after testing them.

    Asks for what is not given. Without a terminal everything comes from the options and from
    ONEFS_PASSWORD (or ONEFS_PASSWORD_FILE, ONEFS_TOKEN) and ONEFS_DATA_PASSWORD.
    """
    given = _SetupArguments(url, username, profile, cache_dir, data_username)
    store = CredentialStore()
    book = settings.load_settings_file()
    chosen = _choose_url(given, book)
    saved = one_params.find_by_url(chosen)
    found = _choose_user(given, chosen, saved)
    with Transport() as transport:
        token = _find_token(transport, found, store, saved)
        data = _find_data_login(transport, found, store, token)
    row = replace(
        book.profile_of_url(chosen) or Profile(_profile_name(book, chosen), chosen),
        username=found.username,
        cache_dir=_choose_cache(given, book, found, saved),
        data_url=found.data_url if data is None else data.url,
        data_username="" if data is None else data.credentials.username,
        data_hosts=",".join(found.data_hosts if data is None else data.hosts),
    )
    if given.profile:
        row = replace(row, name=given.profile)
    if trust := os.environ.get(TRUST_VARIABLE):
        row = replace(row, trust_cache_dir=trust)
    if row.cache_dir and is_adopt_requested():  # so that later commands use it without the flag
        mark_as_cache_folder(Path(row.cache_dir))
    settings.save_profile(row, default=bool(default))
    store.set_token(chosen, found.username, token)
    if data is not None:
        store.set_data_login(chosen, data.credentials.username, data.credentials.password)
    elif store.data_login(chosen) is not None:
        store.delete_data_login(chosen)
    say(f"saved profile {row.name}: {row.username} at {row.url}")
    if data is not None and (servers := [*filter(None, [data.url]), *data.hosts]):
        say(f"the file server's login goes to {', '.join(servers)}, and to no other host")
    say(f"secrets are kept in {store.describe_location()}")


@click.command()
@database_options
def login(url: str | None, username: str | None, profile: str | None) -> None:
    """Get a new Alyx token and keep it; mounts take it up by themselves.

    The password comes from ONEFS_PASSWORD or ONEFS_PASSWORD_FILE, else it is asked for; a token
    may be given instead, there or in ONEFS_TOKEN.
    """
    found = settings.resolve_settings({"url": url, "username": username, "profile": profile})
    if not found.username:
        found = replace(found, username=_prompt_user(found.url, ""))
    store = CredentialStore()
    with Transport() as transport:
        token = _environment_token(transport, found) or _prompt_token(transport, found)
        store.set_token(found.url, found.username, token)
        say(
            f"logged in to {found.url} as {found.username}; the token is in "
            f"{store.describe_location()}"
        )
        _prompt_missing_data_login(transport, found, store, token)


@click.command()
@database_options
def logout(url: str | None, username: str | None, profile: str | None) -> None:
    """Forget a database's Alyx token and its file server's password."""
    found = settings.resolve_settings({"url": url, "username": username, "profile": profile})
    store = CredentialStore()
    token = store.delete_token(found.url, found.username) if found.username else Removal(False)
    data = store.delete_data_login(found.url)
    secrets = {"the token": token, "the file server's password": data}
    gone = [name for name, removal in secrets.items() if removal.removed]
    absent = [name for name, removal in secrets.items() if removal == Removal(False)]
    if gone:
        say(f"forgot {' and '.join(gone)} of {found.url}")
    if token.is_left_in_keyring or data.is_left_in_keyring:
        raise OnefsError(
            f"what the system keyring has of {found.url} stays in it, since it cannot be asked "
            "here: run `onefs logout` where it can, as on the desktop where you logged in"
        )
    if absent:
        say(f"{store.describe_location()} holds no copy of {' or '.join(absent)}")
        if store.is_keyring_unavailable():
            say(
                "the system keyring could not be asked: where you have logged in with it, as on a "
                "desktop, run `onefs logout` there"
            )
    for name in ("ONEFS_TOKEN", "ONEFS_PASSWORD", "ONEFS_PASSWORD_FILE", "ONEFS_DATA_PASSWORD"):
        if os.environ.get(name):
            say(f"{name} is still set, and is used")


@dataclass(frozen=True, slots=True)
class _DataLogin:
    """The file server's credentials as the profile will have them."""

    credentials: DataCredentials
    #: the origin that accepted them; '' when none has answered
    url: str
    #: other origins that may have them
    hosts: tuple[str, ...]


def _choose_url(given: _SetupArguments, book: settings.SettingsFile) -> str:
    """The database to set up. Raises UsageError or NotConfigured."""
    if given.url:
        return normalise(given.url)
    named = book.profiles.get(given.profile) if given.profile else None
    default = named.url if named is not None else os.environ.get("ONEFS_URL", "")
    if not can_prompt():
        return normalise(default or _raise_no_terminal("the URL: give --url or set ONEFS_URL"))
    if not default and not given.profile and (fallback := book.default_profile()) is not None:
        default = fallback.url
    if not default and (saved := one_params.find_default()) is not None:
        default = saved.url
    while True:
        try:
            url = normalise(prompt("URL of the Alyx server", default))
            _check_server(url)
        except OnefsError as error:
            say(str(error), err=True)
        else:
            return url


def _check_server(url: str) -> None:
    """Raise what is in the way of talking to the server, before anything secret is asked for."""
    with Transport() as transport:
        try:
            transport.get_json(f"{url}/labs", params={"limit": "1"})
        except (Unreachable, DeadlineExceeded) as error:
            raise Unreachable(f"{url} was tried: {error}") from error
        except OnefsError:  # it answers: what is wrong with it is told with the first log-in
            return


def _choose_user(given: _SetupArguments, url: str, saved: OneSettings | None) -> Settings:
    """The settings so far, with a user: asked for when there is a terminal."""
    found = settings.resolve_settings(given.flags(url))
    default = found.username or (saved.username if saved is not None else "")
    if given.username or (default and not can_prompt()):
        return replace(found, username=default)
    return replace(found, username=_prompt_user(url, default))


def _prompt_user(url: str, default: str) -> str:
    if not can_prompt():
        _raise_no_terminal("the user name: give --username or set ONEFS_USERNAME")
    return prompt(f"User name at {url}", default)


def _find_token(
    transport: Transport, found: Settings, store: CredentialStore, saved: OneSettings | None
) -> Secret:
    """A token that works: given, kept by us or by ONE, or got for the password."""
    token = _environment_token(transport, found)
    if token is not None:
        return token
    for kept in (find_token(found, store), saved and saved.tokens.get(found.username)):
        with suppress(AlyxCredentials):
            if kept:
                check_token(transport, found.url, kept)
                say(f"the saved token of {found.username} still works")
                return kept
    if saved is not None and saved.password and saved.username == found.username:
        with suppress(AlyxCredentials):
            token = fetch_token(transport, found.url, found.username, saved.password)
            say(f"the password that ONE has saved for {found.username} works")
            return token
    return _prompt_token(transport, found)


def _environment_token(transport: Transport, found: Settings) -> Secret | None:
    """The token that the environment gives, or gives a password for; None without either."""
    token = (
        os.environ.get("ONEFS_TOKEN")
        if settings.is_environment_for(os.environ, found.url)
        else None
    )
    password = Secret(token.strip()) if token else find_alyx_password(found)
    return None if password is None else obtain_token(transport, found, password)


def _prompt_token(transport: Transport, found: Settings) -> Secret:
    """A token for the password that is typed; asked TRIES times."""
    if not can_prompt():
        _raise_no_terminal("the password: set ONEFS_PASSWORD, ONEFS_PASSWORD_FILE or ONEFS_TOKEN")
    for left in reversed(range(MAX_PASSWORD_TRIES)):
        typed = Secret(prompt_secret(f"Password (or token) of {found.username} at {found.url}"))
        try:
            return obtain_token(transport, found, typed)
        except AlyxCredentials as error:
            if not left:
                raise
            say(str(error), err=True)
    raise AssertionError("the last try returns or raises")


def _find_data_login(
    transport: Transport, found: Settings, store: CredentialStore, token: Secret
) -> _DataLogin | None:
    """User and password of the file server, tried out; None when it needs none or has none."""
    known = find_data_credentials(found, store)
    if known is not None and found.data_username not in ("", known.username):
        known = None  # saved for another user than the one that is named now
    servers = find_file_servers(
        transport, found.url, token, [*data_server_urls(found), *found.data_hosts]
    )
    needed = any(server.is_protected for server in servers)
    for left in reversed(range(MAX_PASSWORD_TRIES)):
        offered = _prompt_data_credentials(known, found, needed=needed) if can_prompt() else known
        if offered is None:
            _warn_of_missing_login(servers)
            return None
        try:
            return _test_data_login(transport, found, servers, offered)
        except DataServerCredentials as error:
            if not left or not can_prompt():
                raise
            say(str(error), err=True)
            known = None
    raise AssertionError("the last try returns or raises")


def _prompt_missing_data_login(
    transport: Transport, found: Settings, store: CredentialStore, token: Secret
) -> None:
    """Ask for the file server's password, and keep it, where a saved database lacks one that it
    needs; without a terminal nothing is asked."""
    saved = settings.load_settings_file().profile_of_url(found.url)
    if saved is None or not can_prompt() or find_data_credentials(found, store) is not None:
        return
    bases = [*data_server_urls(found), *found.data_hosts]
    if not any(each.is_protected for each in find_file_servers(transport, found.url, token, bases)):
        return
    data = _find_data_login(transport, found, store, token)
    if data is None:
        return
    user, hosts = data.credentials.username, ",".join(data.hosts)
    row = replace(saved, data_url=data.url, data_username=user, data_hosts=hosts)
    settings.save_profile(row, default=False)
    store.set_data_login(found.url, user, data.credentials.password)
    say(f"the file server's password of {user} is in {store.describe_location()}")


def _warn_of_missing_login(servers: Sequence[FileServer]) -> None:
    for server in servers:
        if server.is_protected:
            say(f"warning: {server.error}", err=True)


def _test_data_login(
    transport: Transport,
    found: Settings,
    servers: Sequence[FileServer],
    offered: DataCredentials,
) -> _DataLogin:
    """What to keep of a login that was offered, after sending it to the servers that may have it.

    Raises DataServerCredentials when the data server refuses it, a server's own trouble when none
    can be reached and nobody says to go on, and UsageError when several servers ask for it.
    """
    main = _data_server(found, servers)
    if main is None:
        away = [each.error for each in servers if each.error is not None and not each.is_protected]
        if away and len(away) == len(servers):
            _confirm_untested(away[0])
        sole = [server.origin for server in servers] if len(servers) == 1 else []
        return _DataLogin(offered, "", tuple(dict.fromkeys([*sole, *found.data_hosts])))
    if main.is_protected:
        try_login(transport, main, offered)
    elif main.error is not None:
        _confirm_untested(main.error)
    others = [server.origin for server in servers if server is not main]
    return _DataLogin(offered, main.origin, _prompt_other_hosts(found, others))


def _data_server(found: Settings, servers: Sequence[FileServer]) -> FileServer | None:
    """The one that the login belongs to: named by settings, else the only one that asks for it.

    None when none asks. Raises UsageError when several do and none of them is named.
    """
    asking = [server for server in servers if server.is_protected]
    for known, among in ((data_server_urls(found), servers), (found.data_hosts, asking)):
        origins = {origin(url) for url in known}
        if named := [server for server in among if server.origin in origins]:
            return named[0]
    if len(asking) < 2:
        return asking[0] if asking else None
    origins_asking = ", ".join(server.origin for server in asking)
    if not can_prompt():
        raise UsageError(
            f"several file servers ask for a login: {origins_asking}: name the one that yours is "
            "for in ONEFS_DATA_HOSTS"
        )
    say(f"several file servers ask for a login: {origins_asking}", err=True)
    chosen = _prompt_hosts("Which of them is yours for", "", [server.origin for server in asking])
    return next((server for server in asking if server.origin in chosen), None)


def _prompt_other_hosts(found: Settings, others: Sequence[str]) -> tuple[str, ...]:
    """The origins besides the data server's that may have the login: asked for at a terminal."""
    before = found.data_hosts
    if not others or not can_prompt():
        return before
    say(f"other file servers of this database: {', '.join(others)}", err=True)
    kept = [base for base in before if base in others]
    chosen = _prompt_hosts("Which of them may get the login too", ",".join(kept), others)
    return tuple(dict.fromkeys([*chosen, *(base for base in before if base not in others)]))


def _prompt_hosts(question: str, default: str, among: Sequence[str]) -> tuple[str, ...]:
    """Some of the origins ``among``; typed separated by commas, with or without scheme."""
    while True:
        typed = prompt(f"{question} (separated by commas, - for none)", default or "-")
        words = [] if typed == "-" else [word.strip() for word in typed.split(",")]
        chosen = [base for base in among if base in words or base.partition("://")[2] in words]
        if len(chosen) >= len(set(words)):
            return tuple(chosen)
        say(f"give some of {', '.join(among)}, or -", err=True)


def _prompt_data_credentials(
    known: DataCredentials | None, found: Settings, *, needed: bool
) -> DataCredentials | None:
    """User and password of the file server, asked for until they are given or declined with -."""
    if known is not None and known.source == "environment":
        return known
    default = known.username if known is not None else found.data_username
    while not (
        user := prompt("File server's user name (- for none)", default or "-" * (not needed))
    ):
        say("the file server asks for a user name: give it, or - to go on without one", err=True)
    if user == "-":
        return None
    keeps = known is not None and known.username == user
    typed = prompt_secret("Its password" + (" (empty: the saved one)" if keeps else ""))
    if known is not None and keeps and not typed:
        return known
    return DataCredentials(user, Secret(typed), "typed")


def _confirm_untested(error: OnefsError) -> None:
    """Ask whether to keep what could not be tested; raise ``error`` unless somebody says yes."""
    if not can_prompt():
        raise error
    say(str(error), err=True)
    if not click.confirm("The file server could not be asked. Keep the password anyway?", err=True):
        raise error


def _choose_cache(
    given: _SetupArguments, book: settings.SettingsFile, found: Settings, saved: OneSettings | None
) -> str:
    """The cache folder for the profile; '' for the usual one."""
    usual = str(settings.default_cache_dir(found.url))
    profile = book.profile_of_url(found.url)
    chosen = given.cache_dir or os.environ.get("ONEFS_CACHE_DIR") or ""
    if not chosen and profile is not None:
        chosen = profile.cache_dir
    if can_prompt() and not given.cache_dir:
        chosen = _prompt_folder(chosen or (saved.cache_dir if saved else "") or usual)
    folder = absolute(chosen) if chosen else ""
    if folder:
        check_usable_as_cache(Path(folder), found.state_dir)
    return "" if folder == usual else folder


def _prompt_folder(default: str) -> str:
    """A folder that is plainly one: an answer to another question would make a folder, too."""
    while True:
        typed = prompt("Cache folder", default)
        if typed == default or typed.startswith(("/", "~", "./", "../")):
            return typed
        say("a cache folder begins with /, ~ or ./", err=True)


def _profile_name(book: settings.SettingsFile, url: str) -> str:
    """A name for a new profile: the host's first word, or all of it."""
    host = host_key(url)
    first = host.partition(".")[0]
    return host if parse_whole_number(first) is not None or first in book.profiles else first


def _raise_no_terminal(what: str) -> NoReturn:
    raise NotConfigured(f"there is no terminal to ask on for {what}")

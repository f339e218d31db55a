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

from onefs import oneparams, settings
from onefs.adoption import adopt, adopts, check_may_cache
from onefs.cli.options import (
    TRUST,
    ask,
    ask_secret,
    at_terminal,
    database_options,
    say,
    trust_options,
)
from onefs.cli.trial import FileServer, find_file_servers, try_login
from onefs.credentials import (
    CredentialStore,
    DataCredentials,
    Removal,
    alyx_password,
    data_servers,
    find_data_credentials,
    known_token,
)
from onefs.errors import (
    AlyxCredentials,
    DataServerCredentials,
    DeadlineExceeded,
    NotConfigured,
    OnefsError,
    Unreachable,
    UsageError,
)
from onefs.foreign import whole_number
from onefs.http import Transport
from onefs.metadata.auth import check_token, exchange, fetch_token
from onefs.oneparams import OneSettings
from onefs.paths import absolute
from onefs.secret import Secret
from onefs.settings import Profile, Settings
from onefs.urls import host_key, normalise, origin

#: how often a password is asked for
TRIES = 3


@dataclass(frozen=True, slots=True)
class _Given:
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
    given = _Given(url, username, profile, cache_dir, data_username)
    store = CredentialStore()
    book = settings.load()
    chosen = _choose_url(given, book)
    saved = oneparams.of_url(chosen)
    found = _choose_user(given, chosen, saved)
    with Transport() as transport:
        token = _token(transport, found, store, saved)
        data = _data_credentials(transport, found, store, token)
    row = replace(
        book.of_url(chosen) or Profile(_profile_name(book, chosen), chosen),
        username=found.username,
        cache_dir=_choose_cache(given, book, found, saved),
        data_url=found.data_url if data is None else data.url,
        data_username="" if data is None else data.credentials.username,
        data_hosts=",".join(found.data_hosts if data is None else data.hosts),
    )
    if given.profile:
        row = replace(row, name=given.profile)
    if trust := os.environ.get(TRUST):
        row = replace(row, trust_cache_dir=trust)
    if row.cache_dir and adopts():  # so that later commands use it without the flag
        adopt(Path(row.cache_dir))
    settings.save_profile(row, default=bool(default))
    store.set_token(chosen, found.username, token)
    if data is not None:
        store.set_data(chosen, data.credentials.username, data.credentials.password)
    elif store.data(chosen) is not None:
        store.delete_data(chosen)
    say(f"saved profile {row.name}: {row.username} at {row.url}")
    if data is not None and (servers := [*filter(None, [data.url]), *data.hosts]):
        say(f"the file server's login goes to {', '.join(servers)}, and to no other host")
    say(f"secrets are kept in {store.where()}")


@click.command()
@database_options
def login(url: str | None, username: str | None, profile: str | None) -> None:
    """Get a new Alyx token and keep it; mounts take it up by themselves.

    The password comes from ONEFS_PASSWORD or ONEFS_PASSWORD_FILE, else it is asked for; a token
    may be given instead, there or in ONEFS_TOKEN.
    """
    found = settings.resolve({"url": url, "username": username, "profile": profile})
    if not found.username:
        found = replace(found, username=_ask_user(found.url, ""))
    store = CredentialStore()
    with Transport() as transport:
        token = _given_token(transport, found) or _asked_token(transport, found)
        store.set_token(found.url, found.username, token)
        say(f"logged in to {found.url} as {found.username}; the token is in {store.where()}")
        _ask_missing_data(transport, found, store, token)


@click.command()
@database_options
def logout(url: str | None, username: str | None, profile: str | None) -> None:
    """Forget a database's Alyx token and its file server's password."""
    found = settings.resolve({"url": url, "username": username, "profile": profile})
    store = CredentialStore()
    token = store.delete_token(found.url, found.username) if found.username else Removal(False)
    data = store.delete_data(found.url)
    secrets = {"the token": token, "the file server's password": data}
    gone = [name for name, removal in secrets.items() if removal.removed]
    absent = [name for name, removal in secrets.items() if removal == Removal(False)]
    if gone:
        say(f"forgot {' and '.join(gone)} of {found.url}")
    if token.stays or data.stays:
        raise OnefsError(
            f"what the system keyring has of {found.url} stays in it, since it cannot be asked "
            "here: run `onefs logout` where it can, as on the desktop where you logged in"
        )
    if absent:
        say(f"{store.where()} holds no copy of {' or '.join(absent)}")
        if store.unasked():
            say(
                "the system keyring could not be asked: where you have logged in with it, as on a "
                "desktop, run `onefs logout` there"
            )
    for name in ("ONEFS_TOKEN", "ONEFS_PASSWORD", "ONEFS_PASSWORD_FILE", "ONEFS_DATA_PASSWORD"):
        if os.environ.get(name):
            say(f"{name} is still set, and is used")


@dataclass(frozen=True, slots=True)
class _Data:
    """The file server's credentials as the profile will have them."""

    credentials: DataCredentials
    #: the origin that accepted them; '' when none has answered
    url: str
    #: other origins that may have them
    hosts: tuple[str, ...]


def _choose_url(given: _Given, book: settings.Book) -> str:
    """The database to set up. Raises UsageError or NotConfigured."""
    if given.url:
        return normalise(given.url)
    named = book.profiles.get(given.profile) if given.profile else None
    default = named.url if named is not None else os.environ.get("ONEFS_URL", "")
    if not at_terminal():
        return normalise(default or _missing("the URL: give --url or set ONEFS_URL"))
    if not default and not given.profile and (fallback := book.fallback()) is not None:
        default = fallback.url
    if not default and (saved := oneparams.default()) is not None:
        default = saved.url
    while True:
        try:
            url = normalise(ask("URL of the Alyx server", default))
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


def _choose_user(given: _Given, url: str, saved: OneSettings | None) -> Settings:
    """The settings so far, with a user: asked for when there is a terminal."""
    found = settings.resolve(given.flags(url))
    default = found.username or (saved.username if saved is not None else "")
    if given.username or (default and not at_terminal()):
        return replace(found, username=default)
    return replace(found, username=_ask_user(url, default))


def _ask_user(url: str, default: str) -> str:
    if not at_terminal():
        _missing("the user name: give --username or set ONEFS_USERNAME")
    return ask(f"User name at {url}", default)


def _token(
    transport: Transport, found: Settings, store: CredentialStore, saved: OneSettings | None
) -> Secret:
    """A token that works: given, kept by us or by ONE, or got for the password."""
    token = _given_token(transport, found)
    if token is not None:
        return token
    for kept in (known_token(found, store), saved and saved.tokens.get(found.username)):
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
    return _asked_token(transport, found)


def _given_token(transport: Transport, found: Settings) -> Secret | None:
    """The token that the environment gives, or gives a password for; None without either."""
    token = os.environ.get("ONEFS_TOKEN") if settings.applies(os.environ, found.url) else None
    password = Secret(token.strip()) if token else alyx_password(found)
    return None if password is None else exchange(transport, found, password)


def _asked_token(transport: Transport, found: Settings) -> Secret:
    """A token for the password that is typed; asked TRIES times."""
    if not at_terminal():
        _missing("the password: set ONEFS_PASSWORD, ONEFS_PASSWORD_FILE or ONEFS_TOKEN")
    for left in reversed(range(TRIES)):
        typed = Secret(ask_secret(f"Password (or token) of {found.username} at {found.url}"))
        try:
            return exchange(transport, found, typed)
        except AlyxCredentials as error:
            if not left:
                raise
            say(str(error), err=True)
    raise AssertionError("the last try returns or raises")


def _data_credentials(
    transport: Transport, found: Settings, store: CredentialStore, token: Secret
) -> _Data | None:
    """User and password of the file server, tried out; None when it needs none or has none."""
    known = find_data_credentials(found, store)
    if known is not None and found.data_username not in ("", known.username):
        known = None  # saved for another user than the one that is named now
    servers = find_file_servers(
        transport, found.url, token, [*data_servers(found), *found.data_hosts]
    )
    needed = any(server.asks for server in servers)
    for left in reversed(range(TRIES)):
        offered = _ask_data(known, found, needed=needed) if at_terminal() else known
        if offered is None:
            _warn_of(servers)
            return None
        try:
            return _tried(transport, found, servers, offered)
        except DataServerCredentials as error:
            if not left or not at_terminal():
                raise
            say(str(error), err=True)
            known = None
    raise AssertionError("the last try returns or raises")


def _ask_missing_data(
    transport: Transport, found: Settings, store: CredentialStore, token: Secret
) -> None:
    """Ask for the file server's password, and keep it, where a saved database lacks one that it
    needs; without a terminal nothing is asked."""
    saved = settings.load().of_url(found.url)
    if saved is None or not at_terminal() or find_data_credentials(found, store) is not None:
        return
    bases = [*data_servers(found), *found.data_hosts]
    if not any(each.asks for each in find_file_servers(transport, found.url, token, bases)):
        return
    data = _data_credentials(transport, found, store, token)
    if data is None:
        return
    user, hosts = data.credentials.username, ",".join(data.hosts)
    row = replace(saved, data_url=data.url, data_username=user, data_hosts=hosts)
    settings.save_profile(row, default=False)
    store.set_data(found.url, user, data.credentials.password)
    say(f"the file server's password of {user} is in {store.where()}")


def _warn_of(servers: Sequence[FileServer]) -> None:
    for server in servers:
        if server.asks:
            say(f"warning: {server.trouble}", err=True)


def _tried(
    transport: Transport,
    found: Settings,
    servers: Sequence[FileServer],
    offered: DataCredentials,
) -> _Data:
    """What to keep of a login that was offered, after sending it to the servers that may have it.

    Raises DataServerCredentials when the data server refuses it, a server's own trouble when none
    can be reached and nobody says to go on, and UsageError when several servers ask for it.
    """
    main = _data_server(found, servers)
    if main is None:
        away = [each.trouble for each in servers if each.trouble is not None and not each.asks]
        if away and len(away) == len(servers):
            _go_on(away[0])
        sole = [server.origin for server in servers] if len(servers) == 1 else []
        return _Data(offered, "", tuple(dict.fromkeys([*sole, *found.data_hosts])))
    if main.asks:
        try_login(transport, main, offered)
    elif main.trouble is not None:
        _go_on(main.trouble)
    others = [server.origin for server in servers if server is not main]
    return _Data(offered, main.origin, _confirmed(found, others))


def _data_server(found: Settings, servers: Sequence[FileServer]) -> FileServer | None:
    """The one that the login belongs to: named by settings, else the only one that asks for it.

    None when none asks. Raises UsageError when several do and none of them is named.
    """
    asking = [server for server in servers if server.asks]
    for known, among in ((data_servers(found), servers), (found.data_hosts, asking)):
        origins = {origin(url) for url in known}
        if named := [server for server in among if server.origin in origins]:
            return named[0]
    if len(asking) < 2:
        return asking[0] if asking else None
    origins_asking = ", ".join(server.origin for server in asking)
    if not at_terminal():
        raise UsageError(
            f"several file servers ask for a login: {origins_asking}: name the one that yours is "
            "for in ONEFS_DATA_HOSTS"
        )
    say(f"several file servers ask for a login: {origins_asking}", err=True)
    chosen = _ask_hosts("Which of them is yours for", "", [server.origin for server in asking])
    return next((server for server in asking if server.origin in chosen), None)


def _confirmed(found: Settings, others: Sequence[str]) -> tuple[str, ...]:
    """The origins besides the data server's that may have the login: asked for at a terminal."""
    before = found.data_hosts
    if not others or not at_terminal():
        return before
    say(f"other file servers of this database: {', '.join(others)}", err=True)
    kept = [base for base in before if base in others]
    chosen = _ask_hosts("Which of them may get the login too", ",".join(kept), others)
    return tuple(dict.fromkeys([*chosen, *(base for base in before if base not in others)]))


def _ask_hosts(question: str, default: str, among: Sequence[str]) -> tuple[str, ...]:
    """Some of the origins ``among``; typed separated by commas, with or without scheme."""
    while True:
        typed = ask(f"{question} (separated by commas, - for none)", default or "-")
        words = [] if typed == "-" else [word.strip() for word in typed.split(",")]
        chosen = [base for base in among if base in words or base.partition("://")[2] in words]
        if len(chosen) >= len(set(words)):
            return tuple(chosen)
        say(f"give some of {', '.join(among)}, or -", err=True)


def _ask_data(
    known: DataCredentials | None, found: Settings, *, needed: bool
) -> DataCredentials | None:
    """User and password of the file server, asked for until they are given or declined with -."""
    if known is not None and known.source == "environment":
        return known
    default = known.username if known is not None else found.data_username
    while not (user := ask("File server's user name (- for none)", default or "-" * (not needed))):
        say("the file server asks for a user name: give it, or - to go on without one", err=True)
    if user == "-":
        return None
    keeps = known is not None and known.username == user
    typed = ask_secret("Its password" + (" (empty: the saved one)" if keeps else ""))
    if known is not None and keeps and not typed:
        return known
    return DataCredentials(user, Secret(typed), "typed")


def _go_on(error: OnefsError) -> None:
    """Ask whether to keep what could not be tested; raise ``error`` unless somebody says yes."""
    if not at_terminal():
        raise error
    say(str(error), err=True)
    if not click.confirm("The file server could not be asked. Keep the password anyway?", err=True):
        raise error


def _choose_cache(
    given: _Given, book: settings.Book, found: Settings, saved: OneSettings | None
) -> str:
    """The cache folder for the profile; '' for the usual one."""
    usual = str(settings.default_cache_dir(found.url))
    profile = book.of_url(found.url)
    chosen = given.cache_dir or os.environ.get("ONEFS_CACHE_DIR") or ""
    if not chosen and profile is not None:
        chosen = profile.cache_dir
    if at_terminal() and not given.cache_dir:
        chosen = _ask_folder(chosen or (saved.cache_dir if saved else "") or usual)
    folder = absolute(chosen) if chosen else ""
    if folder:
        check_may_cache(Path(folder), found.state_dir)
    return "" if folder == usual else folder


def _ask_folder(default: str) -> str:
    """A folder that is plainly one: an answer to another question would make a folder, too."""
    while True:
        typed = ask("Cache folder", default)
        if typed == default or typed.startswith(("/", "~", "./", "../")):
            return typed
        say("a cache folder begins with /, ~ or ./", err=True)


def _profile_name(book: settings.Book, url: str) -> str:
    """A name for a new profile: the host's first word, or all of it."""
    host = host_key(url)
    first = host.partition(".")[0]
    return host if whole_number(first) is not None or first in book.profiles else first


def _missing(what: str) -> NoReturn:
    raise NotConfigured(f"there is no terminal to ask on for {what}")

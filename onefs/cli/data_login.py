"""Asking for, testing and saving the login for a database's file server.

``onefs setup`` and ``onefs login`` use this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from onefs.cli.file_servers import FileServer, find_file_servers, try_login
from onefs.cli.output import say
from onefs.cli.prompts import can_prompt, prompt, prompt_secret
from onefs.cli.token_login import MAX_PASSWORD_TRIES
from onefs.config.credentials import (
    CredentialStore,
    DataCredentials,
    data_server_urls,
    find_data_credentials,
)
from onefs.config.secret import Secret
from onefs.config.settings import Profile, Settings, load_settings_file, save_profile
from onefs.config.urls import origin
from onefs.errors import DataServerCredentials, OnefsError, UsageError
from onefs.http import Transport


@dataclass(frozen=True, slots=True)
class DataLogin:
    """A login for file servers, tested if possible, and the origins that may get this login."""

    credentials: DataCredentials
    #: origin of the server that the login is for; '' if this server is not known
    url: str
    #: other origins that the login may be sent to
    hosts: tuple[str, ...]

    def added_to(self, profile: Profile) -> Profile:
        """Return a copy of the profile with the URL, user and hosts of this login."""
        return profile._replace(
            data_url=self.url,
            data_username=self.credentials.username,
            data_hosts=",".join(self.hosts),
        )

    def save_password(self, store: CredentialStore, url: str) -> None:
        """Save the user and password as the file server login for the database ``url``."""
        store.set_data_login(url, self.credentials.username, self.credentials.password)


def find_data_login(
    transport: Transport, settings: Settings, store: CredentialStore, token: Secret
) -> DataLogin | None:
    """Return a login for the file server. The login is tested with the file server if possible.

    At a terminal, the user types the login, in several tries if needed. Without a terminal, the
    login is from the environment or the credential store. Return None if the user declines, or if
    no login is known. Raises the errors of requests. Also raises:

    - DataServerCredentials if the server refuses the login.
    - UsageError without a terminal, if several servers ask for a login and the settings name none
      of these servers.
    """
    known = find_data_credentials(settings, store)
    if known is not None and settings.data_username not in ("", known.username):
        known = None  # this login was saved for a user other than the one that is named now
    servers = _file_servers(transport, settings, token)
    is_needed = any(server.is_protected for server in servers)
    for tries_left in reversed(range(MAX_PASSWORD_TRIES)):
        login = _prompt_credentials(known, settings, is_needed=is_needed) if can_prompt() else known
        if login is None:
            for server in servers:
                if server.is_protected:
                    say(f"warning: {server.error}", err=True)
            return None
        try:
            return _test_login(transport, settings, servers, login)
        except DataServerCredentials as error:
            if not tries_left or not can_prompt():
                raise
            say(str(error), err=True)
            known = None
    raise AssertionError("onefs error: the last try to log in gave no result")


def prompt_missing_data_login(
    transport: Transport, settings: Settings, store: CredentialStore, token: Secret
) -> None:
    """Ask for the login for a protected file server, and save this login.

    Raises what :func:`find_data_login` raises. Does nothing:

    - if a login is saved or in the environment.
    - if the database has no saved profile.
    - if no file server asks for a login.
    - if there is no terminal.
    """
    profile = load_settings_file().profile_of_url(settings.url)
    if profile is None or not can_prompt() or find_data_credentials(settings, store) is not None:
        return
    if not any(each.is_protected for each in _file_servers(transport, settings, token)):
        return
    login = find_data_login(transport, settings, store, token)
    if login is None:
        return
    save_profile(login.added_to(profile), default=False)
    login.save_password(store, settings.url)
    user = login.credentials.username
    say(f"the file server's password of {user} is in {store.describe_location()}")


def _file_servers(transport: Transport, settings: Settings, token: Secret) -> list[FileServer]:
    known = [*data_server_urls(settings), *settings.data_hosts]
    return find_file_servers(transport, settings.url, token, known)


def _test_login(
    transport: Transport,
    settings: Settings,
    servers: Sequence[FileServer],
    credentials: DataCredentials,
) -> DataLogin:
    """Test a login with its file server, and return the login to save.

    Raises DataServerCredentials if the server refuses the login. After another error, the user
    decides whether to save the login. Also raises what :func:`_data_server` raises.
    """
    main = _data_server(settings, servers)
    if main is None:
        errors = [each.error for each in servers if each.error and not each.is_protected]
        if errors and len(errors) == len(servers):
            _confirm_untested(errors[0])
        sole = [server.origin for server in servers] if len(servers) == 1 else []
        return DataLogin(credentials, "", tuple(dict.fromkeys([*sole, *settings.data_hosts])))
    if main.is_protected:
        try_login(transport, main, credentials)
    elif main.error is not None:
        _confirm_untested(main.error)
    others = [server.origin for server in servers if server is not main]
    return DataLogin(credentials, main.origin, _prompt_other_hosts(settings, others))


def _data_server(settings: Settings, servers: Sequence[FileServer]) -> FileServer | None:
    """Return the file server that the login is for. Return None if there is no such server.

    Raises UsageError if the user would have to choose a server, but there is no terminal.
    """
    # the server that the settings name, else the only server that asks for a login, else the server
    # that the user chooses
    protected = [server for server in servers if server.is_protected]
    for urls, among in ((data_server_urls(settings), servers), (settings.data_hosts, protected)):
        origins = {origin(url) for url in urls}
        if named := [server for server in among if server.origin in origins]:
            return named[0]
    if len(protected) < 2:
        return protected[0] if protected else None
    names = [server.origin for server in protected]
    if not can_prompt():
        raise UsageError(
            f"several file servers ask for a login ({', '.join(names)}): set ONEFS_DATA_HOSTS to "
            "the file server that your login is for"
        )
    say(f"several file servers ask for a login: {', '.join(names)}", err=True)
    chosen = _prompt_hosts("Which of these servers is your login for", "", names)
    return next((server for server in protected if server.origin in chosen), None)


def _prompt_other_hosts(settings: Settings, others: Sequence[str]) -> tuple[str, ...]:
    """Ask which of the file servers in ``others`` may get the login too. Return the chosen ones.

    Hosts of the settings that are not in ``others`` are returned, too.
    """
    before = settings.data_hosts
    if not others or not can_prompt():
        return before
    say(f"other file servers of this database: {', '.join(others)}", err=True)
    default = ",".join(base for base in before if base in others)
    chosen = _prompt_hosts("Which of these servers may get your login, too", default, others)
    return tuple(dict.fromkeys([*chosen, *(base for base in before if base not in others)]))


def _prompt_hosts(question: str, default: str, among: Sequence[str]) -> tuple[str, ...]:
    """Ask the user to choose some of the origins in ``among``, and return the chosen origins.

    ``default`` is the answer if the user types nothing.
    """
    while True:
        typed = prompt(f"{question} (separate several by commas, type - for none)", default or "-")
        words = [] if typed == "-" else [word.strip() for word in typed.split(",")]
        # the scheme of an origin may be left out
        chosen = [base for base in among if base in words or base.partition("://")[2] in words]
        if len(chosen) >= len(set(words)):
            return tuple(chosen)
        say(f"type one or more of {', '.join(among)}, or -", err=True)


def _prompt_credentials(
    known: DataCredentials | None, settings: Settings, *, is_needed: bool
) -> DataCredentials | None:
    """Ask for the file server's user and password. Return None if the user declines.

    If ``known`` is a login from the environment, return ``known`` without a question.
    """
    if known is not None and known.source == "environment":
        return known
    default = known.username if known is not None else settings.data_username
    # if no login is needed and no user name is known, an empty answer declines
    while not (
        user := prompt("File server's user name (- for none)", default or "-" * (not is_needed))
    ):
        say(
            "the file server asks for a user name: type one, or - to continue without a login",
            err=True,
        )
    if user == "-":
        return None
    saved = known if known is not None and known.username == user else None
    typed = prompt_secret(
        "File server's password" + (" (leave empty to use the saved password)" if saved else "")
    )
    if saved is not None and not typed:
        return saved
    return DataCredentials(user, Secret(typed), "typed")


def _confirm_untested(error: OnefsError) -> None:
    """Ask whether to keep a login that could not be tested.

    Raise ``error`` if the user does not confirm, or if there is no terminal.
    """
    if not can_prompt():
        raise error
    say(str(error), err=True)
    if not click.confirm("The password could not be tested. Save it anyway?", err=True):
        raise error

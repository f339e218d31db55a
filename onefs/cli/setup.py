"""``onefs setup``: tests and saves the URL, user, folders and secrets of a database.

All values are tested with the servers before any value is saved. ONE's own settings are offered as
defaults, and are never changed. The user types the passwords, or the passwords come from the
environment. No command has a password as an argument.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import click

from onefs.cache.folder_check import check_usable_as_cache, is_adopt_requested, mark_as_cache_folder
from onefs.cli.data_login import DataLogin, find_data_login
from onefs.cli.options import TRUST_VARIABLE, database_options, trust_options
from onefs.cli.output import say
from onefs.cli.prompts import can_prompt, no_terminal_error, prompt
from onefs.cli.token_login import find_valid_token, prompt_username
from onefs.config import one_params
from onefs.config.credentials import CredentialStore
from onefs.config.one_params import OneSettings
from onefs.config.public_bucket import bucket_url
from onefs.config.secret import Secret
from onefs.config.settings import (
    Profile,
    Settings,
    SettingsFile,
    default_cache_dir,
    default_state_dir,
    load_settings_file,
    resolve_settings,
    save_profile,
)
from onefs.config.urls import host_key, normalise
from onefs.errors import DeadlineExceeded, NotFound, OnefsError, Unreachable, UsageError
from onefs.http import Transport
from onefs.integers import parse_whole_number
from onefs.lowlevel.paths import absolute


@dataclass(frozen=True, slots=True)
class _SetupArguments:
    """Arguments of ``onefs setup``. An option that is not given is None."""

    url: str | None
    username: str | None
    #: the name under which the database is saved
    profile: str | None
    cache_dir: str | None
    #: the file server's user
    data_username: str | None

    def flags(self, url: str) -> dict[str, str | None]:
        """Return the flags for :func:`resolve_settings`, with this URL."""
        return {"url": url, "username": self.username, "data_username": self.data_username}


@click.command()
@database_options
@click.option("--cache-dir", type=click.Path(file_okay=False), help="Where files are kept.")
@trust_options
@click.option("--data-username", metavar="NAME", help="The file server's user.")
@click.option(
    "--default/--no-default",
    "default",
    default=None,
    help="Use this database when no other is named.",
)
def setup(default: bool | None, **options: str | None) -> None:
    """Save a database's URL, user and credentials, after testing them.

    Asks for what is not given. Without a terminal everything comes from the options and from
    ONEFS_PASSWORD (or ONEFS_PASSWORD_FILE, ONEFS_TOKEN) and ONEFS_DATA_PASSWORD. With --public,
    nothing is asked.
    """
    public = options.pop("public")
    arguments = _SetupArguments(**options)
    saved = load_settings_file()
    if public:
        _save_public(arguments, saved, default=bool(default))
        return
    store = CredentialStore()
    url = _choose_url(arguments, saved)
    one = one_params.find_by_url(url)
    settings = _choose_user(arguments, url, one)
    with Transport() as transport:
        token = find_valid_token(transport, settings, store, one)
        data = find_data_login(transport, settings, store, token)
    cache_dir = _choose_cache(arguments, saved, settings, one)
    profile = _make_profile(arguments, saved, settings, data, cache_dir)
    if cache_dir and is_adopt_requested():  # so that later commands use the folder without --adopt
        mark_as_cache_folder(Path(cache_dir))
    save_profile(profile, default=bool(default))
    _save_secrets(store, settings, token, data)
    say(f"saved profile {profile.name}: {profile.username} at {profile.url}")
    if data is not None and (servers := [*filter(None, [data.url]), *data.hosts]):
        say(f"the file server's login goes to {', '.join(servers)}, and to no other host")
    say(f"secrets are kept in {store.describe_location()}")


def _save_public(arguments: _SetupArguments, saved: SettingsFile, *, default: bool) -> None:
    """Save the public database as a profile, after a request that finds its tables.

    Raises UsageError for an option that has no meaning for it, and NotFound without tables.
    """
    from onefs.cache_tables.bucket import PublicBucket

    for name in ("url", "username", "data_username"):
        if getattr(arguments, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"--public has its own database: leave out {flag}")
    url = bucket_url()
    with Transport() as transport:
        if PublicBucket(transport, url).cache_info() is None:
            raise NotFound(f"{url} has no cache tables: it is not IBL's public bucket")
    folder = arguments.cache_dir or os.environ.get("ONEFS_CACHE_DIR") or ""
    if folder:
        folder = absolute(folder)
        check_usable_as_cache(Path(folder), default_state_dir(url, public=True))
        if is_adopt_requested():
            mark_as_cache_folder(Path(folder))
    before = saved.profile_of_url(url) or Profile("public", url)
    profile = before._replace(
        name=arguments.profile or before.name,
        public="yes",
        cache_dir=folder or before.cache_dir,
        trust_cache_dir=os.environ.get(TRUST_VARIABLE) or before.trust_cache_dir,
    )
    save_profile(profile, default=default)
    say(f"saved profile {profile.name}: the public database at {url}, which needs no account")


def _make_profile(
    arguments: _SetupArguments,
    saved: SettingsFile,
    settings: Settings,
    data: DataLogin | None,
    cache_dir: str,
) -> Profile:
    """Return the profile to save.

    This is the saved profile with the same URL, or a new profile, with the values of this command.
    """
    url = settings.url
    profile = saved.profile_of_url(url) or Profile(_profile_name(saved, url), url)
    profile = profile._replace(
        name=arguments.profile or profile.name,
        username=settings.username,
        cache_dir=cache_dir,
        trust_cache_dir=os.environ.get(TRUST_VARIABLE) or profile.trust_cache_dir,
    )
    if data is not None:
        return data.added_to(profile)
    hosts = ",".join(settings.data_hosts)
    return profile._replace(data_url=settings.data_url, data_username="", data_hosts=hosts)


def _save_secrets(
    store: CredentialStore, settings: Settings, token: Secret, data: DataLogin | None
) -> None:
    """Save the token and the file server's password.

    If there is no login for the file server, delete the saved password instead.
    """
    store.set_token(settings.url, settings.username, token)
    if data is not None:
        data.save_password(store, settings.url)
    elif store.data_login(settings.url) is not None:
        store.delete_data_login(settings.url)


def _choose_url(arguments: _SetupArguments, saved: SettingsFile) -> str:
    """Return the URL of the database to set up. At a terminal, ask for the URL if it is not given.

    Raises UsageError for an invalid URL. Raises NotConfigured if there is neither a URL nor a
    terminal.
    """
    if arguments.url:
        return normalise(arguments.url)
    named = saved.profiles.get(arguments.profile) if arguments.profile else None
    default = named.url if named is not None else os.environ.get("ONEFS_URL", "")
    if not can_prompt():
        if not default:
            raise no_terminal_error("the URL: give --url or set ONEFS_URL")
        return normalise(default)
    if not default and not arguments.profile and (fallback := saved.default_profile()) is not None:
        default = fallback.url
    if not default and (one := one_params.find_default()) is not None:
        default = one.url
    while True:
        try:
            url = normalise(prompt("URL of the Alyx server", default))
            _check_server(url)
        except OnefsError as error:
            say(str(error), err=True)
        else:
            return url


def _check_server(url: str) -> None:
    """Raise Unreachable if the server does not answer. Call this before asking for a secret."""
    with Transport() as transport:
        try:
            transport.get_json(f"{url}/labs", params={"limit": "1"})
        except (Unreachable, DeadlineExceeded) as error:
            raise Unreachable(f"{url} cannot be used: {error}") from error
        except OnefsError:  # the server answers: the first log-in will report any other error
            return


def _choose_user(arguments: _SetupArguments, url: str, one: OneSettings | None) -> Settings:
    """Return the settings with a user name. Ask for the name at a terminal if it is not given."""
    settings = resolve_settings(arguments.flags(url))
    username = settings.username or (one.username if one is not None else "")
    if not arguments.username and (can_prompt() or not username):
        username = prompt_username(url, username)
    return replace(settings, username=username)


def _choose_cache(
    arguments: _SetupArguments, saved: SettingsFile, settings: Settings, one: OneSettings | None
) -> str:
    """Return the cache folder for the profile, or '' for the default folder.

    Ask for the folder at a terminal if it is not given.
    """
    usual = str(default_cache_dir(settings.url))
    profile = saved.profile_of_url(settings.url)
    chosen = arguments.cache_dir or os.environ.get("ONEFS_CACHE_DIR") or ""
    if not chosen and profile is not None:
        chosen = profile.cache_dir
    if can_prompt() and not arguments.cache_dir:
        chosen = _prompt_folder(chosen or (one.cache_dir if one else "") or usual)
    folder = absolute(chosen) if chosen else ""
    if folder:
        check_usable_as_cache(Path(folder), settings.state_dir)
    return "" if folder == usual else folder


def _prompt_folder(default: str) -> str:
    """Ask for a folder until the answer is the default or looks like a path."""
    while True:
        typed = prompt("Cache folder", default)
        # other answers are probably meant for another question, such as a user name
        if typed == default or typed.startswith(("/", "~", "./", "../")):
            return typed
        say("the path of a cache folder begins with /, ~ or ./", err=True)


def _profile_name(saved: SettingsFile, url: str) -> str:
    """Return the name for a new profile: the first label of the host, such as ``alyx``.

    If this label is a number or another profile's name, return the whole host.
    """
    host = host_key(url)
    first = host.partition(".")[0]
    return host if parse_whole_number(first) is not None or first in saved.profiles else first

"""Profiles and directories: defaults < settings file < environment < flags.

The settings file (``<user config>/onefs/settings.json``) holds no secrets::

    {"default": "ibl",
     "profiles": {"ibl": {"url": "https://openalyx.internationalbrainlab.org",
                          "username": "intbrainlab",
                          "cache_dir": "/data/one",
                          "data_url": "https://ibl.flatironinstitute.org",
                          "data_username": "iblmember"}}}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import platformdirs

from onefs.config.cache_options import OPTION_NAMES, CacheOptions, resolve_cache_options
from onefs.config.file_attributes import SETTING_NAMES as APPEARANCE
from onefs.config.file_attributes import FileAttributes, resolve_file_attributes
from onefs.config.private_files import file_lock, read_json, write_json
from onefs.config.urls import (
    host_key,
    is_loopback,
    normalise,
    origin,
)
from onefs.errors import NotConfigured, UsageError
from onefs.lowlevel.paths import absolute

#: every variable that every command reads; ``onefs.config.credentials`` reads those that hold
#: secrets
ENVIRONMENT_VARIABLES = (
    "ONEFS_URL",
    "ONEFS_USERNAME",
    "ONEFS_PASSWORD",
    "ONEFS_PASSWORD_FILE",
    "ONEFS_TOKEN",
    "ONEFS_DATA_USERNAME",
    "ONEFS_DATA_PASSWORD",
    "ONEFS_DATA_HOSTS",
    "ONEFS_PROFILE",
    "ONEFS_CACHE_DIR",
    "ONEFS_STATE_DIR",
    *(f"ONEFS_{name.upper()}" for name in (*OPTION_NAMES, *APPEARANCE)),
)

_NOT_CONFIGURED_MESSAGE = (
    "no database is set up: run `onefs setup`, or set ONEFS_URL, ONEFS_USERNAME and "
    "ONEFS_PASSWORD, or try the built-in laboratory with `onefs mount --demo MOUNTPOINT` "
    "or `onefs demo serve`"
)


@dataclass(frozen=True, slots=True)
class Profile:
    """One database as the settings file has it; '' where it says nothing."""

    name: str
    url: str
    username: str = ""
    cache_dir: str = ""
    state_dir: str = ""
    #: the file server that gets the data user and password without having to ask first
    data_url: str = ""
    data_username: str = ""
    #: other file servers that get them when they ask, separated by commas (see :func:`data_hosts`)
    data_hosts: str = ""
    #: see :mod:`onefs.config.cache_options`, each written as for its flag
    cache_size: str = ""
    min_free: str = ""
    small_file: str = ""
    strict: str = ""
    max_fetch: str = ""
    indexers: str = ""
    copies: str = ""
    trust_cache_dir: str = ""
    writable: str = ""
    #: see :mod:`onefs.config.file_attributes`, each written as for its flag
    umask: str = ""
    uid: str = ""
    gid: str = ""
    inode32: str = ""


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """The settings file: profiles by name, and the one to use when none is named."""

    profiles: Mapping[str, Profile]
    default: str = ""

    def profile_named(self, name: str) -> Profile:
        """The profile of that name. Raises UsageError naming those that there are."""
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none yet; run `onefs setup`"
            raise UsageError(f"there is no profile {name!r} (known: {known})")
        return self.profiles[name]

    def profile_of_url(self, url: str) -> Profile | None:
        """The profile of that URL: the default one if it is, else the first by name."""
        found = [self.profiles[name] for name in sorted(self.profiles)]
        found.sort(key=lambda profile: profile.name != self.default)
        return next((profile for profile in found if profile.url == url), None)

    def default_profile(self) -> Profile | None:
        """What to use when nothing is named: the default, or the only one."""
        if self.default:
            return self.profile_named(self.default)
        return next(iter(self.profiles.values())) if len(self.profiles) == 1 else None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command works with. ``sources`` says of each field where its value comes from."""

    url: str
    #: '' when nobody has said it
    username: str
    #: the profile that filled the gaps; '' for a one-off
    profile: str
    #: a ONE cache folder: the labs are its children
    cache_dir: Path
    #: for databases, on a local disk
    state_dir: Path
    data_url: str = ""
    data_username: str = ""
    #: origins of other file servers that get the data user and password when they ask
    data_hosts: tuple[str, ...] = ()
    cache_options: CacheOptions = field(default_factory=CacheOptions)
    appearance: FileAttributes = field(default_factory=FileAttributes)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def log_file(self) -> Path:
        """Where a mount in the background writes its log."""
        return self.state_dir / "onefs.log"


def config_dir() -> Path:
    """The folder of settings.json and credentials.json."""
    return Path(platformdirs.user_config_dir("onefs"))


def settings_path() -> Path:
    """The settings file's usual place."""
    return config_dir() / "settings.json"


def default_cache_dir(url: str) -> Path:
    """Where the files of ``url`` are kept when nobody says otherwise."""
    return Path(platformdirs.user_cache_dir("onefs")) / host_key(url)


def default_state_dir(url: str) -> Path:
    """Where the databases of ``url`` are kept when nobody says otherwise."""
    return Path(platformdirs.user_state_dir("onefs")) / host_key(url)


def load_settings_file(path: Path | None = None) -> SettingsFile:
    """The settings file; an empty book when there is none. Raises UsageError when it is broken."""
    path = path or settings_path()
    data = read_json(path)
    default, profiles = data.get("default", ""), data.get("profiles", {})
    if not isinstance(default, str) or not isinstance(profiles, dict):
        raise UsageError(f"{path} is broken: mend it, or move it away and run `onefs setup`")
    book = SettingsFile(
        {name: _parse_profile(name, row, path) for name, row in profiles.items()}, default
    )
    if default and default not in book.profiles:
        raise UsageError(f"{path}: the default profile {default!r} is not among its profiles")
    return book


def save_profile(profile: Profile, *, default: bool, path: Path | None = None) -> None:
    """Add or replace a profile; the first one, and one with ``default``, becomes the default.

    What the file holds besides is kept. Raises UsageError when it is broken or not writable.
    """
    path = path or settings_path()
    with file_lock(path):
        book = load_settings_file(path)
        data = read_json(path)
        row = {
            item.name: value
            for item in fields(Profile)
            if item.name != "name" and (value := getattr(profile, item.name))
        }
        data.setdefault("profiles", {})[profile.name] = row
        if default or not book.default:
            data["default"] = profile.name
        write_json(path, data)


def set_default_profile(name: str, path: Path | None = None) -> None:
    """Make a saved profile the default. Raises UsageError as :func:`save_profile`, and for a name
    that no profile has."""
    path = path or settings_path()
    with file_lock(path):
        load_settings_file(path).profile_named(name)
        data = read_json(path)
        data["default"] = name
        write_json(path, data)


def remove_profile(name: str, path: Path | None = None) -> str:
    """Remove a saved profile; the profile that is used by default afterwards, or ''.

    Raises UsageError as :func:`set_default_profile`.
    """
    path = path or settings_path()
    with file_lock(path):
        load_settings_file(path).profile_named(name)
        data = read_json(path)
        del data["profiles"][name]
        if data.get("default") == name:
            del data["default"]
        write_json(path, data)
        left = load_settings_file(path).default_profile()
    return left.name if left is not None else ""


def resolve_settings(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> Settings:
    """The settings of one command.

    ``flags`` may hold url, username, profile, cache_dir, state_dir and what
    ``onefs.config.cache_options`` and ``onefs.config.file_attributes`` have names for. A URL wins
    over a profile of the same rank or a lower one; the profile of that URL, if there is one, fills
    the gaps. Variables of an ``ONEFS_URL`` that is not the one in use are left alone, but for the
    folders. Raises NotConfigured when no URL is known, UsageError for an unknown profile, for a
    profile and a URL flag that contradict each other, and for a broken settings file.
    """
    environ = os.environ if environ is None else environ
    book = load_settings_file(path)
    url, url_source, profile = _choose_url(flags, environ, book)
    row = profile or Profile("", url)
    own = environ if is_environment_for(environ, url) else {}
    found = {
        "username": _pick_value("username", flags, own, row),
        "data_username": _pick_value("data_username", flags, own, row),
        "data_url": _pick_value("data_url", flags, {}, row),
        "data_hosts": _pick_value("data_hosts", flags, own, row),
        "cache_dir": _pick_value("cache_dir", flags, environ, row, default_cache_dir(url)),
        "state_dir": _pick_value("state_dir", flags, environ, row, default_state_dir(url)),
    }
    sources = {name: source for name, (_, source) in found.items()} | {"url": url_source}
    return Settings(
        url=url,
        profile=row.name,
        username=found["username"][0],
        data_username=found["data_username"][0],
        data_url=found["data_url"][0],
        data_hosts=parse_data_hosts(*found["data_hosts"]),
        cache_dir=_absolute_path(found["cache_dir"][0]),
        state_dir=_absolute_path(found["state_dir"][0]),
        cache_options=resolve_cache_options(
            flags, environ, {name: getattr(row, name) for name in OPTION_NAMES}
        ),
        appearance=resolve_file_attributes(
            flags, environ, {name: getattr(row, name) for name in APPEARANCE}
        ),
        sources=MappingProxyType(sources),
    )


def is_environment_for(environ: Mapping[str, str], url: str) -> bool:
    """Whether the environment's user, password and token are for ``url``.

    They are for ``ONEFS_URL`` when it is set: what belongs to one server is not sent to another.
    """
    given = environ.get("ONEFS_URL")
    return not given or normalise(given) == url


def parse_data_hosts(text: str, source: str) -> tuple[str, ...]:
    """The origins that ``text`` names, separated by commas; ``none`` names none.

    An origin is scheme, host and port. Without a scheme https is meant, on the loopback interface
    http too. There are no patterns: each host is named. Raises UsageError naming ``source``.
    """
    found: list[str] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if word.lower() == "none":
            continue
        if "*" in word:
            raise UsageError(f"{source}: {word!r} is a pattern: name each host that may be trusted")
        try:
            base = origin(normalise(word))
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error
        found.append(base)
        if "://" not in word and is_loopback(base):
            found.append(origin(f"http{base.removeprefix('https')}"))
    return tuple(dict.fromkeys(found))


def _pick_value(
    name: str,
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    row: Profile,
    default: Path | str = "",
) -> tuple[str, str]:
    """A setting's value and where it comes from."""
    variable = f"ONEFS_{name.upper()}"
    candidates: tuple[tuple[str | None, str], ...] = (
        (flags.get(name), "flag --" + name.replace("_", "-")),
        (environ.get(variable), variable),
        (getattr(row, name), f"profile {row.name}"),
    )
    found = ((value, source) for value, source in candidates if value)
    return next(found, (str(default), "default"))


def _choose_url(
    flags: Mapping[str, str | None], environ: Mapping[str, str], book: SettingsFile
) -> tuple[str, str, Profile | None]:
    """The URL, where it comes from, and the profile that fills the gaps."""
    ranks = (
        (flags.get("url"), flags.get("profile"), "flag --url"),
        (environ.get("ONEFS_URL"), environ.get("ONEFS_PROFILE"), "ONEFS_URL"),
    )
    for given, name, source in ranks:
        profile = book.profile_named(name) if name else None
        if given:
            url = normalise(given)
            if profile is not None and profile.url != url:
                if source == "flag --url":
                    raise UsageError(
                        f"--url {url} is not the URL of profile {profile.name} ({profile.url}): "
                        "give one of the two"
                    )
                profile = None
            return url, source, profile or book.profile_of_url(url)
        if profile is not None:
            return profile.url, f"profile {profile.name}", profile
    profile = book.default_profile()
    if profile is None:
        raise NotConfigured(
            _several_profiles_message(book) if book.profiles else _NOT_CONFIGURED_MESSAGE
        )
    return profile.url, f"profile {profile.name}", profile


def _several_profiles_message(book: SettingsFile) -> str:
    return f"several profiles and no default: add --profile with one of {', '.join(book.profiles)}"


def _parse_profile(name: str, row: Any, path: Path) -> Profile:
    known = {item.name for item in fields(Profile)} - {"name"}
    if not isinstance(row, dict) or not all(isinstance(row.get(key, ""), str) for key in known):
        raise UsageError(f"{path}: profile {name!r} is broken: its values must be texts")
    values = {key: row[key] for key in known & row.keys()}
    if not values.get("url"):
        raise UsageError(f"{path}: profile {name!r} has no url")
    return Profile(name=name, **{**values, "url": normalise(values["url"])})


def _absolute_path(text: str) -> Path:
    return Path(absolute(text))

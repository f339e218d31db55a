"""Settings of a command: profiles and folders.

Flags override variables, and variables override profiles.

The settings file (``<user config>/onefs/settings.json``) holds profiles, and no secrets::

    {"default": "ibl",
     "profiles": {"ibl": {"url": "https://openalyx.internationalbrainlab.org",
                          "username": "intbrainlab",
                          "cache_dir": "/data/one",
                          "data_url": "https://ibl.flatironinstitute.org",
                          "data_username": "iblmember"}}}
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import platformdirs

from onefs.config.cache_options import OPTION_NAMES, CacheOptions, resolve_cache_options
from onefs.config.file_attributes import (
    ATTRIBUTE_NAMES,
    FileAttributes,
    resolve_file_attributes,
)
from onefs.config.private_files import file_lock, read_json, write_json
from onefs.config.public_bucket import BUCKET_VARIABLE, DATA_VARIABLE, bucket_url, public_name
from onefs.config.urls import host_key, is_loopback, normalise, origin
from onefs.errors import NotConfigured, UsageError
from onefs.lowlevel.paths import absolute

#: the variables that all commands read. ``onefs.config.credentials`` reads those with secrets
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
    BUCKET_VARIABLE,
    DATA_VARIABLE,
    *(f"ONEFS_{name.upper()}" for name in (*OPTION_NAMES, *ATTRIBUTE_NAMES)),
)

_NOT_CONFIGURED_MESSAGE = (
    "no database is set up: run `onefs setup`, or set ONEFS_URL, ONEFS_USERNAME and "
    "ONEFS_PASSWORD, or read IBL's public data without an account by `onefs mount --public "
    "MOUNTPOINT`, or try the built-in laboratory with `onefs mount --demo MOUNTPOINT` or `onefs "
    "demo serve`"
)


class Profile(NamedTuple):
    """One database in the settings file. A value that the file does not set is ''."""

    name: str
    url: str
    username: str = ""
    cache_dir: str = ""
    state_dir: str = ""
    #: URL of the file server that gets the data user and password with each request
    data_url: str = ""
    data_username: str = ""
    #: other file servers, separated by commas, that get the data user and password when they ask
    #: for a login (see :func:`parse_data_hosts`)
    data_hosts: str = ""
    #: ``yes`` if ``url`` is a public bucket, which needs no account and has no Alyx
    public: str = ""
    #: options of :mod:`onefs.config.cache_options`, in the same format as for the flags
    cache_size: str = ""
    min_free: str = ""
    small_file: str = ""
    strict: str = ""
    max_fetch: str = ""
    indexers: str = ""
    copies: str = ""
    trust_cache_dir: str = ""
    writable: str = ""
    no_siblings: str = ""
    qc: str = ""
    source: str = ""
    #: attributes of :mod:`onefs.config.file_attributes`, in the same format as for the flags
    umask: str = ""
    uid: str = ""
    gid: str = ""
    inode32: str = ""


class SettingsFile(NamedTuple):
    """The content of the settings file: profiles by name, and the name of the default profile."""

    profiles: Mapping[str, Profile]
    default: str = ""

    def profile_named(self, name: str) -> Profile:
        """Return the profile with the name ``name``.

        Raises UsageError, with a list of the existing profiles, if there is no such profile.
        """
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none yet; run `onefs setup`"
            raise UsageError(f"there is no profile {name!r} (known: {known})")
        return self.profiles[name]

    def profile_of_url(self, url: str) -> Profile | None:
        """Return the profile that has the URL ``url``, or None if no profile has this URL.

        Of several such profiles, return the default profile, otherwise the first by name.
        """
        profiles = [self.profiles[name] for name in sorted(self.profiles)]
        profiles.sort(key=lambda profile: profile.name != self.default)
        return next((profile for profile in profiles if profile.url == url), None)

    def default_profile(self) -> Profile | None:
        """Return the profile for commands that name no profile.

        This is the default profile, or the only profile. Return None if there is no such profile.
        """
        if self.default:
            return self.profile_named(self.default)
        return next(iter(self.profiles.values())) if len(self.profiles) == 1 else None


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one command."""

    url: str
    #: '' if no user name is set
    username: str
    #: the name of the profile from which other values come. '' if no profile is used
    profile: str
    #: the ONE cache folder, in which each lab is a folder
    cache_dir: Path
    #: the folder of the catalogue and other databases, on a local disk
    state_dir: Path
    data_url: str = ""
    data_username: str = ""
    #: origins of other file servers that get the data user and password when they ask for a login
    data_hosts: tuple[str, ...] = ()
    #: whether ``url`` is a public bucket, which needs no account and has no Alyx
    public: bool = False
    cache_options: CacheOptions = field(default_factory=CacheOptions)
    file_attributes: FileAttributes = field(default_factory=FileAttributes)
    #: for each setting, where its value comes from: a flag, a variable, a profile or ``default``
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def log_file(self) -> Path:
        """Return the path of the log file of a mount in the background."""
        return self.state_dir / "onefs.log"

    @property
    def database_name(self) -> str:
        """Return the name of the database, for names of folders and for the cache's owner."""
        return public_name(self.url) if self.public else host_key(self.url)


def config_dir() -> Path:
    """Return the folder of settings.json and credentials.json."""
    return Path(platformdirs.user_config_dir("onefs"))


def settings_path() -> Path:
    """Return the path of the settings file."""
    return config_dir() / "settings.json"


def default_cache_dir(url: str, *, public: bool = False) -> Path:
    """Return the default cache folder for the database at ``url``.

    A setting can name another folder. ``public``: ``url`` is a public bucket.
    """
    name = public_name(url) if public else host_key(url)
    return Path(platformdirs.user_cache_dir("onefs")) / name


def default_state_dir(url: str, *, public: bool = False) -> Path:
    """Return the default state folder for the database at ``url``.

    The state folder holds the catalogue and the log. A setting can name another folder.
    ``public``: ``url`` is a public bucket.
    """
    name = public_name(url) if public else host_key(url)
    return Path(platformdirs.user_state_dir("onefs")) / name


def load_settings_file(path: Path | None = None) -> SettingsFile:
    """Return the content of the settings file. A missing file has no profiles.

    Raises UsageError if the file is broken.
    """
    path = path or settings_path()
    data = read_json(path)
    default, profiles = data.get("default", ""), data.get("profiles", {})
    if not isinstance(default, str) or not isinstance(profiles, dict):
        raise UsageError(
            f"the file {path} is broken: mend the file, or move it away and run `onefs setup`"
        )
    if default and default not in profiles:
        raise UsageError(
            f"the file {path} has no profile {default!r}, which is its default profile: mend the "
            "file, or move it away and run `onefs setup`"
        )
    return SettingsFile(
        {name: _parse_profile(name, row, path) for name, row in profiles.items()}, default
    )


def save_profile(profile: Profile, *, default: bool, path: Path | None = None) -> None:
    """Add a profile to the settings file, or replace the profile with the same name.

    The profile becomes the default if ``default`` is True, or if the file has no default profile.
    Raises UsageError if the file is broken or cannot be written.
    """
    with _edited_file(path or settings_path()) as (settings_file, data):
        row = {
            field: value for field, value in profile._asdict().items() if field != "name" and value
        }
        data.setdefault("profiles", {})[profile.name] = row
        if default or not settings_file.default:
            data["default"] = profile.name


def set_default_profile(name: str, path: Path | None = None) -> None:
    """Make a saved profile the default profile.

    Raises UsageError if no profile has the name ``name``, or if the settings file is broken or
    cannot be written.
    """
    with _edited_file(path or settings_path()) as (settings_file, data):
        settings_file.profile_named(name)
        data["default"] = name


def remove_profile(name: str, path: Path | None = None) -> str:
    """Remove a saved profile, and return the name of the default profile afterwards.

    Return '' if there is no default profile then. Raises UsageError if no profile has the name
    ``name``, or if the settings file is broken or cannot be written.
    """
    path = path or settings_path()
    with _edited_file(path) as (settings_file, data):
        settings_file.profile_named(name)
        del data["profiles"][name]
        if data.get("default") == name:
            del data["default"]
    remaining = load_settings_file(path).default_profile()
    return remaining.name if remaining is not None else ""


@contextmanager
def _edited_file(path: Path) -> Iterator[tuple[SettingsFile, dict[str, Any]]]:
    """Yield the content of the settings file, parsed and as JSON data.

    The JSON data, which the caller changes, are written at the end of the ``with`` block.
    """
    with file_lock(path):
        data = read_json(path)
        yield load_settings_file(path), data
        write_json(path, data)


def resolve_settings(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> Settings:
    """Return the settings of one command.

    ``flags`` may hold public, url, username, profile, data_username, data_url, data_hosts,
    cache_dir, state_dir, and the names in ``onefs.config.cache_options`` and
    ``onefs.config.file_attributes``.

    The URL comes from the first of these sources that is set:

    - the public flag: the URL of the public bucket
    - the URL flag
    - the profile flag
    - ONEFS_URL
    - ONEFS_PROFILE
    - the default profile

    Every other setting comes from a flag, otherwise from an environment variable, otherwise from
    the profile with this URL. If ONEFS_URL is set to another URL, ONEFS_USERNAME,
    ONEFS_DATA_USERNAME and ONEFS_DATA_HOSTS are ignored.

    Raises NotConfigured if no URL is known. Raises UsageError for an unknown profile, a broken
    settings file, or a URL flag that contradicts the profile flag.
    """
    environ = os.environ if environ is None else environ
    url, url_source, chosen = _choose_url(flags, environ, load_settings_file(path))
    profile = chosen or Profile("", url)
    row = profile._asdict()
    public = bool(flags.get("public") or profile.public)
    own = environ if is_environment_for(environ, url) and not public else {}
    values, sources = {}, {"url": url_source}
    for name, variables, default in (
        ("username", own, ""),
        ("data_username", own, ""),
        ("data_url", {}, ""),
        ("data_hosts", own, ""),
        ("cache_dir", environ, str(default_cache_dir(url, public=public))),
        ("state_dir", environ, str(default_state_dir(url, public=public))),
    ):
        values[name], sources[name] = _pick_value(name, flags, variables, profile, default)
    return Settings(
        url=url,
        profile=profile.name,
        username=values["username"],
        data_username=values["data_username"],
        data_url=values["data_url"],
        data_hosts=parse_data_hosts(values["data_hosts"], sources["data_hosts"]),
        public=public,
        cache_dir=Path(absolute(values["cache_dir"])),
        state_dir=Path(absolute(values["state_dir"])),
        cache_options=resolve_cache_options(flags, environ, row),
        file_attributes=resolve_file_attributes(flags, environ, row),
        sources=MappingProxyType(sources),
    )


def is_environment_for(environ: Mapping[str, str], url: str) -> bool:
    """Whether the user, the password and the token in the environment are for ``url``.

    Return True if ``ONEFS_URL`` is ``url`` or is not set.
    """
    named_url = environ.get("ONEFS_URL")
    # secrets for one server must not be sent to another server
    return not named_url or normalise(named_url) == url


def parse_data_hosts(text: str, source: str) -> tuple[str, ...]:
    """Return the origins in ``text``, which are separated by commas. ``none`` means no origin.

    An origin is scheme, host and port. The default scheme is https; a loopback host without scheme
    gets both https and http. Raises UsageError that names ``source`` for an invalid origin. A
    pattern such as ``*.org`` is invalid.
    """
    origins: list[str] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if word.lower() == "none":
            continue
        if "*" in word:
            raise UsageError(
                f"{source}: {word!r} is a pattern, which is not allowed: name each host"
            )
        try:
            base = origin(normalise(word))
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error
        origins.append(base)
        if "://" not in word and is_loopback(base):
            origins.append(origin(f"http{base.removeprefix('https')}"))
    return tuple(dict.fromkeys(origins))


def _pick_value(
    name: str,
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    profile: Profile,
    default: str,
) -> tuple[str, str]:
    """Return ``(value, source)`` of a setting.

    The value comes from a flag, otherwise from an environment variable, otherwise from the profile,
    otherwise from ``default``.
    """
    variable = f"ONEFS_{name.upper()}"
    candidates: tuple[tuple[str | None, str], ...] = (
        (flags.get(name), "flag --" + name.replace("_", "-")),
        (environ.get(variable), variable),
        (getattr(profile, name), f"profile {profile.name}"),
    )
    given = ((value, source) for value, source in candidates if value)
    return next(given, (default, "default"))


def _choose_url(
    flags: Mapping[str, str | None], environ: Mapping[str, str], settings_file: SettingsFile
) -> tuple[str, str, Profile | None]:
    """Return the URL, the source of the URL, and the profile for the other settings, or None.

    Raises UsageError and NotConfigured as :func:`resolve_settings`.
    """
    if flags.get("public"):
        for other in ("url", "username", "profile"):
            if flags.get(other):
                raise UsageError(f"--public has its own database: leave out --{other}")
        bucket = bucket_url(environ)
        return bucket, "flag --public", settings_file.profile_of_url(bucket)
    ranks = (
        (flags.get("url"), flags.get("profile"), "flag --url"),
        (environ.get("ONEFS_URL"), environ.get("ONEFS_PROFILE"), "ONEFS_URL"),
    )
    for named_url, name, source in ranks:
        profile = settings_file.profile_named(name) if name else None
        if named_url:
            url = normalise(named_url)
            if profile is not None and profile.url != url:
                if source == "flag --url":
                    raise UsageError(
                        f"--url {url} is not the URL of profile {profile.name} ({profile.url}): "
                        "give one of the two"
                    )
                profile = None
            return url, source, profile or settings_file.profile_of_url(url)
        if profile is not None:
            return profile.url, f"profile {profile.name}", profile
    profile = settings_file.default_profile()
    if profile is None:
        raise NotConfigured(
            _several_profiles_message(settings_file)
            if settings_file.profiles
            else _NOT_CONFIGURED_MESSAGE
        )
    return profile.url, f"profile {profile.name}", profile


def _several_profiles_message(settings_file: SettingsFile) -> str:
    names = ", ".join(settings_file.profiles)
    return f"several profiles are saved and none is the default: add --profile with one of {names}"


def _parse_profile(name: str, row: Any, path: Path) -> Profile:
    known = {*Profile._fields} - {"name"}
    if not isinstance(row, dict) or not all(isinstance(row.get(key, ""), str) for key in known):
        raise UsageError(f"the file {path}: the values of profile {name!r} must be strings")
    values = {key: row[key] for key in known & row.keys()}
    if not values.get("url"):
        raise UsageError(f"the file {path}: profile {name!r} has no url")
    return Profile(name=name, **{**values, "url": normalise(values["url"])})

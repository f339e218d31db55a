"""Saving of a database as a profile, as ONE-api's ``setup`` does with ``silent=True``."""

from __future__ import annotations

import os
from pathlib import Path

from onefs.cache.folder_check import check_usable_as_cache
from onefs.config.public_bucket import ALYX_URL
from onefs.config.settings import (
    Profile,
    SettingsFile,
    default_state_dir,
    load_settings_file,
    save_profile,
)
from onefs.config.urls import host_key, normalise
from onefs.lowlevel.paths import absolute
from onefs.one.connect import ConnectionArguments, default_username


def save_setup(
    base_url: str | None,
    username: str | None,
    cache_dir: str | os.PathLike[str] | None,
    *,
    make_default: bool,
) -> None:
    """Save a database as a profile, without a question and without a request.

    The profile becomes the default if ``make_default`` is True, or if no profile is the default.
    Without ``base_url``, the default profile is changed. Raises UsageError for an invalid argument,
    or if there is neither an address nor a default profile.
    """
    ConnectionArguments(username=username, base_url=base_url, cache_dir=cache_dir)
    saved = load_settings_file()
    profile = _profile_to_save(saved, base_url)
    folder = profile.cache_dir
    if cache_dir is not None:
        folder = absolute(os.fspath(cache_dir))
        check_usable_as_cache(Path(folder), default_state_dir(profile.url))
    user = username or profile.username or default_username(profile.url) or ""
    save_profile(profile._replace(username=user, cache_dir=folder), default=make_default)


def _profile_to_save(saved: SettingsFile, base_url: str | None) -> Profile:
    if base_url is None and (known := saved.default_profile()) is not None:
        return known
    url = ALYX_URL if base_url is None else normalise(base_url)
    name = host_key(url)
    while name in saved.profiles:  # of another path on the same host
        name += "_"
    return saved.profile_of_url(url) or Profile(name, url)

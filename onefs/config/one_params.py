"""The settings that ONE has saved: defaults for ``onefs setup``, and a source of credentials.

ONE-api 2 and 3 write ``~/.one/.caches`` (cache folders by database, and the default database) and
``~/.one/.<host>`` for each database. ibllib's ONE and the ONE for MATLAB write ``~/.one_params``.
All these files are JSON with passwords in plain text. onefs only reads these files, and skips
missing and broken files.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onefs.config.secret import Secret
from onefs.config.urls import normalise
from onefs.errors import UsageError

_NO_SECRET = Secret("")
_HTTP_SCHEME = re.compile(r"^https?://", re.IGNORECASE)
_UNSAFE_CHARACTERS = re.compile(r"[^.\w\s-]")
_DASHES = re.compile(r"[-\s]+")
#: the number of characters of the longest URL that a database may have
_MAX_URL_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class OneSettings:
    """The settings that ONE has saved for one database. A setting that is not saved is ''."""

    url: str
    username: str = ""
    password: Secret = _NO_SECRET
    #: Alyx tokens by user name
    tokens: Mapping[str, Secret] = field(default_factory=dict)
    cache_dir: str = ""
    data_url: str = ""
    data_username: str = ""
    data_password: Secret = _NO_SECRET
    #: the file that these settings are read from
    source: Path = Path()


def find_by_url(url: str, home: Path | None = None) -> OneSettings | None:
    """Return the settings that ONE has saved for ``url``, or None if there are no settings.

    ``http`` and ``https`` are equal here. The settings are read from the file that ONE-api 2 or 3
    has for ``url``, otherwise from ``~/.one_params``.
    """
    key, home = one_key(url), home or Path.home()
    saved = _read_by_key(key, home) or _read_one_params(home)
    return saved if saved is not None and one_key(saved.url) == key else None


def find_default(home: Path | None = None) -> OneSettings | None:
    """Return the settings that ONE uses for its default database.

    Return None if ONE has saved no settings.
    """
    home = home or Path.home()
    key = _read_caches(home).get("DEFAULT")
    saved = _read_by_key(key, home) if isinstance(key, str) else None
    return saved or _read_one_params(home)


def one_key(url: str) -> str:
    """Return the name that ONE uses for a database in file names (``one/params.py``).

    The name is the URL without scheme, in lower case and without special characters.
    """
    # the URL is cut, because the time for this call grows as the square of the length
    text = unicodedata.normalize("NFKC", url[:_MAX_URL_LENGTH])
    text = _HTTP_SCHEME.sub("", text.strip()).strip("/")
    text = _UNSAFE_CHARACTERS.sub("_", text.lower())
    return _DASHES.sub("-", text)


def _read_by_key(key: str, home: Path) -> OneSettings | None:
    if not key or "/" in key:
        return None
    path = home / ".one" / f".{key}"
    folders = _read_caches(home).get("CLIENT_MAP")
    cache_dir = folders.get(key) if isinstance(folders, dict) else None
    return _parse_settings(_read_json(path), path, cache_dir)


def _read_one_params(home: Path) -> OneSettings | None:
    path = home / ".one_params"
    data = _read_json(path)
    return _parse_settings(data, path, data.get("CACHE_DIR"))


def _read_caches(home: Path) -> dict[str, Any]:
    return _read_json(home / ".one" / ".caches")


def _parse_settings(data: dict[str, Any], path: Path, cache_dir: object) -> OneSettings | None:
    def text(key: str) -> str:
        value = data.get(key)
        return value if isinstance(value, str) else ""

    try:
        url = normalise(text("ALYX_URL"))
    except UsageError:
        return None
    tokens = data.get("TOKEN")
    return OneSettings(
        url=url,
        username=text("ALYX_LOGIN"),
        password=Secret(text("ALYX_PWD")),
        tokens=_parse_tokens(tokens) if isinstance(tokens, dict) else {},
        cache_dir=cache_dir if isinstance(cache_dir, str) else "",
        data_url=text("HTTP_DATA_SERVER"),
        data_username=text("HTTP_DATA_SERVER_LOGIN"),
        data_password=Secret(text("HTTP_DATA_SERVER_PWD")),
        source=path,
    )


def _parse_tokens(saved: dict[str, Any]) -> dict[str, Secret]:
    """Convert ``{user: {"token": key}}`` to ``{user: key}``."""
    return {
        user: Secret(row["token"])
        for user, row in saved.items()
        if isinstance(row, dict) and isinstance(row.get("token"), str)
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}

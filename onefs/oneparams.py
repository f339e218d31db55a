"""ONE's own saved settings, read only: defaults for ``onefs setup`` and a source of credentials.

ONE-api 2 and 3 keep ``~/.one/.caches`` (cache folders by database, and the default database) and
``~/.one/.<host>`` for each database; ibllib's ONE and the MATLAB one keep ``~/.one_params``. All
are JSON with passwords in plain text. Files that are absent, broken or cut short are skipped.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onefs.errors import UsageError
from onefs.secret import Secret
from onefs.urls import normalise

_NONE = Secret("")
_SCHEME = re.compile(r"^https?://", re.IGNORECASE)
_ODD = re.compile(r"[^.\w\s-]")
_DASHES = re.compile(r"[-\s]+")
#: characters of the longest URL of a database
_LONGEST_URL = 2000


@dataclass(frozen=True, slots=True)
class OneSettings:
    """What ONE has saved for one database; '' where it has nothing."""

    url: str
    username: str = ""
    password: Secret = _NONE
    #: Alyx tokens by user name
    tokens: Mapping[str, Secret] = field(default_factory=dict)
    cache_dir: str = ""
    data_url: str = ""
    data_username: str = ""
    data_password: Secret = _NONE
    #: the file that it was read from
    source: Path = Path()


def of_url(url: str, home: Path | None = None) -> OneSettings | None:
    """What ONE has saved for ``url``, whatever the scheme; the newer files are asked first."""
    key = key_of(url)
    found = _of_key(key, home or Path.home()) or _old(home or Path.home())
    return found if found is not None and key_of(found.url) == key else None


def default(home: Path | None = None) -> OneSettings | None:
    """What ONE would use when no database is named."""
    home = home or Path.home()
    key = _caches(home).get("DEFAULT")
    found = _of_key(key, home) if isinstance(key, str) else None
    return found or _old(home)


def key_of(url: str) -> str:
    """The name that ONE gives to a database: its URL without scheme, made safe (one/params.py)."""
    text = unicodedata.normalize("NFKC", url[:_LONGEST_URL])  # takes time as the square of these
    text = _SCHEME.sub("", text.strip()).strip("/")
    text = _ODD.sub("_", text.lower())
    return _DASHES.sub("-", text)


def _of_key(key: str, home: Path) -> OneSettings | None:
    if not key or "/" in key:
        return None
    path = home / ".one" / f".{key}"
    folders = _caches(home).get("CLIENT_MAP")
    cache_dir = folders.get(key) if isinstance(folders, dict) else None
    return _settings(_read(path), path, cache_dir)


def _old(home: Path) -> OneSettings | None:
    path = home / ".one_params"
    data = _read(path)
    return _settings(data, path, data.get("CACHE_DIR"))


def _caches(home: Path) -> dict[str, Any]:
    return _read(home / ".one" / ".caches")


def _settings(data: dict[str, Any], path: Path, cache_dir: object) -> OneSettings | None:
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
        tokens=_tokens(tokens) if isinstance(tokens, dict) else {},
        cache_dir=cache_dir if isinstance(cache_dir, str) else "",
        data_url=text("HTTP_DATA_SERVER"),
        data_username=text("HTTP_DATA_SERVER_LOGIN"),
        data_password=Secret(text("HTTP_DATA_SERVER_PWD")),
        source=path,
    )


def _tokens(saved: dict[str, Any]) -> dict[str, Secret]:
    """``{user: {"token": key}}`` as ``{user: key}``."""
    return {
        user: Secret(row["token"])
        for user, row in saved.items()
        if isinstance(row, dict) and isinstance(row.get("token"), str)
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}

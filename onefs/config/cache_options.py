"""How a cache folder is kept: its limits, and what a mount may fetch.

Said by flags, variables (``ONEFS_CACHE_SIZE`` ...) and profiles, in this order, as everything in
``onefs.config.settings``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onefs.errors import UsageError

#: settings of a profile, and variables with ``ONEFS_`` before them
OPTION_NAMES = (
    *("cache_size", "min_free", "small_file", "strict", "max_fetch", "indexers", "copies"),
    *("trust_cache_dir", "writable"),
)
#: those of them that are yes or no
_BOOLEAN_OPTIONS = ("strict", "trust_cache_dir")

#: files up to this size are fetched whole
SMALL_FILE_BYTES = 16 << 20
#: programs that read whatever they find, and are not to cause downloads
INDEXER_PROGRAMS = (
    "updatedb",
    "updatedb.mlocate",
    "updatedb.plocate",
    "tracker-miner-fs",
    "tracker-miner-fs-3",
    "tracker-extract",
    "tracker-extract-3",
    "localsearch-3",
    "localsearch-extractor-3",
    "baloo_file",
    "baloo_file_extractor",
    "recollindex",
    "tumblerd",
    "ffmpegthumbnailer",
    "totem-video-thumbnailer",
    "gdk-pixbuf-thumbnailer",
    "evince-thumbnailer",
)

#: names in the root of a mount that lead to folders of the user's own: what IBL's code writes
#: below ONE's cache folder, and the tag of ONE's tables that has no date
WRITABLE_FOLDERS = (
    "histology",
    "cache",
    "bwm_res",
    "bwm_tables",
    "granger",
    "manifold",
    "dmn",
    "fr_performance",
    "Brainwidemap",
)

_SIZE_PATTERN = re.compile(
    r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE | re.ASCII
)
_FOLDER_NAME_PATTERN = re.compile(r"\w[\w -]{0,99}")
_BOOLEANS = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Limits of a cache folder, in bytes, and of what a mount fetches."""

    #: of the files that onefs downloaded, together; None for as much as there is
    cache_size: int | None = None
    #: free space that is left to others on the disk
    min_free: int = 0
    #: files up to this size are fetched whole, and verified before their first byte is served
    small_file: int = SMALL_FILE_BYTES
    #: no byte of any file is served before the whole is verified
    strict: bool = False
    #: bytes that a mount fetches in any hour; None for no limit
    max_fetch: int | None = None
    #: names of programs whose reads never cause a download
    indexers: tuple[str, ...] = INDEXER_PROGRAMS
    #: names or patterns of repositories whose copies are tried first, in this order
    copies: tuple[str, ...] = ()
    #: use the folders although others may have planted something in them (see
    #: ``onefs.cache.permissions``)
    trust_cache_dir: bool = False
    #: names in the root of a mount that lead to folders of the user's own
    writable: tuple[str, ...] = WRITABLE_FOLDERS


def parse_size(text: str) -> int:
    """``20G``, ``500M``, ``1.5 TiB`` or a number of bytes, in bytes; K is 1024.

    Raises UsageError.
    """
    match = _SIZE_PATTERN.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size: write it like 500M or 20G")
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2].upper() or " "))


def parse_rate(text: str) -> int:
    """``5G/h`` (or ``5G``), in bytes an hour. Raises UsageError."""
    amount, slash, unit = text.partition("/")
    if slash and unit.strip().lower() not in ("h", "hour"):
        raise UsageError(f"{text!r} is no rate: write it like 5G/h")
    return parse_size(amount)


def parse_boolean(text: str) -> bool:
    """Return what ``yes``, ``1``, ``no`` and the like mean. Raises UsageError for other texts."""
    if text.lower() not in _BOOLEANS:
        raise UsageError(f"{text!r} is neither yes nor no")
    return _BOOLEANS[text.lower()]


def first_given(
    names: Iterable[str],
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    profile: Mapping[str, str],
) -> dict[str, tuple[str, str]]:
    """Return value and source of each setting that a flag, a variable or the profile has."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        variable = f"ONEFS_{name.upper()}"
        for value, source in (
            (flags.get(name), "--" + name.replace("_", "-")),
            (environ.get(variable), variable),
            (profile.get(name), f"the profile's {name}"),
        ):
            if value:
                found[name] = value, source
                break
    return found


def resolve_cache_options(
    flags: Mapping[str, str | None], environ: Mapping[str, str], profile: Mapping[str, str]
) -> CacheOptions:
    """What flags, variables and a profile say together; each may lack any of :data:`NAMES`.

    ``none`` as a size means no limit, as ``indexers`` nobody, as ``copies`` no wish,
    as ``writable`` no name but :data:`WRITABLE_FOLDERS`.
    Raises UsageError naming the source.
    """
    found: dict[str, str] = {}
    for name, (value, source) in first_given(OPTION_NAMES, flags, environ, profile).items():
        _check_option(name, value, source)
        found[name] = value
    indexers = found.get("indexers")
    return CacheOptions(
        cache_size=_parse_limit(found.get("cache_size")),
        min_free=_parse_limit(found.get("min_free")) or 0,
        small_file=parse_size(found.get("small_file", str(SMALL_FILE_BYTES))),
        strict=parse_boolean(found.get("strict", "no")),
        trust_cache_dir=parse_boolean(found.get("trust_cache_dir", "no")),
        max_fetch=_parse_limit(found.get("max_fetch")),
        indexers=INDEXER_PROGRAMS if indexers is None else _parse_names(indexers),
        copies=_parse_names(found.get("copies", "none")),
        writable=(*WRITABLE_FOLDERS, *_parse_names(found.get("writable", "none"))),
    )


def _check_option(name: str, value: str, source: str) -> None:
    try:
        if name in _BOOLEAN_OPTIONS:
            parse_boolean(value)
        elif name == "small_file":
            parse_size(value)
        elif name == "writable":
            _check_writable(value)
        elif name not in ("indexers", "copies"):
            _parse_limit(value)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def _check_writable(text: str) -> None:
    """Refuse names that are none of a folder, or that a glob for files might ask for."""
    for name in [] if text.lower() == "none" else text.split(","):
        if not _FOLDER_NAME_PATTERN.fullmatch(name.strip()):
            raise UsageError(
                f"{name.strip()!r} cannot be the name of a folder to write to: use letters, "
                "digits, spaces, - and _, at most 100 of them, with commas between names"
            )


def _parse_limit(text: str | None) -> int | None:
    if text is None or text.lower() == "none":
        return None
    return parse_rate(text)


def _parse_names(text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    return tuple(name.strip() for name in text.split(",") if name.strip())

"""How a cache folder is kept: its limits, and what a mount may fetch.

Said by flags, variables (``ONEFS_CACHE_SIZE`` ...) and profiles, in this order, as everything in
``onefs.settings``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onefs.errors import UsageError

#: settings of a profile, and variables with ``ONEFS_`` before them
NAMES = (
    *("cache_size", "min_free", "small_file", "strict", "max_fetch", "indexers", "copies"),
    *("trust_cache_dir", "writable"),
)
#: those of them that are yes or no
_FLAGS = ("strict", "trust_cache_dir")

#: files up to this size are fetched whole
SMALL_FILE = 16 << 20
#: programs that read whatever they find, and are not to cause downloads
INDEXERS = (
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
WRITABLE = (
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

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_FOLDER = re.compile(r"\w[\w -]{0,99}")
_YES = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}


@dataclass(frozen=True, slots=True)
class Storing:
    """Limits of a cache folder, in bytes, and of what a mount fetches."""

    #: of the files that onefs downloaded, together; None for as much as there is
    cache_size: int | None = None
    #: free space that is left to others on the disk
    min_free: int = 0
    #: files up to this size are fetched whole, and verified before their first byte is served
    small_file: int = SMALL_FILE
    #: no byte of any file is served before the whole is verified
    strict: bool = False
    #: bytes that a mount fetches in any hour; None for no limit
    max_fetch: int | None = None
    #: names of programs whose reads never cause a download
    indexers: tuple[str, ...] = INDEXERS
    #: names or patterns of repositories whose copies are tried first, in this order
    copies: tuple[str, ...] = ()
    #: use the folders although others may have planted something in them (see ``onefs.trust``)
    trust_cache_dir: bool = False
    #: names in the root of a mount that lead to folders of the user's own
    writable: tuple[str, ...] = WRITABLE


def parse_size(text: str) -> int:
    """``20G``, ``500M``, ``1.5 TiB`` or a number of bytes, in bytes; K is 1024.

    Raises UsageError.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size: write it like 500M or 20G")
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2].upper() or " "))


def parse_rate(text: str) -> int:
    """``5G/h`` (or ``5G``), in bytes an hour. Raises UsageError."""
    amount, slash, unit = text.partition("/")
    if slash and unit.strip().lower() not in ("h", "hour"):
        raise UsageError(f"{text!r} is no rate: write it like 5G/h")
    return parse_size(amount)


def yes_or_no(text: str) -> bool:
    """Return what ``yes``, ``1``, ``no`` and the like mean. Raises UsageError for other texts."""
    if text.lower() not in _YES:
        raise UsageError(f"{text!r} is neither yes nor no")
    return _YES[text.lower()]


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


def storing(
    flags: Mapping[str, str | None], environ: Mapping[str, str], profile: Mapping[str, str]
) -> Storing:
    """What flags, variables and a profile say together; each may lack any of :data:`NAMES`.

    ``none`` as a size means no limit, as ``indexers`` nobody, as ``copies`` no wish,
    as ``writable`` no name but :data:`WRITABLE`.
    Raises UsageError naming the source.
    """
    found: dict[str, str] = {}
    for name, (value, source) in first_given(NAMES, flags, environ, profile).items():
        _check(name, value, source)
        found[name] = value
    indexers = found.get("indexers")
    return Storing(
        cache_size=_limit(found.get("cache_size")),
        min_free=_limit(found.get("min_free")) or 0,
        small_file=parse_size(found.get("small_file", str(SMALL_FILE))),
        strict=yes_or_no(found.get("strict", "no")),
        trust_cache_dir=yes_or_no(found.get("trust_cache_dir", "no")),
        max_fetch=_limit(found.get("max_fetch")),
        indexers=INDEXERS if indexers is None else _names(indexers),
        copies=_names(found.get("copies", "none")),
        writable=(*WRITABLE, *_names(found.get("writable", "none"))),
    )


def _check(name: str, value: str, source: str) -> None:
    try:
        if name in _FLAGS:
            yes_or_no(value)
        elif name == "small_file":
            parse_size(value)
        elif name == "writable":
            _check_writable(value)
        elif name not in ("indexers", "copies"):
            _limit(value)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def _check_writable(text: str) -> None:
    """Refuse names that are none of a folder, or that a glob for files might ask for."""
    for name in [] if text.lower() == "none" else text.split(","):
        if not _FOLDER.fullmatch(name.strip()):
            raise UsageError(
                f"{name.strip()!r} cannot be the name of a folder to write to: use letters, "
                "digits, spaces, - and _, at most 100 of them, with commas between names"
            )


def _limit(text: str | None) -> int | None:
    if text is None or text.lower() == "none":
        return None
    return parse_rate(text)


def _names(text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    return tuple(name.strip() for name in text.split(",") if name.strip())

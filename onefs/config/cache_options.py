"""Options of the cache folder: its limits, and what a mount may fetch.

Flags override environment variables (``ONEFS_CACHE_SIZE`` ...), and these override profiles. The
same is true for all settings in ``onefs.config.settings``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from onefs.errors import UsageError
from onefs.lowlevel.paths import absolute

if TYPE_CHECKING:
    from onefs.qc import QC

T = TypeVar("T")

#: names of the settings in a profile. The variable for ``min_free`` is ``ONEFS_MIN_FREE``
OPTION_NAMES = (
    *("cache_size", "min_free", "small_file", "strict", "max_fetch", "indexers", "copies"),
    *("trust_cache_dir", "writable", "no_siblings", "source", "qc"),
)

#: bytes of the largest file that is fetched as a whole
SMALL_FILE_BYTES = 16 << 20
#: the environment variable that has the same meaning as ``--adopt``
ADOPT_VARIABLE = "ONEFS_ADOPT"
#: programs that read every file that they find. The reads of these programs must not cause
#: downloads
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

#: names in the root of a mount that lead to writable folders of the user. IBL's code writes to
#: folders with these names below ONE's cache folder. ``Brainwidemap`` is a tag of
#: ONE's cache tables whose name has no date
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
    """Limits of a cache folder, and of what a mount fetches. All sizes are in bytes."""

    #: the most bytes that all downloaded files take together. None means no limit
    cache_size: int | None = None
    #: bytes that onefs leaves free on the disk
    min_free: int = 0
    #: a file of at most this many bytes is fetched as a whole, and verified before its first byte
    #: is served
    small_file: int = SMALL_FILE_BYTES
    #: whether every file is verified as a whole before its first byte is served
    strict: bool = False
    #: the most bytes that a mount fetches in an hour. None means no limit
    max_fetch: int | None = None
    #: names of programs whose reads never cause a download
    indexers: tuple[str, ...] = INDEXER_PROGRAMS
    #: names or patterns of repositories whose replicas are tried first, in this order
    copies: tuple[str, ...] = ()
    #: whether the cache folder is used even if other users can write to it (see
    #: ``onefs.cache.permissions``)
    trust_cache_dir: bool = False
    #: names in the root of a mount that lead to writable folders of the user
    writable: tuple[str, ...] = WRITABLE_FOLDERS
    #: whether a mount never fetches small files before a program reads them
    no_siblings: bool = False
    #: the worst QC of the datasets that a mount shows. None means that all are shown
    qc: QC | None = None
    #: absolute paths of disks that have the files of a file server, which are served in place
    disks: tuple[str, ...] = ()


def parse_size(text: str) -> int:
    """Return the number of bytes for a size like ``20G``, ``500M``, ``1.5 TiB`` or ``1000``.

    K is 1024 bytes. Raises UsageError for other texts.
    """
    match = _SIZE_PATTERN.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size: write it like 500M or 20G")
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2].upper() or " "))


def parse_rate(text: str) -> int:
    """Return the bytes per hour for a rate like ``5G/h`` or ``5G``.

    Raises UsageError for other texts.
    """
    amount, slash, unit = text.partition("/")
    if slash and unit.strip().lower() not in ("h", "hour"):
        raise UsageError(f"{text!r} is not a rate: write it like 5G/h")
    return parse_size(amount)


def parse_boolean(text: str) -> bool:
    """Return True for ``yes``, ``true`` or ``1``, and False for ``no``, ``false`` or ``0``.

    Raises UsageError for other texts.
    """
    if text.lower() not in _BOOLEANS:
        raise UsageError(f"{text!r} is neither yes nor no: write yes or no")
    return _BOOLEANS[text.lower()]


def first_given(
    names: Iterable[str],
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    profile: Mapping[str, str],
) -> dict[str, tuple[str, str]]:
    """Return ``{name: (value, source)}`` for each setting in ``names`` that has a value.

    A flag overrides an environment variable, and this variable overrides the profile. ``source`` is
    a text for messages, such as ``--cache-size``.
    """
    given: dict[str, tuple[str, str]] = {}
    for name in names:
        variable = f"ONEFS_{name.upper()}"
        for value, source in (
            (flags.get(name), "--" + name.replace("_", "-")),
            (environ.get(variable), variable),
            (profile.get(name), f"the profile's {name}"),
        ):
            if value:
                given[name] = value, source
                break
    return given


def parse_given(
    given: Mapping[str, tuple[str, str]], name: str, parse: Callable[[str], T], default: T
) -> T:
    """Return the parsed value of the setting ``name``, or ``default`` if no value is given.

    ``given`` is what :func:`first_given` returns. If ``parse`` raises UsageError, the source of the
    value is added to the message.
    """
    if name not in given:
        return default
    text, source = given[name]
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def resolve_cache_options(
    flags: Mapping[str, str | None], environ: Mapping[str, str], profile: Mapping[str, str]
) -> CacheOptions:
    """Return the cache options from flags, environment variables and a profile.

    An option that is set nowhere has its default value. The text ``none`` means:

    - no limit, for a limit
    - all datasets, for ``qc``
    - no names, for ``indexers``, ``copies`` and ``source``
    - only the names in :data:`WRITABLE_FOLDERS`, for ``writable``

    Raises UsageError that names the source of an invalid value.
    """
    given = first_given(OPTION_NAMES, flags, environ, profile)
    no_names: tuple[str, ...] = ()
    own_folders = parse_given(given, "writable", _parse_folder_names, no_names)
    return CacheOptions(
        cache_size=parse_given(given, "cache_size", _parse_limit, None),
        min_free=parse_given(given, "min_free", _parse_limit, None) or 0,
        small_file=parse_given(given, "small_file", parse_size, SMALL_FILE_BYTES),
        strict=parse_given(given, "strict", parse_boolean, False),
        max_fetch=parse_given(given, "max_fetch", _parse_limit, None),
        indexers=parse_given(given, "indexers", _parse_names, INDEXER_PROGRAMS),
        copies=parse_given(given, "copies", _parse_names, no_names),
        trust_cache_dir=parse_given(given, "trust_cache_dir", parse_boolean, False),
        writable=(*WRITABLE_FOLDERS, *own_folders),
        no_siblings=parse_given(given, "no_siblings", parse_boolean, False),
        qc=parse_given(given, "qc", _parse_worst_qc, None),
        disks=parse_given(given, "source", parse_disks, no_names),
    )


def parse_disks(text: str) -> tuple[str, ...]:
    """Return the absolute paths of the folders in ``text``, which colons separate.

    Raises UsageError for a path that is not a folder. A missing folder may be a disk that is not
    mounted now.
    """
    if text.lower() == "none":
        return ()
    folders = tuple(dict.fromkeys(absolute(each) for each in text.split(":") if each.strip()))
    for folder in folders:
        if folder == "/":
            raise UsageError(
                "the whole file system cannot be a source: name the folder of the labs"
            )
    return folders


def _parse_folder_names(text: str) -> tuple[str, ...]:
    """Return the names of folders in ``text``. Names are separated by commas.

    Raises UsageError for a name with a dot or another special character.
    """
    for name in [] if text.lower() == "none" else text.split(","):
        # a pattern for files might match another name
        if not _FOLDER_NAME_PATTERN.fullmatch(name.strip()):
            raise UsageError(
                f"{name.strip()!r} cannot be the name of a folder to write to: use letters, "
                "digits, spaces, - and _, at most 100 characters, and commas between names"
            )
    return _parse_names(text)


def _parse_worst_qc(text: str) -> QC | None:
    from onefs.qc import parse_qc

    return None if text.lower() == "none" else parse_qc(text)


def _parse_limit(text: str) -> int | None:
    return None if text.lower() == "none" else parse_rate(text)


def _parse_names(text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    return tuple(name.strip() for name in text.split(",") if name.strip())

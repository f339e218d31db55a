"""Attributes of the files in a mount: owner, modes and inode numbers.

Flags override environment variables (``ONEFS_UMASK`` ...), and these override profiles. The same is
true for all settings in ``onefs.config.settings``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onefs.config.cache_options import first_given, parse_boolean, parse_given
from onefs.errors import UsageError

#: names of the settings in a profile. The variable for ``umask`` is ``ONEFS_UMASK``
ATTRIBUTE_NAMES = ("umask", "uid", "gid", "inode32")

_OCTAL = re.compile(r"(?:0o)?([0-7]{1,4})", re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_MAX_UMASK = 0o777
#: the largest user or group id. The next number means "no id" to the kernel
_MAX_ID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class FileAttributes:
    """The owner, the modes and the width of inode numbers that ``stat`` shows for files."""

    #: bits that are removed from the modes of files (0644) and folders (0755)
    umask: int = 0
    #: the id of the owner. None means the user that mounts
    uid: int | None = None
    #: the id of the group. None means the group of the user that mounts
    gid: int | None = None
    #: whether inode numbers fit in 32 bits, for programs built for 32 bits
    inode32: bool = False


def parse_umask(text: str) -> int:
    """Return the number for an octal umask like ``022``. Raises UsageError for other texts."""
    match = _OCTAL.fullmatch(text.strip())
    number = int(match[1], 8) if match is not None else _MAX_UMASK + 1
    if number > _MAX_UMASK:
        raise UsageError(f"{text!r} is not a umask: write it in octal digits, like 022")
    return number


def parse_id(text: str) -> int:
    """Return the user or group id in ``text``. Raises UsageError for other texts."""
    text = text.strip()
    if _NUMBER.fullmatch(text) is None or int(text) > _MAX_ID:
        raise UsageError(f"{text!r} is not the number of a user or group: write it like 1000")
    return int(text)


def resolve_file_attributes(
    flags: Mapping[str, str | None], environ: Mapping[str, str], profile: Mapping[str, str]
) -> FileAttributes:
    """Return the attributes of files in a mount from flags, environment variables and a profile.

    An attribute that is set nowhere has its default value. Raises UsageError that names the source
    of an invalid value.
    """
    given = first_given(ATTRIBUTE_NAMES, flags, environ, profile)
    return FileAttributes(
        umask=parse_given(given, "umask", parse_umask, 0),
        uid=parse_given(given, "uid", parse_id, None),
        gid=parse_given(given, "gid", parse_id, None),
        inode32=parse_given(given, "inode32", parse_boolean, False),
    )

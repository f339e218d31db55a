"""The appearance of files in a mount: owner, modes and inode numbers.

Given by flags, variables (``ONEFS_UMASK`` ...) and profiles, in this order, as everything in
``onefs.config.settings``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from onefs.config.cache_options import first_given, parse_boolean
from onefs.errors import UsageError

T = TypeVar("T")

#: settings of a profile, and variables with ``ONEFS_`` before them
SETTING_NAMES = ("umask", "uid", "gid", "inode32")

_OCTAL = re.compile(r"(?:0o)?([0-7]{1,4})", re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_MAX_UMASK = 0o777
#: the largest user or group number: the one after it means "none" to the kernel
_MAX_ID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class FileAttributes:
    """Owner, modes and width of inode numbers, as ``stat`` shows them."""

    #: mode bits that are taken from files (0644) and folders (0755)
    umask: int = 0
    #: the owner; None for the user that mounts
    uid: int | None = None
    #: the group; None for the group of the user that mounts
    gid: int | None = None
    #: give each file an inode number that 32-bit programs can hold
    inode32: bool = False


def parse_umask(text: str) -> int:
    """Return the number of an octal umask like ``022``. Raises UsageError."""
    match = _OCTAL.fullmatch(text.strip())
    number = int(match[1], 8) if match is not None else _MAX_UMASK + 1
    if number > _MAX_UMASK:
        raise UsageError(f"{text!r} is not a umask: write it in octal digits, like 022")
    return number


def parse_id(text: str) -> int:
    """Return a user's or group's number. Raises UsageError."""
    text = text.strip()
    if _NUMBER.fullmatch(text) is None or int(text) > _MAX_ID:
        raise UsageError(f"{text!r} is not the number of a user or group: write it like 1000")
    return int(text)


def resolve_file_attributes(
    flags: Mapping[str, str | None], environ: Mapping[str, str], profile: Mapping[str, str]
) -> FileAttributes:
    """Return what flags, variables and a profile say together; each may lack any of the NAMES.

    Raises UsageError naming the source.
    """
    given = first_given(SETTING_NAMES, flags, environ, profile)

    def value(name: str, parse: Callable[[str], T], default: T) -> T:
        if name not in given:
            return default
        text, source = given[name]
        try:
            return parse(text)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error

    return FileAttributes(
        umask=value("umask", parse_umask, 0),
        uid=value("uid", parse_id, None),
        gid=value("gid", parse_id, None),
        inode32=value("inode32", parse_boolean, False),
    )

"""Whether flags and settings say which database a command is about, or mounts must be looked at.

To look at them costs more than most of what else a search does, and is seldom needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onefs.settings import is_set_up

if TYPE_CHECKING:
    from onefs.cli.opening import Site


def mounted_site(arguments: Sequence[str], flags: Mapping[str, str | None]) -> Site | None:
    """The database whose mount or cache folder an argument lies in, else the only one that is
    mounted where none is set up; None where flags or settings decide."""
    if any(flags.values()) or (not arguments and is_set_up(flags)):
        return None
    from onefs.cli.opening import site_of_mount

    return site_of_mount(arguments, flags)

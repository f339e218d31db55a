"""Checks of arguments of the verbs, and paths in a cache folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath
from uuid import UUID

from onefs import alf
from onefs.errors import UsageError

#: most sessions in one call
MAX_NAMES = 100_000


def parse_names(names: object) -> tuple[list[object], bool]:
    """Return the names in an argument, and whether it names one session.

    A list of one name counts as one session, since the tutorial passes on the list that ``search``
    returned. Raises UsageError for an empty list.
    """
    if isinstance(names, (str, bytes, UUID, PurePath, Mapping)) or not isinstance(names, Iterable):
        return [names], True
    try:
        listed = list(islice(names, MAX_NAMES + 1))
    except Exception as error:  # an iterator of the caller may raise anything
        raise UsageError("the eids cannot be read as a list") from error
    if len(listed) > MAX_NAMES:
        raise UsageError(f"more than {MAX_NAMES} eids are given at once")
    if not listed:
        raise UsageError("the list of eids is empty: the search found no session")
    return listed, len(listed) == 1


def cache_path(cache_dir: Path, place: Sequence[str]) -> Path:
    """Return the path in a cache folder of a place in the tree, which begins with the lab."""
    return cache_dir.joinpath(place[0], alf.SUBJECTS, *place[1:])

"""What verbs are given, and where it is: the little for which nothing has to be opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath
from uuid import UUID

from onefs import alf
from onefs.errors import UsageError

#: sessions in one call
MAX_NAMES = 100_000


def parse_names(names: object) -> tuple[list[object], bool]:
    """The names that were given, and whether the answer is one, not a list.

    A list of one stands for that one, as the tutorial hands on what ``search`` gave.
    Raises UsageError for an empty list.
    """
    if isinstance(names, (str, bytes, UUID, PurePath, Mapping)) or not isinstance(names, Iterable):
        return [names], True
    try:
        given = list(islice(names, MAX_NAMES + 1))
    except Exception as error:  # whatever the caller's object raises
        raise UsageError("the eids cannot be read as a list") from error
    if len(given) > MAX_NAMES:
        raise UsageError(f"more than {MAX_NAMES} eids are given at once")
    if not given:
        raise UsageError("the list of eids is empty: the search found no session")
    return given, len(given) == 1


def cache_path(cache_dir: Path, place: Sequence[str]) -> Path:
    """Where a place of the tree is in a cache folder."""
    return cache_dir.joinpath(place[0], alf.SUBJECTS, *place[1:])

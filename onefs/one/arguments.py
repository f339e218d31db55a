"""Check the arguments of ``ONE``'s methods, and convert tree paths to paths in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath
from uuid import UUID

from onefs import alf
from onefs.errors import UsageError

#: most sessions in one call
MAX_NAMES = 100_000
#: the values of ONE-api's argument ``query_type``. All but ``local`` may ask Alyx
_QUERY_TYPES = (None, "remote", "local", "auto", "refresh")


def check_query_type(query_type: object) -> None:
    """Raise UsageError for an invalid ``query_type``."""
    if not isinstance(query_type, (str, type(None))) or query_type not in _QUERY_TYPES:
        raise UsageError(
            f"the argument query_type is {ascii(query_type)[:80]}: give 'remote', 'local' or None"
        )


def parse_names(names: object) -> tuple[list[object], bool]:
    """Return the names of sessions in an argument, and True if there is only one name.

    Raises UsageError for an empty list, or for more than :data:`MAX_NAMES` names.
    """
    if isinstance(names, (str, bytes, UUID, PurePath, Mapping)) or not isinstance(names, Iterable):
        return [names], True
    try:
        listed = list(islice(names, MAX_NAMES + 1))
    except Exception as error:  # an iterator of the caller may raise anything
        raise UsageError(
            "the eids cannot be read as a list: give an eid or a list of eids"
        ) from error
    if len(listed) > MAX_NAMES:
        raise UsageError(f"more than {MAX_NAMES} eids are given at once: give fewer")
    if not listed:
        raise UsageError("the list of eids is empty: the search found no session")
    # a list with one name counts as one session, because the tutorial passes the list from
    # ``search`` to other methods
    return listed, len(listed) == 1


def cache_path(cache_dir: Path, place: Sequence[str]) -> Path:
    """Return the path in the cache folder ``cache_dir`` for the path ``place`` in the tree.

    ``place`` is a tuple of names that begins with the lab.
    """
    # in a cache folder, a lab's folder contains one more folder
    return cache_dir.joinpath(place[0], alf.SUBJECTS, *place[1:])

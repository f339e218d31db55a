"""Which datasets a dataset type stands for. Pure decisions, no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice

from onefs.cache.store import Place
from onefs.errors import SeveralDatasets, UsageError
from onefs.model import Dataset, Session
from onefs.one import table_columns
from onefs.search.vocabulary import nearest_name_hint
from onefs.tree.as_of import latest_revision_as_of
from onefs.tree.layout import default_revision_of

#: where a dataset stands below its session, and itself
PlacedDataset = tuple[Place, Dataset]

#: dataset types in one request
MAX_TYPES = 1000


def parse_types(given: object) -> list[str]:
    """The dataset types that were asked for, in order. Raises UsageError."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, (bytes, dict)) or not isinstance(given, Iterable):
        raise UsageError(f"dataset_types is {type(given).__name__}: give a name or a list of names")
    try:
        types = list(islice(given, MAX_TYPES + 1))
    except Exception as error:  # whatever the caller's object raises
        raise UsageError("dataset_types cannot be read as a list") from error
    if len(types) > MAX_TYPES:
        raise UsageError(f"dataset_types has more than {MAX_TYPES} names")
    for name in types:
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"dataset_types holds {ascii(name)[:80]}, which is no name")
    return types


def parse_folder(argument: str, given: object) -> str | None:
    """A collection or revision as Alyx writes it; None when any will do. Raises UsageError."""
    if given is None:
        return None
    if not isinstance(given, str):
        raise UsageError(f"{argument} is {type(given).__name__}: give a text")
    return given.strip("/#")


def datasets_of_type(
    wanted: str, found: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    """The datasets of a type, by path: of each file its default revision, or with ``revision``
    the last one that is not after it.

    Of a file with two revisions flagged as default both are given.
    """
    fitting = [each for each in found if each[1].dataset_type == wanted]
    return _select_versions(fitting, collection, revision)


def tables_for_type(
    wanted: str, found: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    """The tables in which a type may be a column, chosen as in :func:`datasets_of_type`."""
    name = table_columns.parse_type(wanted)
    if name is None or name.attribute == "table":
        return []
    fitting = [each for each in found if table_columns.can_hold(each[1], name)]
    return _select_versions(fitting, collection, revision)


def all_datasets(
    found: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    """All datasets, by path: every revision, or with ``revision`` of each file the last one that
    is not after it."""
    if revision is not None:
        return _select_versions(found, collection, revision)
    return sorted(each for each in found if collection in (None, each[1].collection))


def _select_versions(
    found: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    files: dict[tuple[str, str], list[PlacedDataset]] = defaultdict(list)
    for place, dataset in found:
        if collection in (None, dataset.collection):
            files[dataset.collection, dataset.name].append((place, dataset))
    return sorted(
        each for versions in files.values() for each in _select_version(versions, revision)
    )


def require_single(
    wanted: str, found: Sequence[PlacedDataset], session: Session
) -> PlacedDataset | None:
    """The one dataset of a type, None when there is none. Raises SeveralDatasets."""
    if len(found) <= 1:
        return found[0] if found else None
    paths = ", ".join("/".join(place) for place, _ in found)
    raise SeveralDatasets(
        f"{wanted} is {len(found)} datasets of session {session.ref}: {paths}; "
        f"{_disambiguating_arguments(found)}"
        "dclass_output=True gives all of them"
    )


def _disambiguating_arguments(found: Sequence[PlacedDataset]) -> str:
    """The argument that leaves one of several datasets, if there is one."""
    if len({dataset.collection for _, dataset in found}) == len(found):
        return "add collection=, or "
    if len({dataset.revision for _, dataset in found}) == len(found):
        return "add revision=, or "
    if len({(dataset.collection, dataset.revision) for _, dataset in found}) == len(found):
        return "add collection= and revision=, or "
    return ""


def describe_missing(
    wanted: str,
    session: Session,
    found: Sequence[PlacedDataset],
    registered: Iterable[str],
    collection: str | None,
    revision: str | None,
) -> str:
    """Why a session has no dataset of a type that could be loaded, in a sentence."""
    types = {dataset.dataset_type for _, dataset in found}
    if wanted in types:
        where = [f"in collection {collection!r}"] if collection is not None else []
        where += [f"of revision {revision!r} or before"] if revision is not None else []
        return f"session {session.ref} has {wanted}, but none {' '.join(where)}"
    if wanted in set(registered):
        return f"{wanted} of session {session.ref} is registered, but is on no server"
    return (
        f"session {session.ref} has no dataset of type {wanted!r}{nearest_name_hint(wanted, types)}"
    )


def _select_version(versions: Sequence[PlacedDataset], revision: str | None) -> list[PlacedDataset]:
    if revision is not None:
        last = latest_revision_as_of((dataset for _, dataset in versions), revision)
        return [each for each in versions if each[1] is last]
    default = default_revision_of(dataset for _, dataset in versions)
    if default is not None:
        return [each for each in versions if each[1] is default]
    return [each for each in versions if each[1].default]

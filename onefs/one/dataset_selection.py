"""Selection of datasets by dataset type, collection and revision. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from itertools import islice

from onefs.cache.folder import Place
from onefs.errors import SeveralDatasets, UsageError
from onefs.model import Dataset, Session
from onefs.one import table_columns
from onefs.search.vocabulary import nearest_name_hint
from onefs.tree.as_of import latest_revision_as_of
from onefs.tree.layout import default_revision_of

#: the path of a dataset below its session, and the dataset
PlacedDataset = tuple[Place, Dataset]

#: most dataset types in one call of ``load``
MAX_TYPES = 1000


def parse_types(argument: object) -> list[str]:
    """Return the dataset types in ``argument``, in the order of the argument.

    ``argument`` is the argument ``dataset_types`` of ``load``. Raises UsageError for an invalid
    argument.
    """
    if isinstance(argument, str):
        argument = [argument]
    if isinstance(argument, (bytes, dict)) or not isinstance(argument, Iterable):
        raise UsageError(
            f"the argument dataset_types is {type(argument).__name__}: give a name or a list of "
            "names"
        )
    try:
        types = list(islice(argument, MAX_TYPES + 1))
    except Exception as error:  # an iterator of the caller may raise anything
        raise UsageError(
            "the argument dataset_types cannot be read as a list: give a name or a list of names"
        ) from error
    if len(types) > MAX_TYPES:
        raise UsageError(f"the argument dataset_types has more than {MAX_TYPES} names")
    for name in types:
        if not isinstance(name, str) or not name.strip():
            raise UsageError(
                f"the argument dataset_types contains {ascii(name)[:80]}, which is not a name"
            )
    return types


def parse_folder(name: str, argument: object) -> str | None:
    """Return ``argument``, a collection or revision, without ``/`` and ``#`` at both ends.

    ``name`` is the name of the argument, for the error message. Return None if ``argument`` is
    None. Raises UsageError if ``argument`` is not a text.
    """
    if argument is None:
        return None
    if not isinstance(argument, str):
        raise UsageError(f"the argument {name} is {type(argument).__name__}: give a text")
    return argument.strip("/#")


def datasets_of_type(
    wanted: str, listed: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    """Return the datasets of a type, sorted by path.

    - ``collection``: the only collection to select from. None means all collections.
    - ``revision``: select, for each file, the last revision that is not after this one. None means
      the default revision. If two revisions of a file are flagged as default, both are returned.
    """
    of_type = [each for each in listed if each[1].dataset_type == wanted]
    return _select_versions(of_type, collection, revision)


def tables_for_type(
    wanted: str, listed: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    """Return the tables that may have a column for a dataset type.

    Revisions are selected as in :func:`datasets_of_type`.
    """
    name = table_columns.parse_type(wanted)
    if name is None or name.attribute == "table":
        return []
    tables = [each for each in listed if table_columns.can_hold(each[1], name)]
    return _select_versions(tables, collection, revision)


def all_datasets(
    listed: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    """Return all datasets, sorted by path.

    - ``collection``: the only collection to select from. None means all collections.
    - ``revision``: select, for each file, the last revision that is not after this one. None means
      all revisions.
    """
    if revision is not None:
        return _select_versions(listed, collection, revision)
    return sorted(each for each in listed if collection in (None, each[1].collection))


def _select_versions(
    datasets: Sequence[PlacedDataset], collection: str | None, revision: str | None
) -> list[PlacedDataset]:
    files: dict[tuple[str, str], list[PlacedDataset]] = defaultdict(list)
    for place, dataset in datasets:
        if collection in (None, dataset.collection):
            files[dataset.collection, dataset.name].append((place, dataset))
    return sorted(
        each for versions in files.values() for each in _select_version(versions, revision)
    )


def refuse_several(wanted: str, datasets: Sequence[PlacedDataset], session: Session) -> None:
    """Raise SeveralDatasets, with all paths, if a type has more than one dataset."""
    if len(datasets) <= 1:
        return
    paths = ", ".join("/".join(place) for place, _ in datasets)
    raise SeveralDatasets(
        f"{wanted} matches {len(datasets)} datasets of session {session.ref}: {paths}; "
        f"{_disambiguating_arguments(datasets)}"
        "dclass_output=True gives all of them"
    )


def _disambiguating_arguments(datasets: Sequence[PlacedDataset]) -> str:
    """Return the advice to add ``collection``, ``revision`` or both, to select one of the datasets.

    Return '' if two datasets have the same collection and revision.
    """
    if len({dataset.collection for _, dataset in datasets}) == len(datasets):
        return "add collection=, or "
    if len({dataset.revision for _, dataset in datasets}) == len(datasets):
        return "add revision=, or "
    if len({(dataset.collection, dataset.revision) for _, dataset in datasets}) == len(datasets):
        return "add collection= and revision=, or "
    return ""


def describe_missing(
    wanted: str,
    session: Session,
    listed: Sequence[PlacedDataset],
    registered: Container[str],
    collection: str | None,
    revision: str | None,
) -> str:
    """Return a sentence that says why no dataset of the type ``wanted`` can be loaded.

    ``listed`` are the session's datasets on servers. ``registered`` are the types of all its
    datasets in Alyx.
    """
    types = {dataset.dataset_type for _, dataset in listed}
    if wanted in types:
        where = [f"in collection {collection!r}"] if collection is not None else []
        where += [f"of revision {revision!r} or before"] if revision is not None else []
        return f"session {session.ref} has datasets of type {wanted}, but none {' '.join(where)}"
    if wanted in registered:
        return f"session {session.ref} has datasets of type {wanted} in Alyx, but on no server"
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

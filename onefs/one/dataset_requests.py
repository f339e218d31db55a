"""The arguments of ``load_datasets``: several datasets by name, ALF parts or path. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onefs.cache_tables.reader import split_path
from onefs.errors import UsageError
from onefs.one.alf_patterns import parse_name


@dataclass(frozen=True, slots=True)
class DatasetsRequest:
    """Datasets to load, each with a pattern of its collection and revision."""

    #: names, or dicts of ALF parts
    filenames: Sequence[Any]
    collections: Sequence[object]
    revisions: Sequence[object]
    #: whether the datasets were given by their paths, so that their revisions are exact
    are_paths: bool

    @classmethod
    def parse(
        cls,
        datasets: object,
        collections: object,
        revisions: object,
        default_revision: str | None,
        *,
        wildcards: bool,
    ) -> DatasetsRequest:
        """Check the arguments of ``load_datasets``, and return the request.

        ``default_revision`` is the last revision to load if ``revisions`` is None. Raises
        UsageError for an invalid argument.
        """
        given = _listed(datasets)
        are_paths = hasattr(datasets, "columns") or any(
            "/" in each for each in given if isinstance(each, str)
        )
        if are_paths:
            if (collections, revisions, default_revision) != (None, None, None):
                raise UsageError(
                    "the datasets are given by their paths, so collections and revisions must be "
                    "None, and ONE_REVISION_LAST_BEFORE unset"
                )
            return cls(*_split_paths(given), are_paths=True)
        if not all(isinstance(each, str) for each in given) and not all(
            isinstance(each, Mapping) for each in given
        ):
            raise UsageError("the datasets are neither all texts nor all dicts of ALF parts")
        return cls(
            [with_extension(each) for each in given] if wildcards else given,
            _one_for_each("collections", collections, given),
            _one_for_each("revisions", revisions or default_revision, given),
            are_paths=False,
        )

    def patterns(self) -> Iterator[tuple[object, object, object]]:
        """Yield name, collection and revision of each dataset."""
        return zip(self.filenames, self.collections, self.revisions, strict=True)


def with_extension(dataset: Any) -> Any:
    """Return ``object.attribute`` with a wildcard for its extension. Return others unchanged."""
    return f"{dataset}.*" if isinstance(dataset, str) and dataset.count(".") == 1 else dataset


def _listed(datasets: Any) -> list[Any]:
    if hasattr(datasets, "columns"):
        return list(datasets["rel_path"])
    if isinstance(datasets, (str, bytes, Mapping)) or not hasattr(datasets, "__iter__"):
        raise UsageError(
            f"the argument datasets is {type(datasets).__name__}: give a list of names"
        )
    return list(datasets)


def _split_paths(paths: Sequence[object]) -> tuple[list[object], list[object], list[object]]:
    """Return the ALF parts, the collections and the revisions of paths below a session."""
    filenames: list[object] = []
    collections: list[object] = []
    revisions: list[object] = []
    for path in paths:
        folder = split_path(path) if isinstance(path, str) else None
        parts = parse_name(folder.name) if folder is not None else None
        if folder is None:
            raise UsageError("the datasets are neither all texts nor all dicts of ALF parts")
        filenames.append(parts._asdict() if parts is not None else folder.name)
        # '' selects only datasets without a collection or revision
        collections.append(folder.collection)
        revisions.append(folder.revision)
    return filenames, collections, revisions


def _one_for_each(what: str, value: Any, datasets: Sequence[object]) -> list[object]:
    if not value or isinstance(value, str):
        return [value] * len(datasets)
    listed = list(value)
    if len(listed) != len(datasets):
        raise UsageError(
            f"there are {len(datasets)} datasets but {len(listed)} {what}: give one for each"
        )
    return listed

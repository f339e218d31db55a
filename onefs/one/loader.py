"""``ONE.load``: selects, downloads and reads the datasets of a session."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onefs.cache.folder import Place
from onefs.catalogue.messages import missing_parts
from onefs.errors import BadContent, OnefsError, UsageError
from onefs.model import Session, shown_url
from onefs.one import dataset_selection
from onefs.one.dataset_selection import PlacedDataset
from onefs.one.downloads import download_all
from onefs.one.file_reader import FileReader, MissingColumn
from onefs.one.info import DatasetInfo, SessionDataInfo
from onefs.one.laboratory import Laboratory
from onefs.one.resolver import SessionResolver
from onefs.one.warn import warn
from onefs.search.vocabulary import nearest_name_hint

#: arguments that ``load`` no longer has, with advice that replaces each argument
_REMOVED_ARGUMENTS = {
    "cache_dir": "give the folder to ONE(cache_dir=...)",
    "clobber": "the argument is not needed, because a file with wrong content is downloaded again",
    "dry_run": "list(eid, details=True) lists the datasets without downloading them",
    "keep_uuid": "file names never have a UUID; list(eid, details=True) has each dataset_id",
    "offline": "use ONE(offline=True)",
}

_LOAD_ARGUMENTS = (
    "dataset_types",
    "dclass_output",
    "collection",
    "revision",
    "download_only",
    "mmap",
)

#: marks the content of a dataset that cannot be loaded
_MISSING = object()


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The checked arguments of one call of ``load``."""

    #: the dataset types to load, in the order of the argument; None for all datasets
    types: tuple[str, ...] | None
    #: the only collection to load from; None for any collection
    collection: str | None
    #: the last revision that may be loaded; None for the default revision
    revision: str | None
    #: whether paths are returned instead of data
    download_only: bool
    #: whether arrays are mapped into memory instead of being read
    mmap: bool

    @classmethod
    def parse(
        cls, types: object, collection: object, revision: object, download_only: bool, mmap: bool
    ) -> LoadRequest:
        """Check the arguments of ``load``, and return the request.

        Raises UsageError for an invalid argument.
        """
        return cls(
            types=None if types is None else tuple(dataset_selection.parse_types(types)),
            collection=dataset_selection.parse_folder("collection", collection),
            revision=dataset_selection.parse_folder("revision", revision),
            download_only=bool(download_only),
            mmap=bool(mmap),
        )


def reject_removed_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise UsageError, with advice, for an argument that ``load`` does not have.

    Arguments of older versions of ONE are ignored if their value is false.
    """
    for name, value in arguments.items():
        if name not in _REMOVED_ARGUMENTS:
            hint = nearest_name_hint(name, [*_LOAD_ARGUMENTS, *_REMOVED_ARGUMENTS])
            raise UsageError(f"load has no argument {name!r}{hint}")
        if value:
            raise UsageError(f"load no longer has the argument {name}: {_REMOVED_ARGUMENTS[name]}")


def has_datasets(session: Session) -> bool:
    """Whether a session has a folder, so that it can have datasets. Warn if it has no folder."""
    if not session.has_folder:
        warn(f"session {session.eid} has no folder: the session lacks {missing_parts(session)}")
    return session.has_folder


@dataclass(frozen=True, slots=True)
class _SelectedDataset:
    """A dataset to load, or a table from which one column is to be loaded."""

    #: the place of the dataset below the session, and the dataset
    placed: PlacedDataset
    #: the dataset type of the column to load from this table; '' to load the whole file
    column_type: str = ""


class Loader:
    """Loads datasets from one laboratory. Thread-safe."""

    def __init__(self, laboratory: Laboratory, resolver: SessionResolver, *, offline: bool) -> None:
        self._laboratory = laboratory
        #: finds sessions and datasets by their names
        self.resolver = resolver
        self._offline = offline

    def dataset_types(self, session: Session) -> list[str]:
        """Return the dataset types of a session that has a folder, each once, sorted."""
        return sorted({each.dataset_type for _, each in self.resolver.datasets(session)})

    def info(self, session: Session) -> SessionDataInfo:
        """Return the datasets of a session that has a folder, sorted by path, without data."""
        folder = self.resolver.paths.place(session)
        placed = self.resolver.datasets(session)
        return SessionDataInfo.from_rows(self._info_row(folder, each, None) for each in placed)

    def load_by_type(self, session: Session, request: LoadRequest) -> list[Any]:
        """Return a list with the content for each dataset type, in the order of ``request.types``.

        A missing dataset gives [], and a warning.
        """
        types = request.types or ()
        if not has_datasets(session):
            return [[] for _ in types]
        listed = self.resolver.datasets(session)
        selected = [self._select_one(each, session, listed, request) for each in types]
        datasets = [each for each in selected if each is not None]
        contents = iter(self._read(session, datasets, listed, request, are_elements=True))
        elements = [next(contents) if each is not None else _MISSING for each in selected]
        return [[] if each is _MISSING else each for each in elements]

    def load_info(self, session: Session, request: LoadRequest) -> SessionDataInfo:
        """Return the datasets of the requested types, with content.

        Without types, return all datasets. The order is that of the types, then that of the paths.
        A dataset that cannot be loaded is left out, with a warning.
        """
        if not has_datasets(session):
            return SessionDataInfo()
        listed = self.resolver.datasets(session)
        selected = self._select_all(session, listed, request)
        folder = self.resolver.paths.place(session)
        contents = self._read(session, selected, listed, request, are_elements=False)
        return SessionDataInfo.from_rows(
            self._info_row(folder, each.placed, content)
            for each, content in zip(selected, contents, strict=True)
            if content is not _MISSING
        )

    def _read(
        self,
        session: Session,
        selected: Sequence[_SelectedDataset],
        listed: Sequence[PlacedDataset],
        request: LoadRequest,
        *,
        are_elements: bool,
    ) -> list[Any]:
        """Download the selected datasets, and return the content of each dataset.

        A dataset that cannot be loaded gives _MISSING, and a warning. But if ``are_elements`` is
        True, a file that contradicts the database raises BadContent.
        """
        files = self._download(session, [each.placed for each in selected])
        reader = FileReader(
            download_only=request.download_only,
            mmap=request.mmap,
            needs_libraries=request.types is not None,
        )
        contents: list[Any] = []
        for each, file in zip(selected, files, strict=True):
            contents.append(_MISSING)
            if isinstance(file, OnefsError):
                # the contents become the elements of a list
                if are_elements and isinstance(file, BadContent):
                    raise file
                fate = "not on the server" if are_elements else "left out"
                name = json.dumps(each.placed[1].name)
                warn(f"the file {name} of session {session.ref} is {fate}: {file}")
                continue
            try:
                contents[-1] = reader.read(file, each.column_type)
            except MissingColumn as error:
                reason = self._describe_missing(each.column_type, session, listed, request)
                warn(f"{reason}; {error}")
        reader.warn_of_columns()
        return contents

    def _select_one(
        self, wanted: str, session: Session, listed: Sequence[PlacedDataset], request: LoadRequest
    ) -> _SelectedDataset | None:
        """Return the dataset of a type, or a table that may have the type as a column.

        If there is none, warn, and return None. Raises SeveralDatasets if there are several.
        """
        candidates = _candidates(wanted, listed, request)
        if not candidates:
            warn(self._describe_missing(wanted, session, listed, request))
            return None
        dataset_selection.refuse_several(wanted, [each.placed for each in candidates], session)
        return candidates[0]

    def _select_all(
        self, session: Session, listed: Sequence[PlacedDataset], request: LoadRequest
    ) -> list[_SelectedDataset]:
        if request.types is None:
            everything = dataset_selection.all_datasets(
                listed, request.collection, request.revision
            )
            return list(map(_SelectedDataset, everything))
        selected: list[_SelectedDataset] = []
        for wanted in request.types:
            candidates = _candidates(wanted, listed, request)
            if not candidates:
                warn(self._describe_missing(wanted, session, listed, request))
            selected.extend(candidates)
        return selected

    def _describe_missing(
        self, wanted: str, session: Session, listed: Sequence[PlacedDataset], request: LoadRequest
    ) -> str:
        return dataset_selection.describe_missing(
            wanted,
            session,
            listed,
            self.resolver.paths.registered_types(session),
            request.collection,
            request.revision,
        )

    def _download(
        self, session: Session, selected: Sequence[PlacedDataset]
    ) -> list[Path | OnefsError]:
        if not selected:
            return []
        folder = self.resolver.paths.place(session)
        requested = [(dataset, (*folder, *place)) for place, dataset in selected]
        return download_all(self._laboratory.content, requested, offline=self._offline)

    def _info_row(self, folder: Place, placed: PlacedDataset, data: Any) -> DatasetInfo:
        place, dataset = placed
        path = self._laboratory.content.cached_path(dataset)
        return DatasetInfo(
            data=data,
            dataset_id=dataset.uuid,
            local_path=str(path or self.resolver.paths.file_path((*folder, *place))),
            dataset_type=dataset.dataset_type,
            url=shown_url(dataset.replicas),
            eid=dataset.eid,
            size=dataset.size,
            md5=dataset.md5,
            collection=dataset.collection,
            revision=dataset.revision,
        )


def _candidates(
    wanted: str, listed: Sequence[PlacedDataset], request: LoadRequest
) -> list[_SelectedDataset]:
    """Return the datasets of a type.

    If there is no such dataset, return the tables that may have the type as a column.
    """
    versions = request.collection, request.revision
    datasets = dataset_selection.datasets_of_type(wanted, listed, *versions)
    if datasets:
        return list(map(_SelectedDataset, datasets))
    tables = dataset_selection.tables_for_type(wanted, listed, *versions)
    return [_SelectedDataset(table, column_type=wanted) for table in tables]

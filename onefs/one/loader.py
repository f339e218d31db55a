"""``load``: from a session and dataset types to what the files hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from onefs.access import Access
from onefs.cache.store import Place
from onefs.catalogue.messages import missing_parts
from onefs.errors import BadContent, MissingLibrary, OnefsError, UsageError
from onefs.model import Dataset, Session
from onefs.one import dataset_selection, headers
from onefs.one.dataset_selection import PlacedDataset
from onefs.one.downloads import download_all
from onefs.one.file_reader import FileReader, MissingColumn
from onefs.one.info import DatasetInfo, SessionDataInfo
from onefs.one.resolver import SessionResolver
from onefs.one.warn import warn
from onefs.search.vocabulary import nearest_name_hint

#: arguments of the old ``load``, and what to do instead
_REMOVED_ARGUMENTS = {
    "cache_dir": "give it to ONE(cache_dir=...)",
    "clobber": "it is not needed: a file that is not what the database describes is fetched anew",
    "dry_run": "list(eid, details=True) shows what there is",
    "keep_uuid": "names have none; dataset_id is in list(eid, details=True)",
    "offline": "give it to ONE(offline=True)",
}

_LOAD_ARGUMENTS = (
    "dataset_types",
    "dclass_output",
    "collection",
    "revision",
    "download_only",
    "mmap",
)


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What is to be loaded of a session, and how."""

    #: in the order of the answer; None for everything
    types: tuple[str, ...] | None
    collection: str | None
    revision: str | None
    download_only: bool
    mmap: bool


@dataclass(frozen=True, slots=True)
class _SelectedDataset:
    """A dataset that is to be loaded."""

    placed: PlacedDataset
    #: the type that may be a column of it, which is wanted alone; '' for the whole of it
    column_type: str = ""


class Loader:
    """Loads datasets of one laboratory. Thread-safe."""

    def __init__(self, access: Access, addresses: SessionResolver, *, offline: bool) -> None:
        self._access = access
        self._resolver = addresses
        self._offline = offline

    @staticmethod
    def reject_removed_arguments(given: Mapping[str, Any]) -> None:
        """Raise UsageError for an argument that ``load`` has not, saying what to do instead."""
        for name, value in given.items():
            if name not in _REMOVED_ARGUMENTS:
                raise UsageError(
                    "load has no argument "
                    f"{name!r}{nearest_name_hint(name, [*_LOAD_ARGUMENTS, *_REMOVED_ARGUMENTS])}"
                )
            if value:
                raise UsageError(f"load has no {name} any more: {_REMOVED_ARGUMENTS[name]}")

    def make_request(
        self, types: object, collection: object, revision: object, download_only: bool, mmap: bool
    ) -> LoadRequest:
        """What was asked for, checked. Raises UsageError."""
        return LoadRequest(
            types=None if types is None else tuple(dataset_selection.parse_types(types)),
            collection=dataset_selection.parse_folder("collection", collection),
            revision=dataset_selection.parse_folder("revision", revision),
            download_only=bool(download_only),
            mmap=bool(mmap),
        )

    @staticmethod
    def has_datasets(session: Session) -> bool:
        """Whether datasets of a session can be listed and loaded; a warning says why not."""
        if not session.has_folder:
            warn(
                f"session {session.eid} is empty here, it has no folder: it lacks "
                f"{missing_parts(session)}"
            )
        return session.has_folder

    def info(self, session: Session) -> SessionDataInfo:
        """A session's datasets, by path, without what they hold."""
        folder = self._resolver.place(session)
        found = self._resolver.datasets(session)
        return SessionDataInfo.of(self._info_row(folder, each, None) for each in found)

    def load_by_type(self, session: Session, order: LoadRequest) -> list[Any]:
        """An element for each type that is asked for; [] for what is missing, with a warning."""
        assert order.types is not None
        if not self.has_datasets(session):
            return [[] for _ in order.types]
        found = self._resolver.datasets(session)
        chosen = [self._select_one(wanted, session, found, order) for wanted in order.types]
        files = iter(self._download(session, [each.placed for each in chosen if each is not None]))
        contents = _make_reader(order)
        answers: list[Any] = []
        for each in chosen:
            file = next(files) if each is not None else None
            if isinstance(file, BadContent):
                raise file
            if each is None or file is None:
                answers.append([])
            elif isinstance(file, OnefsError):
                warn(f"{_quoted_name(each)} of session {session.ref} is not on the server: {file}")
                answers.append([])
            else:
                try:
                    answers.append(_read_selected(contents, file, each))
                except MissingColumn as error:
                    warn(
                        f"{self._describe_missing(each.column_type, session, found, order)}; "
                        f"{error}"
                    )
                    answers.append([])
        contents.warn_of_columns()
        return answers

    def load_info(self, session: Session, order: LoadRequest) -> SessionDataInfo:
        """The datasets of the types, in that order and then by path; of all without types.

        What cannot be had is absent, with a warning.
        """
        if not self.has_datasets(session):
            return SessionDataInfo()
        found = self._resolver.datasets(session)
        chosen = self._select_all(session, found, order)
        folder = self._resolver.place(session)
        files = self._download(session, [each.placed for each in chosen])
        contents = _make_reader(order)
        rows = []
        warned = False
        for each, file in zip(chosen, files, strict=True):
            if isinstance(file, OnefsError):
                warn(f"{_quoted_name(each)} of session {session.ref} is left out: {file}")
                continue
            try:
                data = _read_selected(contents, file, each)
            except MissingLibrary as error:
                if order.types is not None:
                    raise
                if not warned:
                    warn(f"tables are given as paths: {error}")
                data, warned = file, True
            except MissingColumn as error:
                warn(f"{self._describe_missing(each.column_type, session, found, order)}; {error}")
                continue
            rows.append(self._info_row(folder, each.placed, data))
        contents.warn_of_columns()
        return SessionDataInfo.of(rows)

    def describe(self, path: str | PurePath) -> dict[str, Any]:
        """What the dataset at a path is (``ONE.describe``)."""
        if not isinstance(path, (str, PurePath)):
            raise UsageError(f"{type(path).__name__} is no path")
        session, place, dataset = self._resolver.dataset(path)
        content = self._access.content
        local = content.cached_path(dataset)
        if dataset.size is None and local is None and not self._offline:
            dataset = replace(dataset, size=content.probe_size(dataset))
            self._access.catalogue.remember_size(dataset, dataset.size or 0)
        state, reason = content.state(dataset)
        found: dict[str, Any] = {
            "path": str(self._resolver.cache_path(place)),
            "dataset_type": dataset.dataset_type,
            "eid": dataset.eid,
            "ref": session.ref,
            "dataset_id": dataset.id,
            "collection": dataset.collection,
            "revision": dataset.revision,
            "size": dataset.size,
            "md5": dataset.md5,
            "qc": dataset.qc,
            "state": state,
            "url": _first_url(dataset),
        }
        if reason:
            found["error"] = reason
        if local is None and self._offline:
            return found
        header = headers.describe_file(
            dataset.name, partial(self._access.read_head, dataset), local
        )
        return found | header

    def _select_one(
        self, wanted: str, session: Session, found: Sequence[PlacedDataset], order: LoadRequest
    ) -> _SelectedDataset | None:
        """The dataset of a type, or the table that may have it as a column; None, with a warning,
        when there is none. Raises SeveralDatasets."""
        fitting = dataset_selection.datasets_of_type(
            wanted, found, order.collection, order.revision
        )
        if fitting:
            one = dataset_selection.require_single(wanted, fitting, session)
            return _SelectedDataset(one) if one is not None else None
        tables = dataset_selection.tables_for_type(wanted, found, order.collection, order.revision)
        table = dataset_selection.require_single(wanted, tables, session)
        if table is not None:
            return _SelectedDataset(table, wanted)
        warn(self._describe_missing(wanted, session, found, order))
        return None

    def _select_all(
        self, session: Session, found: Sequence[PlacedDataset], order: LoadRequest
    ) -> list[_SelectedDataset]:
        if order.types is None:
            everything = dataset_selection.all_datasets(found, order.collection, order.revision)
            return list(map(_SelectedDataset, everything))
        chosen: list[_SelectedDataset] = []
        for wanted in order.types:
            fitting = dataset_selection.datasets_of_type(
                wanted, found, order.collection, order.revision
            )
            tables = dataset_selection.tables_for_type(
                wanted, found, order.collection, order.revision
            )
            if not fitting and not tables:
                warn(self._describe_missing(wanted, session, found, order))
            chosen.extend(
                map(_SelectedDataset, fitting)
                if fitting
                else (_SelectedDataset(t, wanted) for t in tables)
            )
        return chosen

    def _describe_missing(
        self, wanted: str, session: Session, found: Sequence[PlacedDataset], order: LoadRequest
    ) -> str:
        registered = (
            row.dataset.dataset_type for row in self._access.database.datasets(session.eid)
        )
        return dataset_selection.describe_missing(
            wanted, session, found, registered, order.collection, order.revision
        )

    def _download(
        self, session: Session, chosen: Sequence[PlacedDataset]
    ) -> list[Path | OnefsError]:
        if not chosen:
            return []
        folder = self._resolver.place(session)
        wanted = [(dataset, (*folder, *place)) for place, dataset in chosen]
        return download_all(self._access, wanted, offline=self._offline)

    def _info_row(self, folder: Place, placed: PlacedDataset, data: Any) -> DatasetInfo:
        place, dataset = placed
        path = self._access.content.cached_path(dataset)
        path = path or self._resolver.cache_path((*folder, *place))
        return DatasetInfo(
            data=data,
            dataset_id=dataset.id,
            local_path=str(path),
            dataset_type=dataset.dataset_type,
            url=_first_url(dataset),
            eid=dataset.eid,
            size=dataset.size,
            md5=dataset.md5,
            collection=dataset.collection,
            revision=dataset.revision,
        )


def _first_url(dataset: Dataset) -> str:
    """Where it is on the file server; '' when only cache tables know it, and Alyx is away."""
    return dataset.replicas[0].url if dataset.replicas else ""


def _quoted_name(chosen: _SelectedDataset) -> str:
    return json.dumps(chosen.placed[1].name)


def _make_reader(order: LoadRequest) -> FileReader:
    return FileReader(download_only=order.download_only, mmap=order.mmap)


def _read_selected(contents: FileReader, file: Path, chosen: _SelectedDataset) -> Any:
    """What was asked for of a file. Raises MissingColumn and MissingLibrary."""
    if chosen.column_type:
        return contents.read_column(file, chosen.column_type)
    return contents.read(file)

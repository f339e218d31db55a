"""Loading by ONE-api's verbs: objects, datasets by name or id, and collections."""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onefs.errors import BadContent, OnefsError, Unreachable, UsageError
from onefs.model import Session
from onefs.one.alf_contents import read_content
from onefs.one.alf_errors import alf_error
from onefs.one.alf_objects import AlfBunch, load_files
from onefs.one.alf_paths import ALFPath
from onefs.one.alf_patterns import parse_name
from onefs.one.bunch import Bunch
from onefs.one.dataset_filter import DatasetFilter, QcLimit
from onefs.one.dataset_listing import session_records
from onefs.one.dataset_records import DatasetRecord, to_bunches, to_frame
from onefs.one.warn import warn

if TYPE_CHECKING:
    from onefs.one.dataset_requests import DatasetsRequest
    from onefs.one.laboratory import Laboratory
    from onefs.one.loaded_ids import LoadedIds
    from onefs.one.resolver import SessionResolver

#: the content of a file, or its path
Content = Any


@dataclass(frozen=True, slots=True)
class ObjectLoader:
    """Loads datasets of one laboratory by ALF parts, for one call of a verb.

    - ``wildcards``: whether patterns are those of the shell, and not regular expressions.
    - ``download_only``: whether to return paths instead of contents.
    - ``offline``: whether only cached files may be used.
    - ``adopts``: whether files in the cache folder that onefs has not downloaded may be used.
    - ``loaded_ids``: where to note the ids of loaded datasets, or None.
    """

    laboratory: Laboratory
    resolver: SessionResolver
    wildcards: bool
    offline: bool
    adopts: bool
    download_only: bool
    qc: QcLimit
    loaded_ids: LoadedIds | None

    def load_object(
        self,
        session: Session,
        obj: object,
        collection: object,
        revision: str | None,
        parts: Mapping[str, object],
    ) -> Any:
        """Return the files of an object as an AlfBunch, or the paths of the files.

        ``parts`` are patterns of other parts of the names. Raises the error ``object_not_found`` if
        no dataset matches, and Ambiguous if several objects or collections match.
        """
        selection = self._filter({"object": obj, **parts}, collection, revision)
        records = selection.latest(session_records(self.resolver, session))
        if not records:
            raise alf_error(
                "object_not_found", f"session {session.ref} has no ALF object {_quote(obj)}"
            )
        _refuse_several("objects", obj, session, {_object_of(each) for each in records})
        collections = {each.dataset.collection for each in records}
        _refuse_several("collections", obj, session, collections)
        loaded = self._load(records)
        if not loaded:
            raise alf_error(
                "object_not_found", f"no file of the ALF object {_quote(obj)} is on this machine"
            )
        return [file for _, file in loaded] if self.download_only else _read_object(loaded)

    def load_collection(
        self,
        session: Session,
        collection: object,
        obj: object,
        revision: str | None,
        parts: Mapping[str, object],
    ) -> Any:
        """Return the objects of a collection as a Bunch, or the paths of their files."""
        in_collection = self._filter(None, collection, None).matching(
            session_records(self.resolver, session)
        )
        if not in_collection:
            raise alf_error(
                "object_not_found", f"session {session.ref} has no collection {_quote(collection)}"
            )
        records = self._filter({"object": obj, **parts}, None, revision).latest(in_collection)
        if not records:
            raise alf_error(
                "object_not_found",
                f"the collection {_quote(collection)} of session {session.ref} has no dataset of "
                f"the object {_quote(obj)}",
            )
        loaded = self._load(records)
        if not loaded:
            raise alf_error(
                "object_not_found",
                f"no file of the collection {_quote(collection)} is on this machine",
            )
        if self.download_only:
            return [file for _, file in loaded]
        names = dict.fromkeys(_object_of(record) for record, _ in loaded)
        return Bunch(
            {
                name: _read_object([each for each in loaded if _object_of(each[0]) == name])
                for name in names
            }
        )

    def load_dataset(
        self, session: Session, dataset: object, collection: object, revision: str | None
    ) -> Content:
        """Return the content of one dataset, or its path."""
        is_path = ("/" if isinstance(dataset, str) else "collection") in _container(dataset)
        if is_path and (collection is not None or revision is not None):
            raise UsageError(
                "the dataset is given by its path, so collection and revision must be None, and "
                "ONE_REVISION_LAST_BEFORE unset"
            )
        if is_path and isinstance(dataset, str) and "*" in dataset:
            warn("the dataset is given by its path, in which wildcards should not be used")
        # only this method needs the module
        from onefs.one.dataset_requests import with_extension

        filename = with_extension(dataset) if self.wildcards else dataset
        selection = self._filter(filename, collection, revision)
        records = session_records(self.resolver, session)
        # the path of a revision selects this revision, although it is not the default one
        found = selection.latest(records) if is_path else selection.unique(records)
        _refuse_several("objects", dataset, session, {each.rel_path for each in found})
        if not found:
            raise alf_error(
                "object_not_found", f"session {session.ref} has no dataset {_quote(dataset)}"
            )
        return self.load_record(found[0])

    def load_datasets(
        self, session: Session, request: DatasetsRequest, *, assert_present: bool
    ) -> tuple[list[Content] | None, Any]:
        """Return the contents of datasets (or their paths), and their records as dicts.

        A dataset that is missing is None in both lists, with a warning, or raises an error if
        ``assert_present`` is True.
        """
        report = _raise_missing if assert_present else warn
        listed = session_records(self.resolver, session)
        if not listed:
            report(f"session {session.ref} has no datasets")
        if not listed or not request.filenames:
            return None, to_frame([], as_table=self.offline, keep_eid=True)
        chosen = [
            self._filter(*patterns).unique(listed, exact_revision=request.are_paths)
            for patterns in request.patterns()
        ]
        names = [_name_of(each) for each in request.filenames]
        missing = [name for name, found in zip(names, chosen, strict=True) if not found]
        if missing:
            report(f"session {session.ref} has no datasets {', '.join(missing)}")
        present = [record for found in chosen for record in found]
        if request.are_paths:
            _warn_of_old_revisions(present)
        files = iter(self.fetch(present))
        bunches = iter(to_bunches(present))
        paths = [next(files) if found else None for found in chosen]
        records = [next(bunches) if found else None for found in chosen]
        absent = [
            found[0].rel_path
            for found, path in zip(chosen, paths, strict=True)
            if found and path is None
        ]
        if absent:
            report(f"these datasets cannot be downloaded: {', '.join(absent)}")
        if self.download_only:
            return paths, records
        return [None if path is None else read_content(path) for path in paths], records

    def load_record(self, record: DatasetRecord) -> Content:
        """Return the content of a dataset, or its path. Raises an error if it is missing."""
        (file,) = self.fetch([record])
        if file is None:
            raise alf_error(
                "object_not_found", f"the dataset {record.rel_path} is not on this machine"
            )
        return file if self.download_only else read_content(file)

    def fetch(self, records: Sequence[DatasetRecord]) -> list[Path | None]:
        """Return the file of each dataset, in the same order. Missing files are downloaded.

        A file is None if no server has it, with a warning, or if it is not cached and nothing may
        be downloaded. Raises BadContent if a file contradicts the database, and the errors of
        downloads.
        """
        content = self.laboratory.content
        files: list[Path | OnefsError | None] = [
            content.cached_path(each.dataset, each.place if self.offline else None)
            for each in records
        ]
        absent = [at for at, file in enumerate(files) if file is None]
        if absent and not self.offline:
            # cached files are loaded without it
            from onefs.one.downloads import download_all

            requested = [(records[at].dataset, records[at].place) for at in absent]
            downloaded = download_all(
                content, requested, offline=False, meanwhile=partial(self._prepare, records)
            )
            for at, outcome in zip(absent, downloaded, strict=True):
                files[at] = outcome
        for at in absent if self.offline and self.adopts else ():
            if self.resolver.paths.file_path(records[at].place).exists():
                # ONE-api or another program has downloaded the file
                with suppress(Unreachable):
                    files[at] = content.fetch_file(records[at].dataset, records[at].place)
        usable = list(map(_usable, records, files))
        if self.loaded_ids is not None:
            present = zip(records, usable, strict=True)
            self.loaded_ids.add((each.id, each.eid) for each, file in present if file is not None)
        return usable

    def _prepare(self, records: Iterable[DatasetRecord]) -> None:
        """Import the module that reads most of the files, while they are downloaded."""
        if not self.download_only and any(each.rel_path.endswith(".npy") for each in records):
            # without the module, the error comes when a file is read
            with suppress(ImportError):
                importlib.import_module("numpy")

    def _filter(self, filename: object, collection: object, revision: object) -> DatasetFilter:
        return DatasetFilter(filename, collection, revision, self.qc, self.wildcards)

    def _load(self, records: Sequence[DatasetRecord]) -> list[tuple[DatasetRecord, Path]]:
        """Return the datasets that have a file, with their files."""
        files = zip(records, self.fetch(records), strict=True)
        return [(record, file) for record, file in files if file is not None]


def _usable(record: DatasetRecord, file: Path | OnefsError | None) -> Path | None:
    """Return a file, or None and a warning if no server has it. Raises BadContent."""
    if isinstance(file, BadContent):
        raise file
    if isinstance(file, OnefsError):
        warn(f"the dataset {record.rel_path} is left out: {file}")
        return None
    return None if file is None else ALFPath(file)


def _read_object(loaded: Iterable[tuple[DatasetRecord, Path]]) -> AlfBunch:
    named = ((file, parse_name(record.dataset.name)) for record, file in loaded)
    return load_files([(file, parts) for file, parts in named if parts is not None])


def _object_of(record: DatasetRecord) -> str:
    parts = parse_name(record.dataset.name)
    return parts.object if parts is not None else ""


def _refuse_several(what: str, wanted: object, session: Session, names: Set[str]) -> None:
    """Raise Ambiguous if ``names`` has several collections or objects."""
    if len(names) > 1:
        raise alf_error(
            f"multiple_{what}",
            f"{_quote(wanted)} matches several {what} of session {session.ref}: "
            f"{', '.join(sorted(names))}",
        )


def _warn_of_old_revisions(records: Iterable[DatasetRecord]) -> None:
    old = [each.rel_path for each in records if not each.dataset.default]
    if old:
        warn(
            f"these datasets are not the default revisions, which are recommended for analysis: "
            f"{', '.join(old)}"
        )


def _raise_missing(message: str) -> None:
    raise alf_error("object_not_found", message)


def _container(dataset: object) -> Container[str]:
    if isinstance(dataset, (str, Mapping)):
        return dataset
    raise UsageError(
        f"the argument dataset is {type(dataset).__name__}: give a name or a dict of ALF parts"
    )


def _name_of(filename: object) -> str:
    """Return the name of a dataset for a message."""
    if isinstance(filename, Mapping):
        return ".".join(str(part) for part in filename.values() if part)
    return str(filename)


def _quote(wanted: object) -> str:
    return ascii(wanted)[:80]

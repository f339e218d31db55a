"""Loading by ONE-api's verbs: objects, datasets by name or id, and collections."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from onefs.errors import BadContent, OnefsError, Unreachable, UsageError
from onefs.model import Session
from onefs.one.alf_contents import import_libraries, read_content
from onefs.one.alf_errors import alf_error
from onefs.one.alf_objects import AlfBunch, load_files
from onefs.one.alf_paths import ALFPath
from onefs.one.alf_patterns import parse_name
from onefs.one.bunch import Bunch
from onefs.one.dataset_filter import DatasetFilter, QcLimit
from onefs.one.dataset_listing import session_records
from onefs.one.dataset_records import DatasetRecord, to_bunches, to_frame
from onefs.one.dataset_requests import with_extension
from onefs.one.file_formats import FileVanished
from onefs.one.warn import warn

if TYPE_CHECKING:
    from onefs.one.dataset_requests import DatasetsRequest
    from onefs.one.laboratory import Laboratory
    from onefs.one.loaded_ids import LoadedIds
    from onefs.one.resolver import SessionResolver

T = TypeVar("T")
#: the content of a file, or its path
Content = Any
#: datasets, each with its file
_Loaded = list[tuple[DatasetRecord, Path]]


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
        loaded = self._load(records, f"the ALF object {_quote(obj)}")
        if self.download_only:
            return [file for _, file in loaded]
        return self._read(loaded, _read_object)

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
        loaded = self._load(records, f"the collection {_quote(collection)}")
        if self.download_only:
            return tuple(file for _, file in loaded)
        return self._read(loaded, _read_objects)

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
        files = iter(self.fetch(present, raise_missing=assert_present))
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
        loaded = [
            (found[0], path) for found, path in zip(chosen, paths, strict=True) if path is not None
        ]
        contents = iter(self._read(loaded, _read_each))
        return [None if path is None else next(contents) for path in paths], records

    def load_record(self, record: DatasetRecord) -> Content:
        """Return the content of a dataset, or its path. Raises an error if it is missing."""
        (file,) = self.fetch([record])
        if file is None:
            raise alf_error(
                "object_not_found", f"the dataset {record.rel_path} is not on this machine"
            )
        return file if self.download_only else self._read([(record, file)], _read_each)[0]

    def fetch(
        self, records: Sequence[DatasetRecord], *, raise_missing: bool = True
    ) -> list[Path | None]:
        """Return the file of each dataset, in the same order. Missing files are downloaded.

        A file is None if it is not cached and nothing may be downloaded. If no server has a file,
        raises the error ``object_not_found``, or with ``raise_missing=False`` warns, and the file
        is None. Raises BadContent if a file contradicts the database, and the errors of downloads.
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
        usable = _usable(records, files, raise_missing=raise_missing)
        if self.loaded_ids is not None:
            present = zip(records, usable, strict=True)
            self.loaded_ids.add((each.id, each.eid) for each, file in present if file is not None)
        return usable

    def _prepare(self, records: Iterable[DatasetRecord]) -> None:
        """Import the libraries that read the files, while the files are downloaded."""
        if not self.download_only:
            import_libraries(record.dataset.name for record in records)

    def _filter(self, filename: object, collection: object, revision: object) -> DatasetFilter:
        return DatasetFilter(filename, collection, revision, self.qc, self.wildcards)

    def _load(self, records: Sequence[DatasetRecord], what: str) -> _Loaded:
        """Return the datasets whose files are here. Raises an error if no file of ``what`` is."""
        files = zip(records, self.fetch(records), strict=True)
        loaded = [(record, file) for record, file in files if file is not None]
        if not loaded:
            raise alf_error("object_not_found", f"no file of {what} is on this machine")
        return loaded

    def _read(self, loaded: _Loaded, read: Callable[[_Loaded], T]) -> T:
        """Return ``read(loaded)``. If a file has been removed since, fetch it once more."""
        try:
            return read(loaded)
        except FileVanished:
            records = [record for record, _ in loaded]
            files = zip(records, self.fetch(records), strict=True)
            again = [(record, file) for record, file in files if file is not None]
            if len(again) < len(loaded):
                raise
            return read(again)


def _usable(
    records: Sequence[DatasetRecord],
    files: Iterable[Path | OnefsError | None],
    *,
    raise_missing: bool,
) -> list[Path | None]:
    """Return the files. Raises BadContent, and an error that names those that no server has.

    With ``raise_missing=False``, a file that no server has is None, with a warning.
    """
    usable: list[Path | None] = []
    missing = []
    for record, file in zip(records, files, strict=True):
        if isinstance(file, BadContent):
            raise file
        if isinstance(file, OnefsError):
            missing.append(f"{record.rel_path} ({file})")
        usable.append(ALFPath(file) if isinstance(file, Path) else None)
    if missing and raise_missing:
        raise alf_error("object_not_found", f"no server has the datasets {', '.join(missing)}")
    for each in missing:
        warn(f"no server has the dataset {each}")
    return usable


def _read_each(loaded: _Loaded) -> list[Content]:
    return [read_content(file) for _, file in loaded]


def _read_object(loaded: _Loaded) -> AlfBunch:
    named = ((file, parse_name(record.dataset.name)) for record, file in loaded)
    return load_files([(file, parts) for file, parts in named if parts is not None])


def _read_objects(loaded: _Loaded) -> Bunch:
    names = dict.fromkeys(_object_of(record) for record, _ in loaded)
    return Bunch(
        {
            name: _read_object([each for each in loaded if _object_of(each[0]) == name])
            for name in names
        }
    )


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

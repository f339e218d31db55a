"""``load``: from a session and dataset types to what the files hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from onefs.access import Access
from onefs.content.store import Place
from onefs.errors import BadContent, MissingLibrary, OnefsError, UsageError
from onefs.metadata.catalogue import lacking
from onefs.metadata.terms import nearest
from onefs.model import Dataset, Session
from onefs.one import choice, headers
from onefs.one.addresses import Addresses
from onefs.one.choice import Placed
from onefs.one.contents import Contents, NoColumn
from onefs.one.downloads import fetch
from onefs.one.info import DatasetInfo, SessionDataInfo
from onefs.one.warn import warn

#: arguments of the old ``load``, and what to do instead
_OLD = {
    "cache_dir": "give it to ONE(cache_dir=...)",
    "clobber": "it is not needed: a file that is not what the database describes is fetched anew",
    "dry_run": "list(eid, details=True) shows what there is",
    "keep_uuid": "names have none; dataset_id is in list(eid, details=True)",
    "offline": "give it to ONE(offline=True)",
}

_OURS = ("dataset_types", "dclass_output", "collection", "revision", "download_only", "mmap")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be loaded of a session, and how."""

    #: in the order of the answer; None for everything
    types: tuple[str, ...] | None
    collection: str | None
    revision: str | None
    download_only: bool
    mmap: bool


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A dataset that is to be loaded."""

    placed: Placed
    #: the type that may be a column of it, which is wanted alone; '' for the whole of it
    column_type: str = ""


class Loader:
    """Loads datasets of one laboratory. Thread-safe."""

    def __init__(self, access: Access, addresses: Addresses, *, offline: bool) -> None:
        self._access = access
        self._addresses = addresses
        self._offline = offline

    @staticmethod
    def refuse_old(given: Mapping[str, Any]) -> None:
        """Raise UsageError for an argument that ``load`` has not, saying what to do instead."""
        for name, value in given.items():
            if name not in _OLD:
                raise UsageError(f"load has no argument {name!r}{nearest(name, [*_OURS, *_OLD])}")
            if value:
                raise UsageError(f"load has no {name} any more: {_OLD[name]}")

    def order(
        self, types: object, collection: object, revision: object, download_only: bool, mmap: bool
    ) -> Order:
        """What was asked for, checked. Raises UsageError."""
        return Order(
            types=None if types is None else tuple(choice.read_types(types)),
            collection=choice.read_folder("collection", collection),
            revision=choice.read_folder("revision", revision),
            download_only=bool(download_only),
            mmap=bool(mmap),
        )

    @staticmethod
    def has_datasets(session: Session) -> bool:
        """Whether datasets of a session can be listed and loaded; a warning says why not."""
        if not session.has_folder:
            warn(
                f"session {session.eid} is empty here, it has no folder: it lacks "
                f"{lacking(session)}"
            )
        return session.has_folder

    def info(self, session: Session) -> SessionDataInfo:
        """A session's datasets, by path, without what they hold."""
        folder = self._addresses.place(session)
        found = self._addresses.datasets(session)
        return SessionDataInfo.of(self._row(folder, each, None) for each in found)

    def aligned(self, session: Session, order: Order) -> list[Any]:
        """An element for each type that is asked for; [] for what is missing, with a warning."""
        assert order.types is not None
        if not self.has_datasets(session):
            return [[] for _ in order.types]
        found = self._addresses.datasets(session)
        chosen = [self._one(wanted, session, found, order) for wanted in order.types]
        files = iter(self._files(session, [each.placed for each in chosen if each is not None]))
        contents = _contents(order)
        answers: list[Any] = []
        for each in chosen:
            file = next(files) if each is not None else None
            if isinstance(file, BadContent):
                raise file
            if each is None or file is None:
                answers.append([])
            elif isinstance(file, OnefsError):
                warn(f"{_name(each)} of session {session.ref} is not on the server: {file}")
                answers.append([])
            else:
                try:
                    answers.append(_read(contents, file, each))
                except NoColumn as error:
                    warn(f"{self._why_missing(each.column_type, session, found, order)}; {error}")
                    answers.append([])
        contents.tell()
        return answers

    def loaded(self, session: Session, order: Order) -> SessionDataInfo:
        """The datasets of the types, in that order and then by path; of all without types.

        What cannot be had is absent, with a warning.
        """
        if not self.has_datasets(session):
            return SessionDataInfo()
        found = self._addresses.datasets(session)
        chosen = self._all(session, found, order)
        folder = self._addresses.place(session)
        files = self._files(session, [each.placed for each in chosen])
        contents = _contents(order)
        rows = []
        warned = False
        for each, file in zip(chosen, files, strict=True):
            if isinstance(file, OnefsError):
                warn(f"{_name(each)} of session {session.ref} is left out: {file}")
                continue
            try:
                data = _read(contents, file, each)
            except MissingLibrary as error:
                if order.types is not None:
                    raise
                if not warned:
                    warn(f"tables are given as paths: {error}")
                data, warned = file, True
            except NoColumn as error:
                warn(f"{self._why_missing(each.column_type, session, found, order)}; {error}")
                continue
            rows.append(self._row(folder, each.placed, data))
        contents.tell()
        return SessionDataInfo.of(rows)

    def described(self, path: str | PurePath) -> dict[str, Any]:
        """What the dataset at a path is (``ONE.describe``)."""
        if not isinstance(path, (str, PurePath)):
            raise UsageError(f"{type(path).__name__} is no path")
        session, place, dataset = self._addresses.dataset(path)
        content = self._access.content
        local = content.known_path(dataset)
        if dataset.size is None and local is None and not self._offline:
            dataset = replace(dataset, size=content.probe(dataset))
            self._access.catalogue.remember_size(dataset, dataset.size or 0)
        state, reason = content.state(dataset)
        found: dict[str, Any] = {
            "path": str(self._addresses.cache_path(place)),
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
            "url": _url(dataset),
        }
        if reason:
            found["error"] = reason
        if local is None and self._offline:
            return found
        header = headers.describe(dataset.name, partial(self._access.peek, dataset), local)
        return found | header

    def _one(
        self, wanted: str, session: Session, found: Sequence[Placed], order: Order
    ) -> _Chosen | None:
        """The dataset of a type, or the table that may have it as a column; None, with a warning,
        when there is none. Raises SeveralDatasets."""
        fitting = choice.of_type(wanted, found, order.collection, order.revision)
        if fitting:
            one = choice.only_one(wanted, fitting, session)
            return _Chosen(one) if one is not None else None
        tables = choice.tables_of(wanted, found, order.collection, order.revision)
        table = choice.only_one(wanted, tables, session)
        if table is not None:
            return _Chosen(table, wanted)
        warn(self._why_missing(wanted, session, found, order))
        return None

    def _all(self, session: Session, found: Sequence[Placed], order: Order) -> list[_Chosen]:
        if order.types is None:
            everything = choice.everything(found, order.collection, order.revision)
            return list(map(_Chosen, everything))
        chosen: list[_Chosen] = []
        for wanted in order.types:
            fitting = choice.of_type(wanted, found, order.collection, order.revision)
            tables = choice.tables_of(wanted, found, order.collection, order.revision)
            if not fitting and not tables:
                warn(self._why_missing(wanted, session, found, order))
            chosen.extend(
                map(_Chosen, fitting) if fitting else (_Chosen(t, wanted) for t in tables)
            )
        return chosen

    def _why_missing(
        self, wanted: str, session: Session, found: Sequence[Placed], order: Order
    ) -> str:
        registered = (
            row.dataset.dataset_type for row in self._access.database.datasets(session.eid)
        )
        return choice.why_missing(
            wanted, session, found, registered, order.collection, order.revision
        )

    def _files(self, session: Session, chosen: Sequence[Placed]) -> list[Path | OnefsError]:
        if not chosen:
            return []
        folder = self._addresses.place(session)
        wanted = [(dataset, (*folder, *place)) for place, dataset in chosen]
        return fetch(self._access, wanted, offline=self._offline)

    def _row(self, folder: Place, placed: Placed, data: Any) -> DatasetInfo:
        place, dataset = placed
        path = self._access.content.known_path(dataset)
        path = path or self._addresses.cache_path((*folder, *place))
        return DatasetInfo(
            data=data,
            dataset_id=dataset.id,
            local_path=str(path),
            dataset_type=dataset.dataset_type,
            url=_url(dataset),
            eid=dataset.eid,
            size=dataset.size,
            md5=dataset.md5,
            collection=dataset.collection,
            revision=dataset.revision,
        )


def _url(dataset: Dataset) -> str:
    """Where it is on the file server; '' when only cache tables know it, and Alyx is away."""
    return dataset.copies[0].url if dataset.copies else ""


def _name(chosen: _Chosen) -> str:
    return json.dumps(chosen.placed[1].name)


def _contents(order: Order) -> Contents:
    return Contents(download_only=order.download_only, mmap=order.mmap)


def _read(contents: Contents, file: Path, chosen: _Chosen) -> Any:
    """What was asked for of a file. Raises NoColumn and MissingLibrary."""
    if chosen.column_type:
        return contents.of_column(file, chosen.column_type)
    return contents.of(file)

"""Parts that the methods of ONE-api for datasets have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from onefs import alf
from onefs.errors import NoAlyx, NotFound, Unreachable
from onefs.one.laboratory_client import LaboratoryClient

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.model import Session
    from onefs.one.dataset_filter import DatasetFilter
    from onefs.one.dataset_records import DatasetRecord
    from onefs.one.loaded_ids import LoadedIds
    from onefs.one.object_loader import ObjectLoader

#: the worst outcome of quality control of the datasets that are listed and loaded by default
DEFAULT_QC = "FAIL"


class DatasetClient(LaboratoryClient):
    """Base class of the methods of ONE-api for datasets."""

    #: whether the ids of loaded datasets are recorded, to be saved by ``save_loaded_ids``
    record_loaded = False

    @cached_property
    def _loaded_ids(self) -> LoadedIds:
        from onefs.one.loaded_ids import LoadedIds

        return LoadedIds()

    def _access_for(self, action: str) -> Access:
        """Return the opened database.

        Raises UsageError if this object reads another user's mount, which cannot do ``action``.
        """
        if self._mount is not None:
            raise self._mount.queries.unsupported(action)
        return cast("Access", self._laboratory)

    def _whole_for(self, action: str) -> Access:
        """Return the whole database, also while a release is shown.

        Raises UsageError as :meth:`_access_for` does.
        """
        self._access_for(action)
        return cast("Access", self._whole)

    def _is_local(self, query_type: str | None) -> bool:
        """Whether ONE-api would answer from cache tables. Raises UsageError for an invalid type."""
        from onefs.one.arguments import check_query_type

        check_query_type(query_type)
        is_default = query_type in (None, "auto")
        return query_type == "local" or (is_default and (self._offline or self._settings.public))

    def _session(self, eid: object, *, loads: bool = False) -> Session:
        """Return a session. ``loads`` is whether its files are about to be downloaded."""
        from onefs.one.dataset_listing import find_session
        from onefs.one.session_prefetch import prefetch_session

        text = str(eid).strip().lower() if isinstance(eid, (str, UUID)) else ""
        with self._unknown_is_not_found():
            if alf.is_uuid(text) and self._mount is None:
                prefetch_session(self._access_for("load"), text, loads=loads)
            return find_session(self._resolver, eid)

    @contextmanager
    def _unknown_is_not_found(self) -> Iterator[None]:
        """Raise the error ``object_not_found`` for what the database does not have.

        Offline, and in a release, that is what the catalogue does not have.
        """
        from onefs.one.alf_errors import alf_error

        try:
            yield
        except NotFound as error:
            raise alf_error("object_not_found", str(error)) from error
        except Unreachable as error:
            if not self._offline and not isinstance(error, NoAlyx):
                raise
            raise alf_error("object_not_found", str(error)) from error

    def _records(
        self,
        eid: object,
        query_type: str | None,
        selection: DatasetFilter,
        default_revisions_only: bool = False,
    ) -> Iterator[DatasetRecord]:
        """Yield the selected datasets of a session, or without ``eid`` of all that are stored."""
        from onefs.one.dataset_listing import all_records, session_records
        from onefs.one.warn import warn

        self._is_local(query_type)
        records: Iterable[DatasetRecord]
        if eid:
            try:
                session = self._session(eid)
            except NotFound as error:
                if not self._offline:
                    raise
                warn(str(error))  # in mode local, ONE-api has no datasets of an unknown session
                return iter(())
            records = selection.matching(session_records(self._resolver, session))
        else:
            database = self._access_for("list all datasets").database
            records = selection.with_outcome(all_records(database, selection.path_test()))
        return (each for each in records if each.dataset.default or not default_revisions_only)

    def _filter(
        self, filename: object, collection: object, revision: object, **more: Any
    ) -> DatasetFilter:
        from onefs.one.dataset_filter import DatasetFilter

        return DatasetFilter(filename, collection, revision, wildcards=self.wildcards, **more)

    def _groups(
        self,
        part: str,
        eid: object,
        selection: DatasetFilter,
        details: bool,
        query_type: str | None,
    ) -> Any:
        """Return the collections or revisions of the datasets that match."""
        from onefs.one.dataset_listing import group_by

        records = self._records(eid, query_type, selection)
        as_table = self._is_local(query_type)
        return group_by(records, part, details=details, as_table=as_table, keep_eid=not eid)

    def _aggregates(
        self,
        relation: str,
        identifier: str | None,
        dataset: object,
        revision: str | None,
        assert_unique: bool,
    ) -> Sequence[DatasetRecord]:
        from onefs.one.aggregate_records import aggregate_records
        from onefs.one.dataset_filter import DatasetFilter

        catalogue = self._whole_for("list aggregates").catalogue
        # always with wildcards, as in ONE-api
        selection = DatasetFilter(dataset, None, revision)
        return aggregate_records(
            catalogue, relation, identifier, selection, assert_unique=assert_unique
        )

    def _object_loader(
        self,
        download_only: bool,
        query_type: str | None = None,
        qc: object = DEFAULT_QC,
        ignore_qc_not_set: bool = False,
    ) -> ObjectLoader:
        from onefs.one.dataset_filter import QcLimit
        from onefs.one.object_loader import ObjectLoader

        self._is_local(query_type)
        return ObjectLoader(
            self._laboratory,
            self._resolver,
            wildcards=self.wildcards,
            offline=self._offline,
            adopts=self._mount is None,
            download_only=download_only,
            qc=QcLimit.parse(qc, ignore_qc_not_set),
            loaded_ids=self._loaded_ids if self.record_loaded else None,
        )

    @staticmethod
    def _last_revision(revision: str | None) -> str | None:
        from onefs.one.dataset_filter import revision_of_environment

        return revision or revision_of_environment()

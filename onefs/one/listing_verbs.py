"""The methods of ONE-api that list and describe datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onefs.one.dataset_client import DEFAULT_QC, DatasetClient
from onefs.one.interrupts import interruptible

if TYPE_CHECKING:
    pass


class ListingVerbs(DatasetClient):
    """The methods of ONE-api that list and describe datasets."""

    @interruptible
    def list_datasets(
        self,
        eid: object = None,
        filename: object = None,
        collection: object = None,
        revision: object = None,
        qc: object = DEFAULT_QC,
        ignore_qc_not_set: bool = False,
        details: bool = False,
        query_type: str | None = None,
        default_revisions_only: bool = False,
        keep_eid_index: bool = False,
    ) -> Any:
        """Return the paths of a session's datasets below the session's folder, sorted.

        Args:
            eid: The eid, ref, path or URL of a session, or a dict with lab, subject, date and
                number. None lists the stored datasets of all sessions, each path once.
            filename: A pattern of the file's name, a list of patterns, or a dict with patterns of
                ALF parts, for example ``{"object": "trials"}``.
            collection: A pattern of the collection, or a list. '' means no collection.
            revision: A pattern of the revision, or a list. '' means no revision.
            qc: The worst outcome of quality control, as its name or its number in Alyx.
            ignore_qc_not_set: Whether to leave out datasets without an outcome.
            details: Whether to return a DataFrame.
            query_type: Where ONE-api looks: "remote" or "local". A DataFrame has the columns of
                ONE-api's tables for "local".
            default_revisions_only: Whether to return default revisions only.
            keep_eid_index: Whether the index of the DataFrame has the eid, too.

        Returns:
            A list of paths. With ``details``, a DataFrame whose index is the dataset's id.

        Raises:
            UsageError: An argument is invalid.
            NotFound: There is no such session.
            Ambiguous: Several labs have a session with the given ref.
            MissingLibrary: ``details`` is True, and pandas is not installed.
        """
        from onefs.one.dataset_filter import QcLimit
        from onefs.one.dataset_listing import unique_paths
        from onefs.one.dataset_records import to_frame

        limit = QcLimit.parse(qc, ignore_qc_not_set)
        selection = self._filter(filename, collection, revision, qc=limit)
        records = self._records(eid, query_type, selection, default_revisions_only)
        if details:
            keep_eid = keep_eid_index or not eid
            return to_frame(list(records), as_table=self._is_local(query_type), keep_eid=keep_eid)
        return sorted(each.rel_path for each in records) if eid else unique_paths(records)

    @interruptible
    def list_collections(
        self,
        eid: object = None,
        filename: object = None,
        collection: object = None,
        revision: object = None,
        details: bool = False,
        query_type: str | None = None,
    ) -> Any:
        """Return the collections of the datasets that match, each once.

        Args:
            eid: As in :meth:`list_datasets`.
            filename: As in :meth:`list_datasets`.
            collection: As in :meth:`list_datasets`.
            revision: As in :meth:`list_datasets`.
            details: Whether to return a dict from collections to DataFrames of their datasets.
            query_type: As in :meth:`list_datasets`.

        Returns:
            A list of collections, or a dict.

        Raises:
            UsageError: The errors are those of :meth:`list_datasets`.
        """
        selection = self._filter(filename, collection, revision)
        return self._groups("collection", eid, selection, details, query_type)

    @interruptible
    def list_revisions(
        self,
        eid: object = None,
        filename: object = None,
        collection: object = None,
        revision: object = None,
        details: bool = False,
        query_type: str | None = None,
    ) -> Any:
        """Return the revisions of the datasets that match, each once. '' means no revision.

        Args:
            eid: As in :meth:`list_datasets`.
            filename: As in :meth:`list_datasets`.
            collection: As in :meth:`list_datasets`.
            revision: As in :meth:`list_datasets`.
            details: Whether to return a dict from revisions to DataFrames of their datasets.
            query_type: As in :meth:`list_datasets`.

        Returns:
            A list of revisions, or a dict.

        Raises:
            UsageError: The errors are those of :meth:`list_datasets`.
        """
        selection = self._filter(filename, collection, revision)
        return self._groups("revision", eid, selection, details, query_type)

    @interruptible
    def type2datasets(
        self, eid: object, dataset_type: str | Sequence[str], details: bool = False
    ) -> Any:
        """Return the paths of a session's datasets of a dataset type, as an array.

        Args:
            eid: The eid, ref, path or URL of a session.
            dataset_type: The type, or a list of types.
            details: Whether to return a DataFrame.

        Returns:
            A numpy array of paths, sorted. With ``details``, a DataFrame.

        Raises:
            UsageError: An argument is invalid.
            NotFound: There is no such session.
        """
        import numpy as np

        from onefs.one.dataset_listing import session_records
        from onefs.one.dataset_records import to_frame
        from onefs.one.dataset_selection import parse_types

        wanted = set(parse_types(dataset_type))
        session = self._session(eid)
        ids = {
            dataset.id
            for _, dataset in self._resolver.datasets(session)
            if dataset.dataset_type in wanted
        }
        records = session_records(self._resolver, session)
        records = [each for each in records if each.dataset.id in ids]
        if details:
            return to_frame(records, as_table=False, keep_eid=True)
        return np.array(sorted(each.rel_path for each in records), dtype=object)

    @interruptible
    def dataset2type(self, dset: object) -> str:
        """Return the dataset type of a dataset.

        Args:
            dset: The dataset's id, or the name of a file. For a name, this is the type that most
                datasets with this name have.

        Raises:
            UsageError: There is no such dataset. Also if this object reads another user's mount.
            NotFound: The database has no dataset with this id.
        """
        from onefs.one.dataset_types import type_of_dataset

        access = self._whole_for("name dataset types")
        return type_of_dataset(access, self._view.whole.resolver(), dset)

    @interruptible
    def describe_dataset(self, dataset_type: object = None) -> Any:
        """Print the description of a dataset type, and return Alyx's row of it.

        Args:
            dataset_type: A dataset type, a dataset's id, or the name of a file. None returns the
                rows of all types, and prints nothing.

        Raises:
            NotFound: There is no such dataset type.
            UsageError: There is no such dataset. Also if this object reads another user's mount.
        """
        from onefs.one.dataset_types import describe_type

        rows = self._whole.queries.list_table("dataset-types")
        if not dataset_type:
            return rows
        access = self._whole_for("describe dataset types")
        row = describe_type(rows, dataset_type, access, self._view.whole.resolver())
        print(row.get("description", ""))
        return row

    @interruptible
    def describe_revision(self, revision: str, full: bool = False) -> dict[str, Any] | None:
        """Print the description of a revision.

        Args:
            revision: The name of the revision, without ``#``.
            full: Whether to return Alyx's row of the revision.

        Returns:
            The row. None without ``full``, or if there is no such revision.

        Raises:
            UsageError: This object reads another user's mount.
        """
        rows = self._whole_for("describe revisions").queries.revisions()
        row = next((each for each in rows if each.get("name") == revision), None)
        print(f'revision "{revision}" not found' if row is None else row.get("description", ""))
        return dict(row) if full and row is not None else None

    @interruptible
    def list_aggregates(
        self,
        relation: str,
        identifier: str | None = None,
        dataset: object = None,
        revision: str | None = None,
        assert_unique: bool = False,
    ) -> Any:
        """Return the datasets that belong to no session, as a DataFrame.

        Args:
            relation: What the data are aggregated over, for example ``"subjects"`` or ``"tags"``.
            identifier: A regular expression for a part of the name, for example the subject.
            dataset: A pattern of the file's name, or a dict with patterns of ALF parts.
            revision: The last revision to list. None means the default revision.
            assert_unique: Whether to raise Ambiguous if several datasets match.

        Raises:
            UsageError: An argument is invalid. Also if this object reads another user's mount.
            Ambiguous: Several datasets match, and ``assert_unique`` is True.
            MissingLibrary: pandas is not installed.
        """
        from onefs.one.aggregate_records import to_aggregates_frame

        return to_aggregates_frame(
            self._aggregates(relation, identifier, dataset, revision, assert_unique)
        )

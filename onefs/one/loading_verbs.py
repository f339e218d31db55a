"""The methods of ONE-api that load datasets, objects and collections."""

from __future__ import annotations

from typing import Any

from onefs.errors import UsageError
from onefs.one.dataset_client import DEFAULT_QC, DatasetClient
from onefs.one.interrupts import interruptible


class LoadingVerbs(DatasetClient):
    """The methods of ONE-api that load datasets, objects and collections."""

    @interruptible
    def load_object(
        self,
        eid: object,
        obj: object,
        collection: object = None,
        revision: str | None = None,
        query_type: str | None = None,
        download_only: bool = False,
        check_hash: bool = True,
        *,
        qc: object = DEFAULT_QC,
        ignore_qc_not_set: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return the attributes of an ALF object, for example all ``spikes``.

        Args:
            eid: The eid, ref, path or URL of a session, or a dict with lab, subject, date and
                number.
            obj: A pattern of the object.
            collection: A pattern of the collection, for example ``"alf/probe00"``.
            revision: The last revision to load. None means the revision in the variable
                ``ONE_REVISION_LAST_BEFORE``, or else the default revision of each file.
            query_type: As in :meth:`list_datasets`.
            download_only: Whether to return the paths of the files.
            check_hash: Not used, because files are verified when they are downloaded.
            qc: As in :meth:`list_datasets`.
            ignore_qc_not_set: As in :meth:`list_datasets`.
            **kwargs: Patterns of other ALF parts, for example ``attribute=["times", "clusters"]``.

        Returns:
            An AlfBunch, which is a dict whose keys are also its attributes. With ``download_only``,
            a list of paths.

        Raises:
            UsageError: An argument is invalid.
            NotFound: There is no such session, or no dataset that matches.
            Ambiguous: Several objects or collections match.
            BadContent: The bytes of a file contradict the database.
            MissingLibrary: A file is a table, and pandas is not installed.
        """
        loader = self._object_loader(download_only, query_type, qc, ignore_qc_not_set)
        revision = self._last_revision(revision)
        return loader.load_object(self._session(eid, loads=True), obj, collection, revision, kwargs)

    @interruptible
    def load_dataset(
        self,
        eid: object,
        dataset: object,
        collection: object = None,
        revision: str | None = None,
        query_type: str | None = None,
        download_only: bool = False,
        check_hash: bool = True,
        *,
        qc: object = DEFAULT_QC,
        ignore_qc_not_set: bool = False,
    ) -> Any:
        """Return the content of one dataset.

        Args:
            eid: As in :meth:`load_object`.
            dataset: A pattern of the file's name, ``object.attribute``, a dict with patterns of ALF
                parts, or the path below the session's folder.
            collection: As in :meth:`load_object`.
            revision: As in :meth:`load_object`.
            query_type: As in :meth:`list_datasets`.
            download_only: Whether to return the path of the file.
            check_hash: Not used, because files are verified when they are downloaded.
            qc: As in :meth:`list_datasets`.
            ignore_qc_not_set: As in :meth:`list_datasets`.

        Returns:
            The content, or the path.

        Raises:
            UsageError: An argument is invalid.
            NotFound: There is no such session or dataset.
            Ambiguous: Several datasets match.
            BadContent: The bytes of the file contradict the database.
            MissingLibrary: The file is a table, and pandas is not installed.
        """
        loader = self._object_loader(download_only, query_type, qc, ignore_qc_not_set)
        revision = self._last_revision(revision)
        return loader.load_dataset(self._session(eid, loads=True), dataset, collection, revision)

    @interruptible
    def load_datasets(
        self,
        eid: object,
        datasets: Any,
        collections: object = None,
        revisions: object = None,
        query_type: str | None = None,
        assert_present: bool = True,
        download_only: bool = False,
        check_hash: bool = True,
        *,
        qc: object = DEFAULT_QC,
        ignore_qc_not_set: bool = False,
    ) -> Any:
        """Return the contents of several datasets, and their records. Downloads them in parallel.

        Args:
            eid: As in :meth:`load_object`.
            datasets: A list with names or dicts as in :meth:`load_dataset`, or the result of
                :meth:`list_datasets`.
            collections: A pattern of the collection, or a list with one for each dataset.
            revisions: The last revision to load, or a list with one for each dataset.
            query_type: As in :meth:`list_datasets`.
            assert_present: Whether to raise NotFound for a missing dataset. Otherwise its content
                and record are None, with a warning.
            download_only: Whether to return paths instead of contents.
            check_hash: Not used, because files are verified when they are downloaded.
            qc: As in :meth:`list_datasets`.
            ignore_qc_not_set: As in :meth:`list_datasets`.

        Returns:
            A tuple of the list of contents and the list of records (dicts).

        Raises:
            UsageError: An argument is invalid.
            NotFound: There is no such session, or a dataset is missing.
            Ambiguous: Several datasets match one of the names.
            BadContent: The bytes of a file contradict the database.
            MissingLibrary: A file is a table, and pandas is not installed.
        """
        from onefs.one.dataset_filter import revision_of_environment
        from onefs.one.dataset_requests import DatasetsRequest

        loader = self._object_loader(download_only, query_type, qc, ignore_qc_not_set)
        default, wildcards = revision_of_environment(), self.wildcards
        request = DatasetsRequest.parse(
            datasets, collections, revisions, default, wildcards=wildcards
        )
        return loader.load_datasets(
            self._session(eid, loads=True), request, assert_present=assert_present
        )

    @interruptible
    def load_dataset_from_id(
        self,
        dset_id: object,
        download_only: bool = False,
        details: bool = False,
        check_hash: bool = True,
    ) -> Any:
        """Return the content of the dataset with an id. The quality control does not matter.

        Args:
            dset_id: The dataset's UUID.
            download_only: Whether to return the path of the file.
            details: Whether to return the record, too.
            check_hash: Not used, because files are verified when they are downloaded.

        Returns:
            The content, or the path. With ``details``, a tuple with it and a pandas Series.

        Raises:
            UsageError: The id is invalid. Also if this object reads another user's mount.
            NotFound: There is no such dataset.
        """
        from onefs.one.dataset_records import to_series
        from onefs.one.dataset_types import find_record, parse_dataset_id

        uuid = parse_dataset_id(dset_id)
        if not uuid:
            raise UsageError(f"{ascii(dset_id)[:80]} is no dataset: give its UUID")
        access = self._access_for("load by id")
        with self._unknown_is_not_found():
            record = find_record(access, self._resolver, uuid, offline=self._offline)
        content = self._object_loader(download_only).load_record(record)
        return (content, to_series(record)) if details else content

    @interruptible
    def load_collection(
        self,
        eid: object,
        collection: object,
        object: object = None,
        revision: str | None = None,
        query_type: str | None = None,
        download_only: bool = False,
        check_hash: bool = True,
        *,
        qc: Any = DEFAULT_QC,
        ignore_qc_not_set: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return all objects of a collection, by name.

        Args:
            eid: As in :meth:`load_object`.
            collection: A pattern of the collection. '' means the session's own folder.
            object: A pattern of the object, or a list. None means all objects.
            revision: As in :meth:`load_object`.
            query_type: As in :meth:`list_datasets`.
            download_only: Whether to return the paths of the files.
            check_hash: Not used, because files are verified when they are downloaded.
            qc: As in :meth:`list_datasets`.
            ignore_qc_not_set: As in :meth:`list_datasets`.
            **kwargs: As in :meth:`load_object`.

        Returns:
            A Bunch of AlfBunches. With ``download_only``, a tuple of paths.

        Raises:
            UsageError: The errors are those of :meth:`load_object`.
        """
        loader = self._object_loader(download_only, query_type, qc, ignore_qc_not_set)
        revision = self._last_revision(revision)
        return loader.load_collection(
            self._session(eid, loads=True), collection, object, revision, kwargs
        )

    @interruptible
    def load_aggregate(
        self,
        relation: str,
        identifier: str,
        dataset: object = None,
        revision: str | None = None,
        download_only: bool = False,
    ) -> Any:
        """Return the content of a dataset that belongs to no session.

        Args:
            relation: As in :meth:`list_aggregates`.
            identifier: As in :meth:`list_aggregates`.
            dataset: As in :meth:`load_dataset`.
            revision: As in :meth:`list_aggregates`.
            download_only: Whether to return the path of the file.

        Returns:
            The content, or the path.

        Raises:
            UsageError: An argument is invalid. Also if this object reads another user's mount.
            NotFound: No dataset matches.
            Ambiguous: Several datasets match.
        """
        from onefs.one.aggregate_records import require_one
        from onefs.one.dataset_requests import with_extension

        if self.wildcards:
            dataset = with_extension(dataset)
        records = self._aggregates(relation, identifier, dataset, revision, True)
        return self._object_loader(download_only).load_record(
            require_one(records, relation, identifier)
        )

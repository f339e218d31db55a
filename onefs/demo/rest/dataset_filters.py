"""The filters of ``/datasets`` and ``/files``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial

from onefs.demo.records import DatasetRecord, SessionRecord
from onefs.demo.rest import query_values
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.django_filter import DjangoLookup, django_test, read_lookups
from onefs.demo.rest.errors import failure
from onefs.demo.rest.filters import (
    Filter,
    accept_all,
    choice_filter,
    django_tests,
    filter_tests,
    lookup_filter,
    never,
)
from onefs.demo.rest.lookups import Test
from onefs.demo.rest.model_fields import File


def select_datasets(db: DemoDatabase, args: Mapping[str, str]) -> list[DatasetRecord]:
    """Return the datasets that match ``args``, the filters of a request.

    Raises ApiError for a value that Alyx refuses.
    """
    lookups = read_lookups(args["django"]) if "django" in args else []
    # tests of a dataset's session. The session of an aggregate is None
    session_tests = [_if_any(test) for test in filter_tests(db, _SESSION_FILTERS, args)]
    tests = filter_tests(db, _FILTERS, args)
    if "probe_insertion" in args:
        of_session, of_dataset = _probe_insertion(db, args["probe_insertion"])
        session_tests.append(_if_any(of_session))
        tests.append(of_dataset)
    for lookup in lookups:
        inner = _lookup_of_session(lookup)
        if inner is None:
            tests.append(django_test(db, "dataset", lookup))
        else:
            test = django_test(db, "session", replace(inner, excluded=False))
            session_tests.append(_if_any(test, excluded=inner.excluded))
    # sessions are selected first, with an index if possible, so that only their datasets are listed
    rows = _candidates(db, args, lookups, session_tests)
    return [dataset for dataset in rows if all(test(dataset) for test in tests)]


def _if_any(test: Test, *, excluded: bool = False) -> Test:
    """Return ``test``, changed so that None (no session) fails the test.

    If ``excluded`` is True, every result of the test is inverted.
    """
    return lambda session: (session is not None and test(session)) is not excluded


def _lookup_of_session(lookup: DjangoLookup) -> DjangoLookup | None:
    """Convert a dataset look-up like ``session__lab__name`` to the session look-up ``lab__name``.

    Return None for any other look-up.
    """
    # the look-up of sessions is faster, because it lists no datasets
    head, _, rest = lookup.path.partition("__")
    if head != "session" or rest == "isnull":
        return None
    return replace(lookup, path=f"id__{rest or 'exact'}" if rest in ("", "exact", "in") else rest)


def _candidates(
    db: DemoDatabase,
    args: Mapping[str, str],
    lookups: Sequence[DjangoLookup],
    tests: Sequence[Test],
) -> Iterator[DatasetRecord]:
    ids = _keys_of(lookups, ("id", "pk"))
    if "id" in args:
        ids = [query_values.uuid_text("id", args["id"])]
    sessions = _sessions(db, args, lookups)
    if ids is not None:
        datasets = (db.dataset(dataset_id) for dataset_id in ids)
        for dataset in (d for d in datasets if d is not None):
            session = db.session(dataset.eid)
            fits = "session" not in args or session in sessions
            if fits and all(test(session) for test in tests):
                yield dataset
        return
    for session in sessions:
        if all(test(session) for test in tests):
            yield from db.datasets(session.eid)
    if "session" not in args and all(test(None) for test in tests):
        yield from db.aggregates()


def _sessions(
    db: DemoDatabase, args: Mapping[str, str], lookups: Sequence[DjangoLookup]
) -> Sequence[SessionRecord]:
    """Return all sessions that may have datasets that match ``args`` and ``lookups``.

    Raises ApiError if ``args`` names an unknown session.
    """
    # an index finds the sessions of an id, a subject or a lab
    if "session" in args:
        session = db.session(query_values.key("session", args["session"]))
        if session is None:
            raise query_values.unknown_choice("session")
        return [session]
    eids = _keys_of(lookups, ("session", "session__id", "session__pk"))
    if eids is not None:
        return [session for session in map(db.session, eids) if session is not None]
    if "subject" in args:
        return db.sessions_of_subject(args["subject"])
    if "lab" in args:
        return db.sessions_of_lab(args["lab"])
    return db.sessions


def _keys_of(lookups: Sequence[DjangoLookup], paths: Sequence[str]) -> list[str] | None:
    """Return the ids that are the value of the first look-up with a path in ``paths``.

    Return None if there is no such look-up. Look-ups that start with ``~`` are ignored.
    """
    for lookup in lookups:
        if lookup.excluded or lookup.path.removesuffix("__in") not in paths:
            continue
        keys = lookup.value if isinstance(lookup.value, (list, tuple)) else [lookup.value]
        return list(dict.fromkeys(str(key).lower() for key in keys))
    return None


# -- filters that are not look-ups: (database, name, value) -> test ----------------------------


def _flag(db: DemoDatabase, name: str, value: str) -> Test:
    """Return a test that the dataset's column ``name`` is true or false, as ``value`` says."""
    flag = query_values.boolean(name, value)
    # the column may be a number: 0 is false
    return accept_all if flag is None else lambda dataset: bool(getattr(dataset, name)) is flag


def _exists(db: DemoDatabase, name: str, value: str) -> Test:
    """Return the test for the filter ``exists``.

    A replica on a server must exist if ``value`` is true. It must be missing if ``value`` is false.
    """
    flag = query_values.boolean(name, value)
    if flag is None:
        return accept_all
    return lambda dataset: any(
        record.exists is flag and db.on_server(record) for record in dataset.file_records
    )


def _legacy_md5(db: DemoDatabase, name: str, value: str) -> Test:
    # Alyx has a column ``md5`` that is always null, because the md5 is in the column ``hash``
    query_values.key(name, value)
    return never(db, name, value)


def _probe_insertion(db: DemoDatabase, value: str) -> tuple[Test, Test]:
    """Return two tests for the filter ``probe_insertion``: of a session, and of a dataset.

    Raises ApiError 500 for an unknown insertion.
    """
    row = db.row("insertions", value)
    if row is None:
        raise failure("ProbeInsertion matching query does not exist.")
    eid, probe = row.get("session"), str(row.get("name")).casefold()
    # the session of the insertion, and datasets with the probe's name in their collection
    return (
        lambda session: bool(session.eid == eid),
        lambda dataset: probe in dataset.collection.casefold(),
    )


def _day_of_moment(name: str, value: str) -> date:
    return query_values.moment(name, value).date()


_by_session = partial(lookup_filter, "session")
_SESSION_FILTERS: Mapping[str, Filter] = {
    "subject": _by_session("subject__nickname", query_values.unchecked),
    "lab": _by_session("lab__name", query_values.unchecked),
    "date": _by_session("start_time__date", query_values.day),
    "experiment_number": _by_session("number", query_values.session_number),
}
_by = partial(lookup_filter, "dataset")
_FILTERS: Mapping[str, Filter] = {
    "name": _by("name"),
    "collection": _by("collection"),
    "dataset_type": _by("dataset_type__name"),
    "revision": _by("revision__name"),
    "created_by": _by("created_by__username"),
    "hash": _by("hash"),
    "version": _by("version"),
    "tag": _by("tags__name", query_values.unchecked),
    "md5": _legacy_md5,
    "created_date": _by("created_datetime__date", query_values.day),
    "created_date_gte": _by("created_datetime__date__gte", _day_of_moment),
    "created_date_lte": _by("created_datetime__date__lte", _day_of_moment),
    "created_datetime": _by("created_datetime", query_values.moment),
    "auto_datetime": _by("auto_datetime", query_values.moment),
    "exists": _exists,
    "default_dataset": _by("default_dataset", query_values.boolean),
    "public": _flag,
    "protected": _flag,
    "qc": _by("qc", query_values.outcome),
    "file_size": _by("file_size", query_values.number),
    # this filter takes the id of the data format, not its name
    "data_format": choice_filter("dataset", "data_format", "data-formats"),
}
_by_file = partial(lookup_filter, "file")
_FILE_FILTERS: Mapping[str, Filter] = {
    "id": _by_file("id", query_values.uuid_text),
    "data_repository": _by_file("data_repository__name", query_values.unchecked),
    "exists": _by_file("exists", query_values.boolean),
    "globus_is_personal": _by_file("data_repository__globus_is_personal", query_values.boolean),
}

#: the names of all filters, for the OpenAPI document
DATASET_FILTERS = ("id", "session", *_SESSION_FILTERS, "probe_insertion", *_FILTERS, "django")
FILE_FILTERS = (*_FILE_FILTERS, "dataset", "lab", "django")


# -- files ------------------------------------------------------------------------------------


def select_files(db: DemoDatabase, args: Mapping[str, str]) -> list[File]:
    """Return a pair (dataset, file record) for each file record that matches ``args``.

    ``args`` are the filters of a request.
    """
    tests = filter_tests(db, _FILE_FILTERS, args) + django_tests(db, "file", args)
    files = ((d, record) for d in _datasets_of_files(db, args) for record in d.file_records)
    return [file for file in files if all(test(file) for test in tests)]


def find_file(db: DemoDatabase, file_id: str) -> File | None:
    """Return the pair (dataset, file record) for the file record with the id ``file_id``.

    Return None if no dataset has this file record. Searches all datasets.
    """
    files = ((d, record) for d in db.all_datasets() for record in d.file_records)
    return next((file for file in files if file[1].id == file_id), None)


def _datasets_of_files(db: DemoDatabase, args: Mapping[str, str]) -> Iterator[DatasetRecord]:
    if "dataset" in args:
        dataset = db.dataset(query_values.key("dataset", args["dataset"]))
        if dataset is None:
            raise query_values.unknown_choice("dataset")
        yield dataset
    elif "lab" in args:
        for session in db.sessions_of_lab(args["lab"]):
            if session.lab == args["lab"]:
                yield from db.datasets(session.eid)
    else:
        yield from db.all_datasets()

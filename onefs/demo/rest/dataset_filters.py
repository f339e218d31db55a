"""The filters of ``/datasets`` and ``/files``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onefs.demo.records import DatasetRecord, FileRecord, SessionRecord
from onefs.demo.rest import query_values
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.django_filter import DjangoLookup, django_test, read_lookups
from onefs.demo.rest.errors import failure

#: tests of the session that a dataset belongs to, None for an aggregate
SessionTest = Callable[["SessionRecord | None"], bool]
Test = Callable[[DatasetRecord], bool]
Copy = tuple[DatasetRecord, FileRecord]


def select_datasets(db: DemoDatabase, args: Mapping[str, str]) -> list[DatasetRecord]:
    """The rows that ``args`` leave.

    Sessions are narrowed first, by index where there is one, so that the datasets of no other
    session are touched. Raises ApiError for a value that Alyx refuses.
    """
    lookups = read_lookups(args["django"]) if "django" in args else []
    session_tests = [make(args[name]) for name, make in _OF_SESSION.items() if name in args]
    tests = [make(db, name, args[name]) for name, make in _OF_DATASET.items() if name in args]
    if "probe_insertion" in args:
        session_test, test = _probe_insertion(db, args["probe_insertion"])
        session_tests.append(session_test)
        tests.append(test)
    for lookup in lookups:
        inner = _of_session(lookup)
        if inner is None:
            tests.append(django_test(db, "dataset", lookup))
        else:
            session_tests.append(_through_session(db, inner))
    rows = _candidates(db, args, lookups, session_tests)
    return [dataset for dataset in rows if all(test(dataset) for test in tests)]


def _of_session(lookup: DjangoLookup) -> DjangoLookup | None:
    """A look-up through ``session`` as one on the session itself, which needs no dataset."""
    head, _, rest = lookup.path.partition("__")
    if head != "session" or rest == "isnull":
        return None
    return replace(lookup, path=f"id__{rest or 'exact'}" if rest in ("", "exact", "in") else rest)


def _through_session(db: DemoDatabase, lookup: DjangoLookup) -> SessionTest:
    test = django_test(db, "session", replace(lookup, excluded=False))
    return lambda session: (session is not None and test(session)) is not lookup.excluded


def _candidates(
    db: DemoDatabase,
    args: Mapping[str, str],
    lookups: Sequence[DjangoLookup],
    tests: Sequence[SessionTest],
) -> Iterator[DatasetRecord]:
    ids = _asked_for(lookups, ("id", "pk"))
    if "id" in args:
        ids = [query_values.uuid_text("id", args["id"])]
    sessions = _sessions(db, args, lookups)
    if ids is not None:
        found = (db.dataset(dataset_id) for dataset_id in ids)
        for dataset in (d for d in found if d is not None):
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
    """The smallest set of sessions that an index knows."""
    if "session" in args:
        session = db.session(query_values.key("session", args["session"]))
        if session is None:
            raise query_values.unknown_choice("session")
        return [session]
    eids = _asked_for(lookups, ("session", "session__id", "session__pk"))
    if eids is not None:
        return [session for session in map(db.session, eids) if session is not None]
    if "subject" in args:
        return db.sessions_of_subject(args["subject"])
    if "lab" in args:
        return db.sessions_of_lab(args["lab"])
    return db.sessions


def _asked_for(lookups: Sequence[DjangoLookup], paths: Sequence[str]) -> list[str] | None:
    """The keys that look-ups ask for by one of ``paths``, each once; None when by none."""
    for lookup in lookups:
        if lookup.excluded or lookup.path.removesuffix("__in") not in paths:
            continue
        keys = lookup.value if isinstance(lookup.value, (list, tuple)) else [lookup.value]
        return list(dict.fromkeys(str(key).lower() for key in keys))
    return None


# -- filters by what a dataset's session is: value -> test ------------------------------------


def _subject(value: str) -> SessionTest:
    return lambda session: session is not None and session.subject == value


def _lab(value: str) -> SessionTest:
    return lambda session: session is not None and session.lab == value


def _date(value: str) -> SessionTest:
    wanted = query_values.day(value).isoformat()
    return lambda session: session is not None and session.start_time[:10] == wanted


def _experiment_number(value: str) -> SessionTest:
    wanted = query_values.integer("number", value)
    return lambda session: session is not None and session.number == wanted


_OF_SESSION: Mapping[str, Callable[[str], SessionTest]] = {
    "subject": _subject,
    "lab": _lab,
    "date": _date,
    "experiment_number": _experiment_number,
}


# -- filters by the dataset: (database, name, value) -> test ----------------------------------


def _exact(attribute: str) -> Callable[[DemoDatabase, str, str], Test]:
    """The whole text in its own case."""

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.text(name, value)
        return lambda dataset: bool(getattr(dataset, attribute) == wanted)

    return make


def _flag(attribute: str) -> Callable[[DemoDatabase, str, str], Test]:
    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.boolean(value)
        return lambda dataset: wanted is None or bool(getattr(dataset, attribute)) is wanted

    return make


def _moment(attribute: str) -> Callable[[DemoDatabase, str, str], Test]:
    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.moment(name, value)

        def test(dataset: DatasetRecord) -> bool:
            found = getattr(dataset, attribute)
            return bool(found) and query_values.timestamp(found) == wanted

        return test

    return make


def _exists(db: DemoDatabase, name: str, value: str) -> Test:
    """By the copies on servers only: a dataset without any is in neither answer."""
    wanted = query_values.boolean(value)
    return lambda dataset: (
        wanted is None
        or any(record.exists is wanted and db.on_server(record) for record in dataset.file_records)
    )


def _created(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.day(value).isoformat()
    return lambda dataset: dataset.created_datetime[:10] == wanted


def _created_since(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.moment(name, value).date().isoformat()
    return lambda dataset: dataset.created_datetime[:10] >= wanted


def _created_until(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.moment(name, value).date().isoformat()
    return lambda dataset: dataset.created_datetime[:10] <= wanted


def _tag(db: DemoDatabase, name: str, value: str) -> Test:
    return lambda dataset: value in dataset.tags


def _qc(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.outcome(value)
    return lambda dataset: dataset.qc == wanted


def _file_size(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.number(name, value)
    return lambda dataset: dataset.file_size == wanted


def _data_format(db: DemoDatabase, name: str, value: str) -> Test:
    """By key, not by name."""
    wanted = query_values.key(name, value)
    names = [row["name"] for row in db.table("data-formats") if row.get("id") == wanted]
    if not names:
        raise query_values.unknown_choice(name)
    return lambda dataset: dataset.data_format in names


def _legacy_md5(db: DemoDatabase, name: str, value: str) -> Test:
    # the column of that name is a dead one, always null; what is used is ``hash``
    query_values.key(name, value)
    return lambda dataset: False


def _probe_insertion(db: DemoDatabase, value: str) -> tuple[SessionTest, Test]:
    """Datasets of the insertion's session whose collection holds the insertion's name."""
    row = db.row("insertions", value)
    if row is None:
        raise failure("ProbeInsertion matching query does not exist.")
    eid, probe = row.get("session"), str(row.get("name")).casefold()
    return (
        lambda session: session is not None and session.eid == eid,
        lambda dataset: probe in dataset.collection.casefold(),
    )


_OF_DATASET: Mapping[str, Callable[[DemoDatabase, str, str], Test]] = {
    "name": _exact("name"),
    "collection": _exact("collection"),
    "dataset_type": _exact("dataset_type"),
    "revision": _exact("revision"),
    "created_by": _exact("created_by"),
    "hash": _exact("hash"),
    "version": _exact("version"),
    "tag": _tag,
    "md5": _legacy_md5,
    "created_date": _created,
    "created_date_gte": _created_since,
    "created_date_lte": _created_until,
    "created_datetime": _moment("created_datetime"),
    "auto_datetime": _moment("auto_datetime"),
    "exists": _exists,
    "default_dataset": _flag("default_dataset"),
    "public": _flag("public"),
    "protected": _flag("protected"),
    "qc": _qc,
    "file_size": _file_size,
    "data_format": _data_format,
}

#: every filter's name, for the API's own description
DATASET_FILTERS = ("id", "session", *_OF_SESSION, "probe_insertion", *_OF_DATASET, "django")
FILE_FILTERS = ("id", "dataset", "lab", "data_repository", "exists", "globus_is_personal", "django")


# -- files ------------------------------------------------------------------------------------


def select_files(db: DemoDatabase, args: Mapping[str, str]) -> list[Copy]:
    """The file records that ``args`` leave, each with its dataset."""
    tests: list[Callable[[Copy], bool]] = []
    if "id" in args:
        wanted = query_values.uuid_text("id", args["id"])
        tests.append(lambda copy: copy[1].id == wanted)
    if "data_repository" in args:
        tests.append(lambda copy: copy[1].repository == args["data_repository"])
    for name, get in (("exists", _copy_exists), ("globus_is_personal", _copy_is_personal)):
        flag = query_values.boolean(args.get(name, ""))
        if flag is not None:
            tests.append(_flagged(db, get, flag))
    for lookup in read_lookups(args["django"]) if "django" in args else ():
        tests.append(django_test(db, "file", lookup))
    copies = ((d, record) for d in _datasets_of_files(db, args) for record in d.file_records)
    return [copy for copy in copies if all(test(copy) for test in tests)]


def find_file(db: DemoDatabase, file_id: str) -> Copy | None:
    """One file record by its UUID: a scan, nothing indexes them."""
    for dataset in db.all_datasets():
        for record in dataset.file_records:
            if record.id == file_id:
                return dataset, record
    return None


def _flagged(
    db: DemoDatabase, get: Callable[[DemoDatabase, Copy], Any], flag: bool
) -> Callable[[Copy], bool]:
    return lambda copy: get(db, copy) is flag


def _copy_exists(db: DemoDatabase, copy: Copy) -> bool:
    return copy[1].exists


def _copy_is_personal(db: DemoDatabase, copy: Copy) -> Any:
    return db.repository(copy[1]).get("globus_is_personal")


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

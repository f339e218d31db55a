"""The filters of ``/sessions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from fractions import Fraction
from functools import partial

from onefs.demo.records import SessionRecord
from onefs.demo.rest import brain_regions, query_values
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.django_filter import django_test, json_test, read_lookups
from onefs.demo.rest.errors import failure
from onefs.demo.rest.filters import Filter, accept_all, filter_tests, lookup_filter, never
from onefs.demo.rest.lookups import Test

#: with one of these filters Alyx's query is DISTINCT, so that no session is repeated
_DISTINCT = ("django", "tag", "datasets")
#: a look-up of ``django=`` through this relation is slow, because it lists datasets
_DATASETS = "data_dataset_session_related"


def select_sessions(db: DemoDatabase, args: Mapping[str, str]) -> list[SessionRecord]:
    """Return the sessions that match ``args``, the filters of a request, latest first.

    As in Alyx, a session may be repeated. Raises ApiError for a value that Alyx refuses.
    """
    fast = filter_tests(db, _FAST_FILTERS, args)
    slow = filter_tests(db, _SLOW_FILTERS, args)
    worst = query_values.worst_outcome(args["dataset_qc_lte"]) if "dataset_qc_lte" in args else None
    if "datasets" in args:
        slow.append(_datasets(db, args["datasets"], worst))
    for lookup in read_lookups(args["django"]) if "django" in args else ():
        test = django_test(db, "session", lookup)
        (slow if lookup.field == _DATASETS else fast).append(test)
    # tests that list no datasets run first
    tests = fast + slow
    rows = [s for s in _candidates(db, args) if all(test(s) for test in tests)]
    rows = _joined(rows, args)
    if worst is not None and "datasets" not in args:
        rows = [s for s in rows for d in db.datasets(s.eid) if query_values.QC[d.qc] <= worst]
    if any(name in args for name in _DISTINCT):
        return list({session.eid: session for session in rows}.values())
    return rows


def _candidates(db: DemoDatabase, args: Mapping[str, str]) -> Sequence[SessionRecord]:
    """Return all sessions that may match ``args``, the filters of a request."""
    # an index finds the sessions of an id, a subject or a lab
    if "id" in args:
        session = db.session(query_values.uuid_text("id", args["id"]))
        return [session] if session is not None else []
    for name in ("subject", "nickname"):
        if name in args:
            return db.sessions_of_subject(args[name])
    if "lab" in args:
        return db.sessions_of_lab(args["lab"])
    return db.sessions


def _joined(rows: Sequence[SessionRecord], args: Mapping[str, str]) -> list[SessionRecord]:
    """Repeat or drop sessions in ``rows`` as Alyx does for the filters ``args``."""
    patterns = [args[name].casefold() for name in ("project", "projects") if name in args]

    def projects(session: SessionRecord) -> int:
        times = 1
        for pattern in patterns:
            times *= sum(pattern in name.casefold() for name in session.projects)
        return times

    # Alyx returns a session once if the number of its requested users, times the number of its
    # matching projects, is the number of requested users. Otherwise Alyx leaves it out.
    if "users" in args:
        names = args["users"].split(",")
        return [s for s in rows if len({*s.users} & {*names}) * projects(s) == len(names)]
    # once for each matching project, or once without a filter for projects
    return [session for session in rows for _ in range(projects(session))]


# -- filters that are not look-ups: (database, name, value) -> test ----------------------------


def _json(db: DemoDatabase, name: str, value: str) -> Test:
    return json_test(db, "session", name, value)


def _parent(db: DemoDatabase, name: str, value: str) -> Test:
    eid = query_values.key(name, value)
    if db.session(eid) is None:
        raise query_values.unknown_choice(name)
    return lambda session: bool(session.parent_session == eid)


def _performance(db: DemoDatabase, name: str, value: str) -> Test:
    bound = Fraction(query_values.number(name, value))
    if db.has_empty_session:
        raise failure("division by zero\n")
    sign = 1 if name.endswith("gte") else -1

    def test(session: SessionRecord) -> bool:
        if session.n_trials is None or session.n_correct_trials is None:
            return False
        return (session.n_correct_trials * 100 // session.n_trials - bound) * sign >= 0

    return test


def _histology(db: DemoDatabase, name: str, value: str) -> Test:
    # Alyx looks for the procedure 'Histology', which no session has. Values other than True do not
    # filter
    return lambda session: value != "True"


def _atlas(db: DemoDatabase, name: str, value: str) -> Test:
    eids = brain_regions.sessions_in(db, name, value)
    return lambda session: session.eid in eids


def _has_all(value: str, names_of: Callable[[SessionRecord], set[str]]) -> Test:
    """Return a test that a session has every name in ``value``, a text with commas."""
    names = value.split(",")
    # as in Alyx, no session fulfils the test if a name occurs twice in ``value``
    return lambda session: len(names_of(session).intersection(names)) == len(names)


def _dataset_types(db: DemoDatabase, name: str, value: str) -> Test:
    return _has_all(value, lambda session: {d.dataset_type for d in db.datasets(session.eid)})


def _datasets(db: DemoDatabase, value: str, worst: int | None) -> Test:
    """Return a test that a session has, on a server, all the files that ``value`` names.

    Files with a QC worse than ``worst`` do not count. If ``worst`` is None, every QC counts.
    """
    limit = max(query_values.QC.values()) if worst is None else worst
    return _has_all(
        value,
        lambda session: {
            dataset.name
            for dataset in db.datasets(session.eid)
            if query_values.QC[dataset.qc] <= limit and db.is_on_server(dataset)
        },
    )


def _joined_later(db: DemoDatabase, name: str, value: str) -> Test:
    """Return a test that accepts every row, because :func:`_joined` applies this filter later.

    Raises ApiError if the filter's text is invalid.
    """
    query_values.text(name, value)
    return accept_all


def _whole_number(name: str, value: str) -> int:
    # the column is an integer, so that 1.5 becomes 1
    return int(query_values.number(name, value))


def _two_days(name: str, value: str) -> list[date]:
    days = value.split(",")
    if len(days) < 2:
        raise failure("list index out of range")
    return [query_values.day(name, text) for text in days[:2]]


_by = partial(lookup_filter, "session")
_FAST_FILTERS: Mapping[str, Filter] = {
    "id": _by("id", query_values.uuid_text),
    "subject": _by("subject__nickname__iexact"),
    "nickname": _by("subject__nickname__iexact"),
    "lab": _by("lab__name__iexact"),
    "type": _by("type__iexact"),
    "task_protocol": _by("task_protocol__icontains"),
    "location": _by("location__name__icontains"),
    "procedures": _by("procedures__name__icontains"),
    "project": _by("projects__name__icontains"),
    "projects": _by("projects__name__icontains"),
    "users": _joined_later,
    "number": _by("number", _whole_number),
    "n_trials": _by("n_trials", _whole_number),
    "n_correct_trials": _by("n_correct_trials", _whole_number),
    "narrative": _by("narrative"),
    # sessions of a Source have no name. In Alyx most names are ''
    "name": never,
    "start_time": _by("start_time", query_values.moment),
    "end_time": _by("end_time", query_values.moment),
    "auto_datetime": _by("auto_datetime", query_values.moment),
    "parent_session": _parent,
    "date_range": _by("start_time__date__range", _two_days),
    "extended_qc": _json,
    "json": _json,
    "qc": _by("qc", query_values.outcome),
    "performance_gte": _performance,
    "performance_lte": _performance,
    "histology": _histology,
    **dict.fromkeys(brain_regions.FILTERS, _atlas),
}
_SLOW_FILTERS: Mapping[str, Filter] = {
    "dataset_types": _dataset_types,
    "tag": _by(f"{_DATASETS}__tags__name__icontains", query_values.unchecked),
}


#: the names of all filters, for the OpenAPI document
SESSION_FILTERS = (*_FAST_FILTERS, *_SLOW_FILTERS, "datasets", "dataset_qc_lte", "django")

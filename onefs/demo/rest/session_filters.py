"""The filters of ``/sessions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from onefs.demo.records import SessionRecord
from onefs.demo.rest import brain_regions, query_values
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.django_filter import django_test, json_test, read_lookups
from onefs.demo.rest.errors import failure

Test = Callable[[SessionRecord], bool]
Make = Callable[[DemoDatabase, str, str], Test]

#: the filters that make Alyx's answer DISTINCT, whatever else joins
_DISTINCT = ("django", "tag", "datasets")
#: the relation that makes a look-up of ``django=`` dear
_DATASETS = "data_dataset_session_related"


def select_sessions(db: DemoDatabase, args: Mapping[str, str]) -> list[SessionRecord]:
    """The rows that ``args`` leave, latest first; some twice where Alyx repeats them.

    What needs no dataset is tested first. Raises ApiError for a value that Alyx refuses.
    """
    cheap = [make(db, name, args[name]) for name, make in _CHEAP_FILTERS.items() if name in args]
    dear = [make(db, name, args[name]) for name, make in _COSTLY_FILTERS.items() if name in args]
    worst = query_values.worst_outcome(args["dataset_qc_lte"]) if "dataset_qc_lte" in args else None
    if "datasets" in args:
        dear.append(_datasets(db, args["datasets"], worst))
    for lookup in read_lookups(args["django"]) if "django" in args else ():
        test = django_test(db, "session", lookup)
        (dear if lookup.field == _DATASETS else cheap).append(test)
    tests = cheap + dear
    rows = [s for s in _candidates(db, args) if all(test(s) for test in tests)]
    rows = _joined(rows, args)
    if worst is not None and "datasets" not in args:
        rows = [s for s in rows for d in db.datasets(s.eid) if query_values.QC[d.qc] <= worst]
    if any(name in args for name in _DISTINCT):
        return list({session.eid: session for session in rows}.values())
    return rows


def _candidates(db: DemoDatabase, args: Mapping[str, str]) -> Sequence[SessionRecord]:
    """The smallest set that an index knows."""
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
    """The joins that Alyx makes without DISTINCT, and its count of users over them."""
    patterns = [args[name].casefold() for name in ("project", "projects") if name in args]

    def projects(session: SessionRecord) -> int:
        times = 1
        for pattern in patterns:
            times *= sum(pattern in name.casefold() for name in session.projects)
        return times

    if "users" in args:
        wanted = args["users"].split(",")
        return [s for s in rows if _users(s, wanted) * projects(s) == len(wanted)]
    return [session for session in rows for _ in range(projects(session))]


def _users(session: SessionRecord, wanted: Sequence[str]) -> int:
    return len(set(session.users) & set(wanted))


# -- the filters, each (database, name, value) -> test ---------------------------------------


def _whole(attribute: str) -> Make:
    """The whole text, any case."""

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.text(name, value).casefold()
        return lambda session: str(getattr(session, attribute)).casefold() == wanted

    return make


def _part(attribute: str) -> Make:
    """A part of the text (or of one of the texts), any case."""

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.text(name, value).casefold()

        def test(session: SessionRecord) -> bool:
            found = getattr(session, attribute)
            texts = [found or ""] if found is None or isinstance(found, str) else found
            return any(wanted in text.casefold() for text in texts)

        return test

    return make


def _exact(attribute: str) -> Make:
    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.text(name, value)
        return lambda session: bool(getattr(session, attribute) == wanted)

    return make


def _number(attribute: str) -> Make:
    def make(db: DemoDatabase, name: str, value: str) -> Test:
        # the column is an integer: 1.5 is cut to 1
        wanted = int(query_values.number(name, value))
        return lambda session: bool(getattr(session, attribute) == wanted)

    return make


def _moment(attribute: str) -> Make:
    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.moment(name, value)

        def test(session: SessionRecord) -> bool:
            found = getattr(session, attribute)
            return bool(found) and query_values.timestamp(found) == wanted

        return test

    return make


def _date_range(db: DemoDatabase, name: str, value: str) -> Test:
    ends = value.split(",")
    if len(ends) < 2:
        raise failure("list index out of range")
    first, last = (query_values.day(end).isoformat() for end in ends[:2])
    return lambda session: first <= session.start_time[:10] <= last


def _json(db: DemoDatabase, name: str, value: str) -> Test:
    return json_test(db, "session", name, value)


def _qc(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.outcome(value)
    return lambda session: session.qc == wanted


def _parent(db: DemoDatabase, name: str, value: str) -> Test:
    eid = query_values.key(name, value)
    if db.session(eid) is None:
        raise query_values.unknown_choice(name)
    return lambda session: session.parent_session == eid


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
    # Alyx looks for the procedure 'Histology', which no session has; only True is a filter
    return lambda session: value != "True"


def _atlas(db: DemoDatabase, name: str, value: str) -> Test:
    eids = brain_regions.sessions_in(db, name, value)
    return lambda session: session.eid in eids


def _dataset_types(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = value.split(",")

    def test(session: SessionRecord) -> bool:
        types = {dataset.dataset_type for dataset in db.datasets(session.eid)}
        return len(types.intersection(wanted)) == len(wanted)

    return test


def _datasets(db: DemoDatabase, value: str, worst: int | None) -> Test:
    """File names that exist on a server, in datasets that are no worse than ``worst``."""
    wanted = value.split(",")
    limit = max(query_values.QC.values()) if worst is None else worst

    def test(session: SessionRecord) -> bool:
        names = {
            dataset.name
            for dataset in db.datasets(session.eid)
            if query_values.QC[dataset.qc] <= limit and db.is_on_server(dataset)
        }
        return len(names.intersection(wanted)) == len(wanted)

    return test


def _tag(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = value.casefold()
    return lambda session: any(
        wanted in tag.casefold() for dataset in db.datasets(session.eid) for tag in dataset.tags
    )


def _accept_all(db: DemoDatabase, name: str, value: str) -> Test:
    """A text that :func:`_joined` reads."""
    query_values.text(name, value)
    return lambda session: True


_CHEAP_FILTERS: Mapping[str, Make] = {
    "id": lambda db, name, value: lambda session: True,
    "subject": _whole("subject"),
    "nickname": _whole("subject"),
    "lab": _whole("lab"),
    "type": _whole("type"),
    "task_protocol": _part("task_protocol"),
    "location": _part("location"),
    "procedures": _part("procedures"),
    "project": _part("projects"),
    "projects": _part("projects"),
    "users": _accept_all,
    "number": _number("number"),
    "n_trials": _number("n_trials"),
    "n_correct_trials": _number("n_correct_trials"),
    "narrative": _exact("narrative"),
    # a session has no name in a Source; in Alyx it is '' but for a few
    "name": lambda db, name, value: lambda session: False,
    "start_time": _moment("start_time"),
    "end_time": _moment("end_time"),
    "auto_datetime": _moment("auto_datetime"),
    "parent_session": _parent,
    "date_range": _date_range,
    "extended_qc": _json,
    "json": _json,
    "qc": _qc,
    "performance_gte": _performance,
    "performance_lte": _performance,
    "histology": _histology,
    "atlas_acronym": _atlas,
    "atlas_name": _atlas,
    "atlas_id": _atlas,
}
_COSTLY_FILTERS: Mapping[str, Make] = {
    "dataset_types": _dataset_types,
    "tag": _tag,
}


#: every filter's name, for the API's own description
SESSION_FILTERS = (*_CHEAP_FILTERS, *_COSTLY_FILTERS, "datasets", "dataset_qc_lte", "django")

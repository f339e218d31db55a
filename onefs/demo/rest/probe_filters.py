"""Filters of insertions, trajectories, channels, notes and brain regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onefs.demo.records import SessionRecord
from onefs.demo.rest import brain_regions, query_values
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.django_filter import django_test, read_lookups
from onefs.demo.rest.errors import failure
from onefs.demo.rest.serializers import Link, session_row
from onefs.demo.rest.session_filters import select_sessions

Test = Callable[[Row], bool]
Make = Callable[[DemoDatabase, str, str], Test]
#: a row of a list -> the session that it belongs to
SessionOf = Callable[[DemoDatabase, Row], SessionRecord | None]

#: filters of /insertions that say what its session must be, and mean the same there
_OF_SESSION = ("lab", "project", "task_protocol", "tag", "datasets", "dataset_types")


def select(
    db: DemoDatabase, model: str, filters: Mapping[str, Make], args: Mapping[str, str]
) -> Any:
    """Return the rows of a table that ``args`` leave, in the table's order."""
    tests = [make(db, name, args[name]) for name, make in filters.items() if name in args]
    lookups = read_lookups(args["django"]) if "django" in args else []
    # datasets may have to be made first, so those of few rows are looked at
    for lookup in sorted(lookups, key=lambda each: "datasets" in each.path.split("__")):
        tests.append(django_test(db, model, lookup))
    return [row for row in db.table(model) if all(test(row) for test in tests)]


def select_insertions(db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
    """Return the insertions that ``args`` leave: latest session first, then by name."""
    rows: list[Row] = select(db, "insertions", _INSERTION, args)
    asked = {name: args[name] for name in _OF_SESSION if name in args}
    if asked:
        eids = {session.eid for session in select_sessions(db, asked)}
        rows = [row for row in rows if row.get("session") in eids]
    rows.sort(key=lambda row: str(row.get("name")))
    rows.sort(key=lambda row: _start(db, row), reverse=True)
    return rows


def select_trajectories(db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
    """Return the trajectories that ``args`` leave, in any order."""
    rows: list[Row] = select(db, "trajectories", _TRAJECTORY, args)
    return rows


def select_channels(db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
    """Return the channels that ``args`` leave, in any order."""
    rows: list[Row] = select(db, "channels", _CHANNEL, args)
    return rows


def select_notes(db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
    """Return the notes that ``django=`` leaves, the only filter that there is."""
    rows: list[Row] = select(db, "notes", {}, args)
    return rows


def select_regions(db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
    """Return the brain regions that ``args`` leave, in the order of the tree."""
    rows: list[Row] = select(db, "brain-regions", _REGION, args)
    return rows


def trajectory_row(db: DemoDatabase, row: Row, link: Link) -> dict[str, Any]:
    """A row of ``/trajectories``; ``session`` and ``probe_name`` are made from the insertion."""
    insertion = db.row("insertions", row.get("probe_insertion")) or {}
    session = db.session(insertion.get("session"))
    shown = None
    if session is not None:
        shown = {k: v for k, v in session_row(session, link).items() if k != "url"}
    return {**row, "session": shown, "probe_name": insertion.get("name")}


def _start(db: DemoDatabase, row: Row) -> str:
    session = db.session(row.get("session"))
    return session.start_time if session is not None else ""


# -- which session a row belongs to ------------------------------------------------------------


def _insertion_session(db: DemoDatabase, row: Row) -> SessionRecord | None:
    return db.session(row.get("session"))


def _trajectory_session(db: DemoDatabase, row: Row) -> SessionRecord | None:
    return _insertion_session(db, db.row("insertions", row.get("probe_insertion")) or {})


def _channel_session(db: DemoDatabase, row: Row) -> SessionRecord | None:
    return _trajectory_session(db, _channel_trajectory(db, row))


def _channel_trajectory(db: DemoDatabase, row: Row) -> Row:
    return db.row("trajectories", row.get("trajectory_estimate")) or {}


# -- the filters, each (database, name, value) -> test -----------------------------------------


def _is(key: str, row: Callable[[DemoDatabase, Row], Row] | None = None) -> Make:
    """The whole text of a key of the row, or of another row that it leads to."""

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.text(name, value)
        return lambda found: (row(db, found) if row else found).get(key) == wanted

    return make


def _uuid(key: str, row: Callable[[DemoDatabase, Row], Row] | None = None) -> Make:
    """The UUID at a key of the row, or of another row that it leads to."""

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.uuid_text(name, value)
        return lambda found: (row(db, found) if row else found).get(key) == wanted

    return make


def _related(table: str) -> Make:
    """The key of a row of another table: 400 for one that is unknown."""

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.key(name, value)
        if db.row(table, wanted) is None:
            raise query_values.unknown_choice(name)
        return lambda row: row.get(name) == wanted

    return make


def _number(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.number(name, value)
    return lambda row: row.get(name) == wanted


def _of_session(session_of: SessionOf, text: Callable[[SessionRecord], Sequence[str]]) -> Make:
    """A text that is among those of the row's session."""

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.text(name, value)

        def test(row: Row) -> bool:
            session = session_of(db, row)
            return session is not None and wanted in text(session)

        return test

    return make


def _session_filters(session_of: SessionOf) -> dict[str, Make]:
    """The filters ``subject``, ``date``, ``experiment_number`` and ``session`` of a list."""

    def with_session(matches: Callable[[SessionRecord], bool], db: DemoDatabase) -> Test:
        def test(row: Row) -> bool:
            session = session_of(db, row)
            return session is not None and matches(session)

        return test

    def date(db: DemoDatabase, name: str, value: str) -> Test:
        day = query_values.day(value).isoformat()
        return with_session(lambda session: session.start_time[:10] == day, db)

    def number(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.integer("number", value)
        return with_session(lambda session: session.number == wanted, db)

    def session(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = query_values.uuid_text(name, value)
        return with_session(lambda session: session.eid == wanted, db)

    return {
        "subject": _of_session(session_of, lambda session: [session.subject]),
        "date": date,
        "experiment_number": number,
        "session": session,
    }


def _never(db: DemoDatabase, name: str, value: str) -> Test:
    """``model=`` of insertions looks at a column that is never filled."""
    return lambda row: False


def _atlas(db: DemoDatabase, name: str, value: str) -> Test:
    probes = brain_regions.insertions_in(db, name, value)
    return lambda row: row.get("id") in probes


def _provenance(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = value.lower().strip()
    if wanted not in map(str.lower, query_values.PROVENANCES):
        raise failure(f"Invalid{name}, choices are: {', '.join(query_values.PROVENANCES)}")
    return lambda row: str(row.get(name)).lower() == wanted


def _probe_of_trajectory(db: DemoDatabase, row: Row) -> Row:
    return db.row("insertions", row.get("probe_insertion")) or {}


def _region_key(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = brain_regions.key(name, value)
    return lambda row: row.get(name) == wanted


def _part(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.text(name, value).casefold()
    return lambda row: wanted in str(row.get(name) or "").casefold()


def _acronym(db: DemoDatabase, name: str, value: str) -> Test:
    wanted = query_values.text(name, value).casefold()
    return lambda row: str(row.get(name)).casefold() == wanted


def _family(relatives: Callable[[DemoDatabase, str], frozenset[int]]) -> Make:
    def make(db: DemoDatabase, name: str, value: str) -> Test:
        keys = relatives(db, value) - {brain_regions.VOID}
        return lambda row: row.get("id") in keys

    return make


_POSITION: Mapping[str, Make] = dict.fromkeys(("x", "y", "z"), _number)
_INSERTION: Mapping[str, Make] = {
    "id": _uuid("id"),
    **_session_filters(_insertion_session),
    "name": _is("name"),
    "serial": _is("serial"),
    "model": _never,
    "atlas_acronym": _atlas,
    "atlas_name": _atlas,
    "atlas_id": _atlas,
}
_TRAJECTORY: Mapping[str, Make] = {
    "id": _uuid("id"),
    "probe_insertion": _related("insertions"),
    **_session_filters(_trajectory_session),
    "project": _of_session(_trajectory_session, lambda session: session.projects),
    "probe": _is("name", _probe_of_trajectory),
    "provenance": _provenance,
    **_POSITION,
    **dict.fromkeys(("depth", "theta", "phi", "roll"), _number),
}
_CHANNEL: Mapping[str, Make] = {
    "id": _uuid("id"),
    "trajectory_estimate": _related("trajectories"),
    "probe_insertion": _uuid("probe_insertion", _channel_trajectory),
    "session": _session_filters(_channel_session)["session"],
    "subject": _session_filters(_channel_session)["subject"],
    "lab": _of_session(_channel_session, lambda session: [session.lab]),
    "name": _is("name"),
    "brain_region": _region_key,
    **_POSITION,
    **dict.fromkeys(("axial", "lateral"), _number),
}
_REGION: Mapping[str, Make] = {
    "id": _region_key,
    "acronym": _acronym,
    "name": _part,
    "description": _part,
    "parent": _region_key,
    "ancestors": _family(brain_regions.ancestors),
    "descendants": _family(brain_regions.descendants),
}

#: every filter's name, for the API's own description
INSERTION_FILTERS = (*_INSERTION, *_OF_SESSION, "django")
TRAJECTORY_FILTERS = (*_TRAJECTORY, "django")
CHANNEL_FILTERS = (*_CHANNEL, "django")
NOTE_FILTERS = ("django",)
REGION_FILTERS = (*_REGION, "django")

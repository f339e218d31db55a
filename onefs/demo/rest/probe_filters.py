"""Filters of insertions (inserted probes), trajectories, channels, notes and brain regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from onefs.demo.rest import brain_regions, query_values
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.errors import failure
from onefs.demo.rest.filters import Filter, choice_filter, lookup_filter, never, select_rows
from onefs.demo.rest.lookups import Test
from onefs.demo.rest.session_filters import select_sessions

#: filters of /insertions that test the insertion's session, as the same filters of /sessions do
_OF_SESSION = ("lab", "project", "task_protocol")
#: filters of /insertions that test the insertion's datasets
_OF_DATASETS = ("tag", "datasets", "dataset_types", "dataset_qc_lte")


def select_insertions(db: DemoDatabase, args: Mapping[str, str]) -> list[Row]:
    """Return the probe insertions that match ``args``, the filters of a request.

    Insertions of the latest session come first. Insertions of one session are sorted by name.
    """
    rows = select_rows("insertions", _INSERTION, db, args)
    session_args = {name: args[name] for name in _OF_SESSION if name in args}
    if session_args:
        eids = {session.eid for session in select_sessions(db, session_args)}
        rows = [row for row in rows if row.get("session") in eids]
    if any(name in args for name in _OF_DATASETS):
        rows = _select_by_datasets(db, args, rows)
    rows.sort(key=lambda row: str(row.get("name")))
    rows.sort(key=lambda row: _start(db, row), reverse=True)
    return rows


def _select_by_datasets(
    db: DemoDatabase, args: Mapping[str, str], rows: Sequence[Row]
) -> list[Row]:
    """Return the rows of insertions whose datasets match ``args``.

    As in Alyx, ``dataset_qc_lte`` repeats an insertion for each of its datasets, if neither
    ``datasets`` nor ``django`` makes the rows distinct.
    """
    worst = query_values.worst_outcome(args["dataset_qc_lte"]) if "dataset_qc_lte" in args else None
    names, types = args.get("datasets", "").split(","), args.get("dataset_types", "").split(",")
    found = []
    for row in rows:
        datasets = [each for each in map(db.dataset, row.get("datasets", ())) if each is not None]
        limit = query_values.QC["FAIL"] if worst is None else worst
        good = [each for each in datasets if query_values.QC[each.qc] <= limit]
        tag = args.get("tag", "").casefold()
        # Alyx counts the datasets, so that two revisions of one name count as two names
        if (
            ("datasets" in args and sum(each.name in names for each in good) < len(names))
            or (
                "dataset_types" in args
                and len({each.dataset_type for each in datasets} & {*types}) < len(types)
            )
            or ("tag" in args and not any(tag in t.casefold() for d in datasets for t in d.tags))
        ):
            continue
        is_repeated = worst is not None and not {"datasets", "django", "tag"} & set(args)
        found += [row] * (len(good) if is_repeated else int(worst is None or bool(good)))
    return found


def _start(db: DemoDatabase, row: Row) -> str:
    session = db.session(row.get("session"))
    return session.start_time if session is not None else ""


def _session_filters(model: str, path: str) -> dict[str, Filter]:
    """Return filters that select rows of ``model`` by their session.

    ``path`` leads from a row of ``model`` to its session, such as ``probe_insertion__session``.
    """
    by = partial(lookup_filter, model)
    return {
        "subject": by(f"{path}__subject__nickname"),
        "date": by(f"{path}__start_time__date", query_values.day),
        "experiment_number": by(f"{path}__number", query_values.session_number),
        "session": by(path, query_values.uuid_text),
    }


def _numbers(model: str, *names: str) -> dict[str, Filter]:
    return {name: lookup_filter(model, name, query_values.number) for name in names}


def _atlas(db: DemoDatabase, name: str, value: str) -> Test:
    probes = brain_regions.insertions_in(db, name, value)
    return lambda row: row.get("id") in probes


def _provenance(name: str, value: str) -> int:
    numbers = {text.lower(): number for text, number in query_values.PROVENANCES.items()}
    number = numbers.get(value.lower().strip())
    if number is None:
        raise failure(f"Invalid{name}, choices are: {', '.join(query_values.PROVENANCES)}")
    return number


def _region_number(db: DemoDatabase, name: str, value: str) -> Test:
    number = query_values.number(name, value)
    return lambda row: bool(row.get(name) == number)


def _family(relatives: Callable[[DemoDatabase, str], frozenset[int]]) -> Filter:
    def make(db: DemoDatabase, name: str, value: str) -> Test:
        keys = relatives(db, value) - {brain_regions.VOID}
        return lambda row: row.get("id") in keys

    return make


_by_insertion = partial(lookup_filter, "insertions")
_INSERTION: Mapping[str, Filter] = {
    "id": _by_insertion("id", query_values.uuid_text),
    **_session_filters("insertions", "session"),
    "name": _by_insertion("name"),
    "serial": _by_insertion("serial"),
    "model": never,
    **dict.fromkeys(brain_regions.FILTERS, _atlas),
}
_by_trajectory = partial(lookup_filter, "trajectories")
_TRAJECTORY: Mapping[str, Filter] = {
    "id": _by_trajectory("id", query_values.uuid_text),
    "probe_insertion": choice_filter("trajectories", "probe_insertion", "insertions"),
    **_session_filters("trajectories", "probe_insertion__session"),
    "project": _by_trajectory("probe_insertion__session__projects__name"),
    "probe": _by_trajectory("probe_insertion__name"),
    "provenance": _by_trajectory("provenance", _provenance),
    **_numbers("trajectories", "x", "y", "z", "depth", "theta", "phi", "roll"),
}
_by_channel = partial(lookup_filter, "channels")
_PROBE_OF_CHANNEL = "trajectory_estimate__probe_insertion"
_OF_CHANNEL = _session_filters("channels", f"{_PROBE_OF_CHANNEL}__session")
_CHANNEL: Mapping[str, Filter] = {
    "id": _by_channel("id", query_values.uuid_text),
    "trajectory_estimate": choice_filter("channels", "trajectory_estimate", "trajectories"),
    "probe_insertion": _by_channel(_PROBE_OF_CHANNEL, query_values.uuid_text),
    "session": _OF_CHANNEL["session"],
    "subject": _OF_CHANNEL["subject"],
    "lab": _by_channel(f"{_PROBE_OF_CHANNEL}__session__lab__name"),
    "name": _by_channel("name"),
    "brain_region": _region_number,
    **_numbers("channels", "x", "y", "z", "axial", "lateral"),
}
_by_region = partial(lookup_filter, "brain-regions")
_REGION: Mapping[str, Filter] = {
    "id": _region_number,
    "acronym": _by_region("acronym__iexact"),
    "name": _by_region("name__icontains"),
    "description": _by_region("description__icontains"),
    "parent": _region_number,
    "ancestors": _family(brain_regions.ancestors),
    "descendants": _family(brain_regions.descendants),
}

select_trajectories = partial(select_rows, "trajectories", _TRAJECTORY)
select_channels = partial(select_rows, "channels", _CHANNEL)
#: ``django=`` is the only filter of notes
select_notes = partial(select_rows, "notes", {})
select_regions = partial(select_rows, "brain-regions", _REGION)

#: the names of all filters, for the OpenAPI document
INSERTION_FILTERS = (*_INSERTION, *_OF_SESSION, *_OF_DATASETS, "django")
TRAJECTORY_FILTERS = (*_TRAJECTORY, "django")
CHANNEL_FILTERS = (*_CHANNEL, "django")
NOTE_FILTERS = ("django",)
REGION_FILTERS = (*_REGION, "django")

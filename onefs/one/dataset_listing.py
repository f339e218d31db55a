"""The datasets of a session, or of the whole database, as ONE-api's verbs list them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from onefs import alf
from onefs.errors import UsageError
from onefs.model import Session
from onefs.one.dataset_records import DatasetRecord, make_record, to_frame
from onefs.one.resolver import SessionResolver
from onefs.tree.layout import datasets_by_path
from onefs.tree.variant import FULL_TREE

if TYPE_CHECKING:
    from onefs.catalogue.storage.overlay import OverlayDatabase

#: the keys of a dict that identifies a session
_SESSION_KEYS = ("lab", "subject", "number")


def find_session(resolver: SessionResolver, name: object) -> Session:
    """Return the session of a name, or of a dict with lab, subject, date and number.

    Raises UsageError for an invalid name, and NotFound if there is no such session.
    """
    if isinstance(name, Mapping):
        missing = [key for key in _SESSION_KEYS if key not in name]
        day = str(name.get("date") or name.get("start_time") or "")[:10]
        if missing or not day:
            raise UsageError(
                f"the dict names no session, because it lacks {', '.join(missing) or 'date'}"
            )
        number = alf.number_folder(int(name["number"]))
        name = f"/{name['lab']}/{name['subject']}/{day}/{number}"
    return resolver.any_session(name)


def session_records(resolver: SessionResolver, session: Session) -> list[DatasetRecord]:
    """Return the datasets of a session that are on a server, sorted by id.

    A session without a folder has no datasets.
    """
    if not session.has_folder:
        return []
    layout = resolver.paths.layout(session, FULL_TREE)
    folder = resolver.paths.place(session)
    records = [
        make_record(dataset, (*folder, *layout.canonical_paths.get(dataset.id, place)))
        for place, dataset in datasets_by_path(layout)
    ]
    return sorted(records, key=attrgetter("id"))


def all_records(database: OverlayDatabase) -> list[DatasetRecord]:
    """Return the stored datasets of all sessions, sorted by eid and id. Sends no request."""
    from onefs.alyx.parsing import usable_replicas

    repositories = database.repositories()
    records = [
        make_record(row.dataset, ())
        for eid in {*database.distinct_values("datasets", "eid"), *database.tables.eids()} - {""}
        for row in database.datasets(eid)
        if row.dataset.from_tables or usable_replicas(row.claimed_replicas, repositories)
    ]
    return sorted(records, key=lambda each: (each.eid, each.id))


def unique_paths(records: Iterable[DatasetRecord]) -> list[str]:
    """Return the paths of datasets, each once, in the order of ``records``."""
    return list(dict.fromkeys(each.rel_path for each in records))


def group_by(
    records: Sequence[DatasetRecord], part: str, *, details: bool, as_table: bool, keep_eid: bool
) -> Any:
    """Return the values of ``part``, which is ``collection`` or ``revision``, each once.

    With ``details``, return a dict from each value to a DataFrame of its datasets.
    """
    groups: dict[str, list[DatasetRecord]] = defaultdict(list)
    for record in records:
        groups[getattr(record.dataset, part)].append(record)
    if not details:
        return list(groups)
    return {
        value: to_frame(groups[value], as_table=as_table, keep_eid=keep_eid)
        for value in sorted(groups)
    }

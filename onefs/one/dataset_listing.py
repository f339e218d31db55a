"""The datasets of a session, or of the whole database, as ONE-api's verbs list them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
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
        try:
            number = alf.number_folder(int(name["number"]))
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"the number of the session is {ascii(name['number'])[:80]}: give an integer"
            ) from error
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


def all_records(
    database: OverlayDatabase, is_wanted: Callable[[str], bool]
) -> Iterator[DatasetRecord]:
    """Yield the stored datasets of all sessions, sorted by eid and id. Sends no request.

    ``is_wanted`` says for a path below a session whether its datasets are wanted.
    """
    from onefs.alyx.parsing import usable_replicas

    listed = database.eids_listed_by_alyx()
    repositories = database.repositories()
    of_alyx = (
        make_record(row.dataset, ())
        for eid in sorted(listed)
        for row in sorted(database.datasets(eid), key=lambda each: each.dataset.uuid)
        if row.dataset.from_tables or usable_replicas(row.claimed_replicas, repositories)
    )
    # read in pages: tables have millions of datasets, most of which are not wanted
    of_tables = database.datasets_of_tables_only(is_wanted, listed)
    return merge(
        (each for each in of_alyx if is_wanted(each.rel_path)),
        (make_record(each, ()) for each in of_tables),
        key=lambda each: (each.eid, each.id),
    )


def unique_paths(records: Iterable[DatasetRecord]) -> list[str]:
    """Return the paths of datasets, each once, in the order of ``records``."""
    return list(dict.fromkeys(each.rel_path for each in records))


def group_by(
    records: Iterable[DatasetRecord], part: str, *, details: bool, as_table: bool, keep_eid: bool
) -> Any:
    """Return the values of ``part``, which is ``collection`` or ``revision``, each once.

    With ``details``, return a dict from each value to a DataFrame of its datasets.
    """
    if not details:
        return list(dict.fromkeys(getattr(each.dataset, part) for each in records))
    groups: dict[str, list[DatasetRecord]] = defaultdict(list)
    for record in records:
        groups[getattr(record.dataset, part)].append(record)
    return {
        value: to_frame(groups[value], as_table=as_table, keep_eid=keep_eid)
        for value in sorted(groups)
    }

"""The catalogue's file with what ONE's cache tables said beneath it.

A listing is known from whichever is newer: what Alyx said when it was asked (the catalogue), or
what the tables said when they were made. Where the tables are newer, what only the catalogue knows
still stands, since the tables leave things out: sessions that have begun since, datasets on
repositories whose name does not begin with ``flatiron`` or ``aws``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from onefs import alf
from onefs.metadata import type_patterns
from onefs.metadata.columns import as_session
from onefs.metadata.database import TYPES_KEY, Database, Having
from onefs.metadata.rows import DatasetRow
from onefs.metadata.tables import NAME, Tables, split_path
from onefs.metadata.tables_names import likely_types, rows_having
from onefs.metadata.type_patterns import TypePatterns
from onefs.model import Dataset, Session

#: the age of what the tables know in part only: it is served, and asked for behind
_ALWAYS_STALE = 1.0

#: collection, revision and name of a dataset: one place below its session
_Place = tuple[str, str, str]


class TabledDatabase(Database):
    """A catalogue at ``path``, over the cache tables beside it (if there are any).

    Everything that the tables can answer is answered as :class:`Database` would, with the time
    at which the tables were made as its age. Labs, subjects and repositories, which the tables
    know in part or not at all, are always stale until Alyx has listed them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.tables = Tables(path.with_name(NAME))

    def close(self) -> None:
        super().close()
        self.tables.close()

    def is_empty(self) -> bool:
        return super().is_empty() and self.tables.version is None

    def tables_version(self) -> object:
        return self.tables.version

    def is_bare_in_tables(self, eid: str) -> bool:
        return self.tables.session(eid) is not None and not self.tables.has_datasets(eid)

    def tables_created(self) -> float:
        return self.tables.created or 0.0

    def is_from_tables(self, key: str) -> bool:
        created = self.tables.created
        if created is None:
            return False
        own = super().fetched_at(key)
        if own == created:  # a subject without sessions: see mark_bare_subjects
            return key.startswith("sessions/")
        return (own is None or own < created) and self._covers(key)

    def fetched_at(self, key: str) -> float | None:
        own = super().fetched_at(key)
        created = self.tables.created
        if created is None or (own is not None and own >= created):
            return own
        if self._covers(key):
            return created
        if own is None and self._covers_in_part(key):
            return _ALWAYS_STALE
        return own

    def has_tables_of(self, lab: str) -> bool:
        return self.tables.has_lab(lab)

    def labs(self) -> list[str]:
        created = self.tables.created
        if created is None or (super().fetched_at("labs") or 0.0) >= created:
            return super().labs()
        return sorted({*super().labs(), *self.tables.labs()})

    def subjects(self, lab: str) -> list[str]:
        told = set(self.tables.subjects(lab))
        # where Alyx has listed the sessions since, they name the subject or it has none
        told -= self._listed_since(f"sessions/{lab}/", self.tables.created or 0.0)
        return sorted({*super().subjects(lab), *told})

    def sessions(self, lab: str, subject: str) -> list[Session]:
        own = super().sessions(lab, subject)
        if not self.is_from_tables(f"sessions/{lab}/{subject}"):
            return own
        found = {session.eid: session for session in self.tables.sessions(lab, subject)}
        newer = self._newer({*found, *(session.eid for session in own)})
        for session in own:
            told = found.get(session.eid)
            # one that the tables have elsewhere was renamed; one that they lack has begun since
            if told == replace(session, start_time=0.0) or (
                told is None and self.tables.session(session.eid) is None
            ):
                found[session.eid] = session
        for eid, session in newer.items():
            found.pop(eid, None)
            if session.number >= 0 and (session.lab, session.subject) == (lab, subject):
                found[eid] = session
        return sorted(found.values(), key=_order)

    def _newer(self, eids: Iterable[str]) -> dict[str, Session]:
        """Those of some sessions that Alyx has told since the tables were made."""
        created, wanted = self.tables.created or 0.0, list(eids)
        found = {}
        for start in range(0, len(wanted), 500):  # SQLite before 3.32 takes 999 values
            some = wanted[start : start + 500]
            query = (
                "SELECT sessions.* FROM sessions JOIN listings ON key = 'session/' || eid"
                f" WHERE fetched_at >= ? AND eid IN ({', '.join('?' * len(some))})"
            )
            for session in map(as_session, self._rows(query, created, *some)):
                found[session.eid] = session
        return found

    def session(self, eid: str) -> Session | None:
        own = super().session(eid)
        if own is not None and (
            self._newer([eid]) or not self.is_from_tables(f"sessions/{own.lab}/{own.subject}")
        ):
            return own
        return self._told(eid) or own

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        found = {session.eid: session for session in super().sessions_by_ref(ref)}
        key = f"ref/{ref.date}_{ref.number}_{ref.subject}"
        if self.is_from_tables(key):
            told = {session.eid: session for session in self.tables.sessions_by_ref(ref)}
            for eid in self._newer(told):  # where it is now, ``found`` has it
                del told[eid]
            found |= told
        return sorted(found.values(), key=lambda session: (session.lab, session.eid))

    def found_where(
        self, condition: str, values: Iterable[object], having: Having = ()
    ) -> list[tuple[str, int, str]]:
        """As in :class:`Database`. The tables know no dataset types: see ``tables_names``."""
        values = list(values)
        own = super().found_where(condition, values, having)
        created = self.tables.created
        if created is None:
            return own
        known = {eid for _, _, eid in own}
        if having:  # what Alyx listed since is known, also that it lacks them
            known |= self._listed_since("datasets/", created)
        rows: Sequence[Set[int]] = ()
        if having:
            rows = rows_having(having, self.tables.paths(), self._rows, self._patterns())
        told = self.tables.found_where(condition, values, rows)
        found = own + [line for line in told if line[2] not in known]
        return sorted(found, key=lambda line: line[:2], reverse=True)

    def _told(self, eid: str) -> Session | None:
        """A session as the tables have it; None where Alyx has listed its subject since."""
        told = self.tables.session(eid)
        if told is None or not self.is_from_tables(f"sessions/{told.lab}/{told.subject}"):
            return None
        return told

    def _listed_since(self, prefix: str, moment: float) -> set[str]:
        """What follows ``prefix``, which ends with a slash, in the keys of listings that Alyx has
        answered since then."""
        query = "SELECT substr(key, ?) FROM listings WHERE key > ? AND key < ? AND fetched_at >= ?"
        after = prefix.removesuffix("/") + "0"  # the character after the slash
        rows = self._rows(query, len(prefix) + 1, prefix, after, moment)
        return {str(rest) for (rest,) in rows}

    def sessions_of(self, eids: Sequence[str]) -> list[Session]:
        found = {session.eid: session for session in super().sessions_of(eids)}
        if self.tables.version is not None:
            for eid in eids:
                told = None if eid in found else self.tables.session(eid)
                if told is not None:
                    found[eid] = told
        return [found[eid] for eid in eids if eid in found]

    def distinct(self, table: str, column: str) -> list[str]:
        told = self.tables.distinct(column) if table == "sessions" else []
        return sorted({*super().distinct(table, column), *told})

    def dataset_types(self) -> list[str]:
        """As in :class:`Database`, and those that the names of the tables' files likely mean."""
        names = {split_path(path).name for _, path in self.tables.paths()}
        return sorted({*super().dataset_types(), *self.likely_types(names).values()})

    def datasets(self, eid: str) -> list[DatasetRow]:
        own = super().datasets(eid)
        if not self.is_from_tables(f"datasets/{eid}"):
            return own
        told = self._with_sizes(self.tables.datasets(eid))
        return _overlaid(own, told, self.tables.said())

    def likely_types(self, names: Iterable[str]) -> dict[str, str]:
        return likely_types(names, self._rows, self._patterns())

    def _patterns(self) -> TypePatterns:
        """Alyx's patterns for file names, as they were listed last; none when they never were."""
        kept = self.answer(TYPES_KEY)
        return type_patterns.read(kept[0] if kept is not None else "")

    def mark_bare_subjects(self, lab: str) -> None:
        """Take the tables' word that a lab's subjects which they do not name have no session.

        Only for subjects that were listed with the tables: a later one may have sessions. The
        tables of a release tag give no such word.
        """
        created = self.tables.created
        if created is None or created <= _ALWAYS_STALE:
            return
        for subject in super().subjects(lab):
            key = f"sessions/{lab}/{subject}"
            own = super().fetched_at(key)
            if not self.tables.has_subject(lab, subject) and (own is None or own < created):
                self.add_sessions(key, (), created)

    def unlisted_subjects(self, lab: str) -> list[str]:
        found = super().unlisted_subjects(lab)
        return [name for name in found if not self.tables.has_subject(lab, name)]

    def unlisted(self, session: Session, most: int, since: float, all_subjects: bool) -> list[str]:
        found = super().unlisted(session, most, since, all_subjects)
        created = self.tables.created
        if created is None or created < since:
            return found
        found = [eid for eid in found if eid == session.eid or not self.tables.has_datasets(eid)]
        for eid in self.tables.bare_sessions(session, most, all_subjects):
            own = super().fetched_at(f"datasets/{eid}")
            if eid not in found and (own is None or own < since):
                found.append(eid)
        return found[:most]

    def store_datasets_of(self, found: Mapping[str, Sequence[DatasetRow]], now: float) -> None:
        super().store_datasets_of(found, now)
        unknown = [
            row.dataset for rows in found.values() for row in rows if row.dataset.size is None
        ]
        for dataset_id, size in self._probed(unknown).items():
            self.store_probed(dataset_id, size)

    def _covers(self, key: str) -> bool:
        """Whether the tables can answer for a listing."""
        kind, _, rest = key.partition("/")
        if kind == "datasets":
            return self.tables.has_datasets(rest)
        if kind == "session":
            return self.tables.session(rest) is not None
        if kind == "sessions":
            return any(self.tables.has_subject(*pair) for pair in _splits(rest))
        if kind == "ref":
            ref = alf.parse_ref(rest)
            return ref is not None and bool(self.tables.sessions_by_ref(ref))
        return kind == "news" and self.tables.has_lab(rest)

    def _covers_in_part(self, key: str) -> bool:
        kind, _, rest = key.partition("/")
        return kind in ("labs", "repositories") or (
            kind == "subjects" and self.tables.has_lab(rest)
        )

    def _with_sizes(self, rows: list[DatasetRow]) -> list[DatasetRow]:
        """The rows, with the sizes that file servers have told meanwhile."""
        probed = self._probed([row.dataset for row in rows if row.dataset.size is None])
        return [
            replace(row, dataset=replace(row.dataset, size=probed[row.dataset.id]))
            if row.dataset.size is None and row.dataset.id in probed
            else row
            for row in rows
        ]

    def _probed(self, datasets: Sequence[Dataset]) -> dict[str, int]:
        """Sizes that were told of these very bytes, by all that is known of their hashes."""
        known = {dataset.id: dataset.md5 for dataset in datasets}
        ids, found = list(known), {}
        for start in range(0, len(ids), 500):  # SQLite before 3.32 takes 999 values
            some = ids[start : start + 500]
            marks = ", ".join("?" * len(some))
            query = f"SELECT id, md5, size FROM probed_sizes WHERE id IN ({marks})"
            for id_, md5, size in self._rows(query, *some):
                if md5 in ("", known[id_]):
                    found[str(id_)] = int(size)
        return found


def _overlaid(own: list[DatasetRow], told: list[DatasetRow], said: Set[str]) -> list[DatasetRow]:
    """What newer tables say, in the fuller words of the catalogue where both mean the same."""
    known = {(row.dataset.id, _place(row)): row for row in own}
    found: dict[tuple[str, _Place], DatasetRow] = {}
    for row in told:
        key = (row.dataset.id, _place(row))
        fuller = known.get(key)
        confirmed = fuller is not None and _confirms(row, fuller)
        found[key] = _told_of(row, fuller, said) if fuller is not None and confirmed else row
    taken = {place for _, place in found}
    found.update((key, row) for key, row in known.items() if key[1] not in taken)
    return sorted(found.values(), key=lambda row: (*_place(row), row.dataset.id))


def _told_of(told: DatasetRow, own: DatasetRow, said: Set[str]) -> DatasetRow:
    """The catalogue's row with what newer tables say of it: flag and QC change while bytes do not,
    and by the flag of an older day a revision would be loaded that is the default no more.

    What the tables do not say (``said``) stays: older ones would make each revision the default.
    """
    newer = own.dataset
    if "default_revision" in said:
        newer = replace(newer, default=told.dataset.default)
    if "qc" in said:
        newer = replace(newer, qc=told.dataset.qc)
    return own if newer == own.dataset else replace(own, dataset=newer)


def _confirms(told: DatasetRow, own: DatasetRow) -> bool:
    """Whether the tables say nothing else of the bytes than the catalogue."""
    return told.dataset.size in (None, own.dataset.size) and told.dataset.md5 in (
        "",
        own.dataset.md5,
    )


def _place(row: DatasetRow) -> _Place:
    return (row.dataset.collection, row.dataset.revision, row.dataset.name)


def _order(session: Session) -> tuple[str, int, str]:
    """As SQLite orders them; not by start, which the tables do not know: which of two sessions
    has the plain ``001`` must not depend on who was asked last."""
    return (session.date, session.number, session.eid)


def _splits(rest: str) -> list[tuple[str, str]]:
    """The ways to read ``<lab>/<subject>``: a name may hold a slash."""
    parts = rest.split("/")
    return [("/".join(parts[:i]), "/".join(parts[i:])) for i in range(1, len(parts))]

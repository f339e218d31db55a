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
from onefs.alyx.parsing import DatasetRow
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader, split_path
from onefs.catalogue.storage import type_patterns
from onefs.catalogue.storage.database import DATASET_TYPES_KEY, CatalogueDatabase, DatasetConditions
from onefs.catalogue.storage.row_codecs import decode_session
from onefs.catalogue.storage.type_guess import guess_types, path_rows_having
from onefs.catalogue.storage.type_patterns import TypePatterns
from onefs.model import Dataset, Session

#: the age of what the tables know in part only: it is served, and asked for behind
_STALE_TIMESTAMP = 1.0

#: collection, revision and name of a dataset: one place below its session
_DatasetPath = tuple[str, str, str]


class OverlayDatabase(CatalogueDatabase):
    """A catalogue at ``path``, over the cache tables beside it (if there are any).

    Everything that the tables can answer is answered as :class:`Database` would, with the time
    at which the tables were made as its age. Labs, subjects and repositories, which the tables
    know in part or not at all, are always stale until Alyx has listed them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.tables = TablesReader(path.with_name(TABLES_FILE_NAME))

    def close(self) -> None:
        super().close()
        self.tables.close()

    def is_empty(self) -> bool:
        return super().is_empty() and self.tables.version is None

    def tables_version(self) -> object:
        return self.tables.version

    def is_empty_in_tables(self, eid: str) -> bool:
        return self.tables.session(eid) is not None and not self.tables.has_datasets(eid)

    def tables_created_at(self) -> float:
        return self.tables.created_at or 0.0

    def is_from_tables(self, key: str) -> bool:
        created = self.tables.created_at
        if created is None:
            return False
        own = super().fetched_at(key)
        if own == created:  # a subject without sessions: see mark_subjects_without_sessions
            return key.startswith("sessions/")
        return (own is None or own < created) and self._is_covered(key)

    def fetched_at(self, key: str) -> float | None:
        own = super().fetched_at(key)
        created = self.tables.created_at
        if created is None or (own is not None and own >= created):
            return own
        if self._is_covered(key):
            return created
        if own is None and self._is_covered_partly(key):
            return _STALE_TIMESTAMP
        return own

    def has_lab_in_tables(self, lab: str) -> bool:
        return self.tables.has_lab(lab)

    def labs(self) -> list[str]:
        created = self.tables.created_at
        if created is None or (super().fetched_at("labs") or 0.0) >= created:
            return super().labs()
        return sorted({*super().labs(), *self.tables.labs()})

    def subjects(self, lab: str) -> list[str]:
        told = set(self.tables.subjects(lab))
        # where Alyx has listed the sessions since, they name the subject or it has none
        told -= self._names_listed_since(f"sessions/{lab}/", self.tables.created_at or 0.0)
        return sorted({*super().subjects(lab), *told})

    def sessions(self, lab: str, subject: str) -> list[Session]:
        own = super().sessions(lab, subject)
        if not self.is_from_tables(f"sessions/{lab}/{subject}"):
            return own
        found = {session.eid: session for session in self.tables.sessions(lab, subject)}
        newer = self._sessions_newer_than_tables({*found, *(session.eid for session in own)})
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
        return sorted(found.values(), key=_session_sort_key)

    def _sessions_newer_than_tables(self, eids: Iterable[str]) -> dict[str, Session]:
        """Those of some sessions that Alyx has told since the tables were made."""
        created, wanted = self.tables.created_at or 0.0, list(eids)
        found = {}
        for start in range(0, len(wanted), 500):  # SQLite before 3.32 takes 999 values
            some = wanted[start : start + 500]
            query = (
                "SELECT sessions.* FROM sessions JOIN listings ON key = 'session/' || eid"
                f" WHERE fetched_at >= ? AND eid IN ({', '.join('?' * len(some))})"
            )
            for session in map(decode_session, self._fetch_rows(query, created, *some)):
                found[session.eid] = session
        return found

    def session(self, eid: str) -> Session | None:
        own = super().session(eid)
        if own is not None and (
            self._sessions_newer_than_tables([eid])
            or not self.is_from_tables(f"sessions/{own.lab}/{own.subject}")
        ):
            return own
        return self._session_in_tables(eid) or own

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        found = {session.eid: session for session in super().sessions_by_ref(ref)}
        key = f"ref/{ref.date}_{ref.number}_{ref.subject}"
        if self.is_from_tables(key):
            told = {session.eid: session for session in self.tables.sessions_by_ref(ref)}
            for eid in self._sessions_newer_than_tables(told):  # where it is now, ``found`` has it
                del told[eid]
            found |= told
        return sorted(found.values(), key=lambda session: (session.lab, session.eid))

    def find_sessions(
        self, condition: str, values: Iterable[object], having: DatasetConditions = ()
    ) -> list[tuple[str, int, str]]:
        """As in :class:`Database`. The tables know no dataset types: see ``tables_names``."""
        values = list(values)
        own = super().find_sessions(condition, values, having)
        created = self.tables.created_at
        if created is None:
            return own
        known = {eid for _, _, eid in own}
        if having:  # what Alyx listed since is known, also that it lacks them
            known |= self._names_listed_since("datasets/", created)
        rows: Sequence[Set[int]] = ()
        if having:
            rows = path_rows_having(
                having, self.tables.paths(), self._fetch_rows, self._stored_type_patterns()
            )
        told = self.tables.find_sessions(condition, values, rows)
        found = own + [line for line in told if line[2] not in known]
        return sorted(found, key=lambda line: line[:2], reverse=True)

    def _session_in_tables(self, eid: str) -> Session | None:
        """A session as the tables have it; None where Alyx has listed its subject since."""
        told = self.tables.session(eid)
        if told is None or not self.is_from_tables(f"sessions/{told.lab}/{told.subject}"):
            return None
        return told

    def _names_listed_since(self, prefix: str, moment: float) -> set[str]:
        """What follows ``prefix``, which ends with a slash, in the keys of listings that Alyx has
        answered since then."""
        query = "SELECT substr(key, ?) FROM listings WHERE key > ? AND key < ? AND fetched_at >= ?"
        after = prefix.removesuffix("/") + "0"  # the character after the slash
        rows = self._fetch_rows(query, len(prefix) + 1, prefix, after, moment)
        return {str(rest) for (rest,) in rows}

    def sessions_by_eid(self, eids: Sequence[str]) -> list[Session]:
        found = {session.eid: session for session in super().sessions_by_eid(eids)}
        if self.tables.version is not None:
            for eid in eids:
                told = None if eid in found else self.tables.session(eid)
                if told is not None:
                    found[eid] = told
        return [found[eid] for eid in eids if eid in found]

    def distinct_values(self, table: str, column: str) -> list[str]:
        told = self.tables.distinct_values(column) if table == "sessions" else []
        return sorted({*super().distinct_values(table, column), *told})

    def dataset_types(self) -> list[str]:
        """As in :class:`Database`, and those that the names of the tables' files likely mean."""
        names = {split_path(path).name for _, path in self.tables.paths()}
        return sorted({*super().dataset_types(), *self.guess_types(names).values()})

    def datasets(self, eid: str) -> list[DatasetRow]:
        own = super().datasets(eid)
        if not self.is_from_tables(f"datasets/{eid}"):
            return own
        told = self._with_probed_sizes(self.tables.datasets(eid))
        return _merge_datasets(own, told, self.tables.stated_columns())

    def guess_types(self, names: Iterable[str]) -> dict[str, str]:
        return guess_types(names, self._fetch_rows, self._stored_type_patterns())

    def _stored_type_patterns(self) -> TypePatterns:
        """Alyx's patterns for file names, as they were listed last; none when they never were."""
        kept = self.stored_answer(DATASET_TYPES_KEY)
        return type_patterns.parse_type_patterns(kept[0] if kept is not None else "")

    def mark_subjects_without_sessions(self, lab: str) -> None:
        """Take the tables' word that a lab's subjects which they do not name have no session.

        Only for subjects that were listed with the tables: a later one may have sessions. The
        tables of a release tag give no such word.
        """
        created = self.tables.created_at
        if created is None or created <= _STALE_TIMESTAMP:
            return
        for subject in super().subjects(lab):
            key = f"sessions/{lab}/{subject}"
            own = super().fetched_at(key)
            if not self.tables.has_subject(lab, subject) and (own is None or own < created):
                self.add_sessions(key, (), created)

    def unlisted_subjects(self, lab: str) -> list[str]:
        found = super().unlisted_subjects(lab)
        return [name for name in found if not self.tables.has_subject(lab, name)]

    def unlisted_neighbours(
        self, session: Session, most: int, since: float, all_subjects: bool
    ) -> list[str]:
        found = super().unlisted_neighbours(session, most, since, all_subjects)
        created = self.tables.created_at
        if created is None or created < since:
            return found
        found = [eid for eid in found if eid == session.eid or not self.tables.has_datasets(eid)]
        for eid in self.tables.sessions_without_datasets(session, most, all_subjects):
            own = super().fetched_at(f"datasets/{eid}")
            if eid not in found and (own is None or own < since):
                found.append(eid)
        return found[:most]

    def store_datasets_by_eid(self, found: Mapping[str, Sequence[DatasetRow]], now: float) -> None:
        super().store_datasets_by_eid(found, now)
        unknown = [
            row.dataset for rows in found.values() for row in rows if row.dataset.size is None
        ]
        for dataset_id, size in self._probed_sizes(unknown).items():
            self.store_probed_size(dataset_id, size)

    def _is_covered(self, key: str) -> bool:
        """Whether the tables can answer for a listing."""
        kind, _, rest = key.partition("/")
        if kind == "datasets":
            return self.tables.has_datasets(rest)
        if kind == "session":
            return self.tables.session(rest) is not None
        if kind == "sessions":
            return any(self.tables.has_subject(*pair) for pair in _lab_subject_splits(rest))
        if kind == "ref":
            ref = alf.parse_ref(rest)
            return ref is not None and bool(self.tables.sessions_by_ref(ref))
        return kind == "news" and self.tables.has_lab(rest)

    def _is_covered_partly(self, key: str) -> bool:
        kind, _, rest = key.partition("/")
        return kind in ("labs", "repositories") or (
            kind == "subjects" and self.tables.has_lab(rest)
        )

    def _with_probed_sizes(self, rows: list[DatasetRow]) -> list[DatasetRow]:
        """The rows, with the sizes that file servers have told meanwhile."""
        probed = self._probed_sizes([row.dataset for row in rows if row.dataset.size is None])
        return [
            replace(row, dataset=replace(row.dataset, size=probed[row.dataset.id]))
            if row.dataset.size is None and row.dataset.id in probed
            else row
            for row in rows
        ]

    def _probed_sizes(self, datasets: Sequence[Dataset]) -> dict[str, int]:
        """Sizes that were told of these very bytes, by all that is known of their hashes."""
        known = {dataset.id: dataset.md5 for dataset in datasets}
        ids, found = list(known), {}
        for start in range(0, len(ids), 500):  # SQLite before 3.32 takes 999 values
            some = ids[start : start + 500]
            marks = ", ".join("?" * len(some))
            query = f"SELECT id, md5, size FROM probed_sizes WHERE id IN ({marks})"
            for id_, md5, size in self._fetch_rows(query, *some):
                if md5 in ("", known[id_]):
                    found[str(id_)] = int(size)
        return found


def _merge_datasets(
    own: list[DatasetRow], told: list[DatasetRow], stated_columns: Set[str]
) -> list[DatasetRow]:
    """What newer tables say, in the fuller words of the catalogue where both mean the same."""
    known = {(row.dataset.id, _dataset_path(row)): row for row in own}
    found: dict[tuple[str, _DatasetPath], DatasetRow] = {}
    for row in told:
        key = (row.dataset.id, _dataset_path(row))
        fuller = known.get(key)
        confirmed = fuller is not None and _has_same_bytes(row, fuller)
        found[key] = (
            _with_flags_of_tables(row, fuller, stated_columns)
            if fuller is not None and confirmed
            else row
        )
    taken = {place for _, place in found}
    found.update((key, row) for key, row in known.items() if key[1] not in taken)
    return sorted(found.values(), key=lambda row: (*_dataset_path(row), row.dataset.id))


def _with_flags_of_tables(
    told: DatasetRow, own: DatasetRow, stated_columns: Set[str]
) -> DatasetRow:
    """The catalogue's row with what newer tables say of it: flag and QC change while bytes do not,
    and by the flag of an older day a revision would be loaded that is the default no more.

    What the tables do not say (``said``) stays: older ones would make each revision the default.
    """
    newer = own.dataset
    if "default_revision" in stated_columns:
        newer = replace(newer, default=told.dataset.default)
    if "qc" in stated_columns:
        newer = replace(newer, qc=told.dataset.qc)
    return own if newer == own.dataset else replace(own, dataset=newer)


def _has_same_bytes(told: DatasetRow, own: DatasetRow) -> bool:
    """Whether the tables say nothing else of the bytes than the catalogue."""
    return told.dataset.size in (None, own.dataset.size) and told.dataset.md5 in (
        "",
        own.dataset.md5,
    )


def _dataset_path(row: DatasetRow) -> _DatasetPath:
    return (row.dataset.collection, row.dataset.revision, row.dataset.name)


def _session_sort_key(session: Session) -> tuple[str, int, str]:
    """As SQLite orders them; not by start, which the tables do not know: which of two sessions
    has the plain ``001`` must not depend on who was asked last."""
    return (session.date, session.number, session.eid)


def _lab_subject_splits(rest: str) -> list[tuple[str, str]]:
    """The ways to read ``<lab>/<subject>``: a name may hold a slash."""
    parts = rest.split("/")
    return [("/".join(parts[:i]), "/".join(parts[i:])) for i in range(1, len(parts))]

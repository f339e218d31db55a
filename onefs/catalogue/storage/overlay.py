"""The catalogue's tables together with ONE's cache tables.

A listing is read from the newer of two sources: the last answer of Alyx (the catalogue), or the
cache tables. If the tables are newer, rows that only the catalogue has are still included, because
the tables lack two kinds of rows. The first kind is sessions that have begun since the tables were
made. The second kind is datasets on repositories whose name does not begin with ``flatiron`` or
``aws``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from pathlib import Path

from onefs import alf
from onefs.alyx.parsing import DatasetRow
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader, split_path
from onefs.catalogue.storage import type_patterns
from onefs.catalogue.storage.catalogue_file import DATASET_TYPES_KEY
from onefs.catalogue.storage.database import (
    CatalogueDatabase,
    DatasetConditions,
)
from onefs.catalogue.storage.row_codecs import decode_session
from onefs.catalogue.storage.type_guess import guess_types, path_rows_having
from onefs.catalogue.storage.type_patterns import TypePatterns
from onefs.model import Dataset, Repository, Session

#: the time of listings that the tables contain only in part: such a listing is served, and is
#: refreshed in the background
_STALE_TIMESTAMP = 1.0
#: datasets of the tables whose sizes are looked up at once
_PAGE_DATASETS = 10_000

#: collection, revision and name of a dataset: the parts of its path below its session
_DatasetPath = tuple[str, str, str]


class OverlayDatabase(CatalogueDatabase):
    """A catalogue at ``path``, read together with the cache tables in the same folder.

    A listing from the tables has the form of a listing from Alyx, requested at the time when the
    tables were made. The listings of labs, subjects and repositories are stale until Alyx has
    answered. Without cache tables, this class does the same as :class:`CatalogueDatabase`.

    ``lab_repositories``, if given, returns the repositories of a lab, which nothing lists.
    """

    def __init__(
        self, path: Path, lab_repositories: Callable[[str], list[Repository]] | None = None
    ) -> None:
        super().__init__(path)
        self.tables = TablesReader(path.with_name(TABLES_FILE_NAME))
        self._lab_repositories = lab_repositories

    def close(self) -> None:
        super().close()
        self.tables.close()

    def is_empty(self) -> bool:
        return super().is_empty() and self.tables.version is None

    def tables_version(self) -> object:
        return self.tables.version

    def is_empty_in_tables(self, eid: str) -> bool:
        # asked first, because the datasets may be published during this call
        return (
            not self.tables.lacks_datasets
            and self.tables.session(eid) is not None
            and not self.tables.has_datasets(eid)
        )

    def tables_created_at(self) -> float:
        return self.tables.created_at or 0.0

    def is_from_tables(self, key: str) -> bool:
        created = self.tables.created_at
        if created is None:
            return False
        own = super().fetched_at(key)
        if own == created:  # see mark_subjects_without_sessions
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

    def has_complete_tables(self) -> bool:
        return self.tables.version is not None and not self.tables.lacks_datasets

    def has_lab_in_tables(self, lab: str) -> bool:
        return self.tables.has_lab(lab)

    def repositories(self) -> dict[str, Repository]:
        stored = super().repositories()
        if self._lab_repositories is None:
            return stored
        of_labs = (each for lab in self.tables.labs() for each in self._lab_repositories(lab))
        return {**stored, **{each.name: each for each in of_labs}}

    def labs(self) -> list[str]:
        created = self.tables.created_at
        if created is None or (super().fetched_at("labs") or 0.0) >= created:
            return super().labs()
        return sorted({*super().labs(), *self.tables.labs()})

    def subjects(self, lab: str) -> list[str]:
        in_tables = set(self.tables.subjects(lab))
        # if Alyx has listed a subject's sessions since, the tables are not used for the subject
        in_tables -= self._names_listed_since(f"sessions/{lab}/", self.tables.created_at or 0.0)
        return sorted({*super().subjects(lab), *in_tables})

    def sessions(self, lab: str, subject: str) -> list[Session]:
        own = super().sessions(lab, subject)
        if not self.is_from_tables(f"sessions/{lab}/{subject}"):
            return own
        sessions = {session.eid: session for session in self.tables.sessions(lab, subject)}
        newer = self._sessions_newer_than_tables({*sessions, *(session.eid for session in own)})
        for session in own:
            in_tables = sessions.get(session.eid)
            # a session that the tables have in another folder was renamed; a session that is not in
            # the tables has begun since the tables were made
            if in_tables == replace(session, start_time=0.0) or (
                in_tables is None and self.tables.session(session.eid) is None
            ):
                sessions[session.eid] = session
        for eid, session in newer.items():
            sessions.pop(eid, None)
            if session.number >= 0 and (session.lab, session.subject) == (lab, subject):
                sessions[eid] = session
        return sorted(sessions.values(), key=_session_sort_key)

    def _sessions_newer_than_tables(self, eids: Iterable[str]) -> dict[str, Session]:
        """Return the sessions among ``eids`` that are newer than the tables, by eid.

        A session is newer if Alyx has sent it since the tables were made.
        """
        query = (
            "SELECT sessions.* FROM json_each(?) AS wanted JOIN sessions ON eid = wanted.value"
            " JOIN listings ON listings.key = 'session/' || eid WHERE fetched_at >= ?"
        )
        rows = self._fetch_rows(query, json.dumps(list(eids)), self.tables_created_at())
        return {session.eid: session for session in map(decode_session, rows)}

    def session(self, eid: str) -> Session | None:
        own = super().session(eid)
        if own is not None and (
            self._sessions_newer_than_tables([eid])
            or not self.is_from_tables(f"sessions/{own.lab}/{own.subject}")
        ):
            return own
        return self._session_in_tables(eid) or own

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        sessions = {session.eid: session for session in super().sessions_by_ref(ref)}
        key = f"ref/{ref.date}_{ref.number}_{ref.subject}"
        if self.is_from_tables(key):
            in_tables = {session.eid: session for session in self.tables.sessions_by_ref(ref)}
            for eid in self._sessions_newer_than_tables(in_tables):  # ``sessions`` has newer rows
                del in_tables[eid]
            sessions |= in_tables
        return sorted(sessions.values(), key=lambda session: (session.lab, session.eid))

    def find_sessions(
        self, condition: str, values: Iterable[object], having: DatasetConditions = ()
    ) -> list[tuple[str, int, str]]:
        """Find sessions as the base class does, in the catalogue and in the tables.

        The tables have no dataset types, so the types are guessed: see ``type_guess``.
        """
        values = list(values)
        own = super().find_sessions(condition, values, having)
        created = self.tables.created_at
        if created is None:
            return own
        known = {eid for _, _, eid in own}
        path_rows: Sequence[Set[int]] = ()
        if having:
            # Alyx's newer listings of datasets decide, even if the wanted datasets are not in them
            known |= self._names_listed_since("datasets/", created)
            path_rows = path_rows_having(
                having, self.tables.paths(), self._fetch_rows, self._stored_type_patterns()
            )
        in_tables = self.tables.find_sessions(condition, values, path_rows)
        sessions = own + [line for line in in_tables if line[2] not in known]
        return sorted(sessions, key=lambda line: line[:2], reverse=True)

    def _session_in_tables(self, eid: str) -> Session | None:
        """Return a session from the tables.

        Return None if the tables lack the session, or if they are older than Alyx's list of the
        subject's sessions.
        """
        session = self.tables.session(eid)
        if session is None or not self.is_from_tables(f"sessions/{session.lab}/{session.subject}"):
            return None
        return session

    def _names_listed_since(self, prefix: str, moment: float) -> set[str]:
        """Return each NAME for which the listing ``prefix + NAME`` was requested since ``moment``.

        ``prefix`` ends with a slash. For ``datasets/``, the names are eids.
        """
        query = "SELECT substr(key, ?) FROM listings WHERE key > ? AND key < ? AND fetched_at >= ?"
        after = prefix.removesuffix("/") + "0"  # the character after the slash
        rows = self._fetch_rows(query, len(prefix) + 1, prefix, after, moment)
        return {str(rest) for (rest,) in rows}

    def sessions_by_eid(self, eids: Sequence[str]) -> list[Session]:
        own = {session.eid: session for session in super().sessions_by_eid(eids)}
        sessions = (own.get(eid) or self.tables.session(eid) for eid in eids)
        return [session for session in sessions if session is not None]

    def distinct_values(self, table: str, column: str) -> list[str]:
        in_tables = self.tables.distinct_values(column) if table == "sessions" else []
        return sorted({*super().distinct_values(table, column), *in_tables})

    def dataset_types(self) -> list[str]:
        """Return the types of all stored datasets, and the likely types of files in the tables."""
        names = {split_path(path).name for _, path in self.tables.paths()}
        return sorted({*super().dataset_types(), *self.guess_types(names).values()})

    def datasets(self, eid: str) -> list[DatasetRow]:
        own = super().datasets(eid)
        if not self.is_from_tables(f"datasets/{eid}"):
            return own
        in_tables = self._with_probed_sizes(self.tables.datasets(eid))
        return _merge_datasets(own, in_tables, self.tables.stated_columns())

    def datasets_of_tables_only(
        self, is_wanted: Callable[[str], bool], others: Set[str]
    ) -> Iterator[Dataset]:
        """Yield the datasets whose path is wanted, of all sessions that only the tables have.

        The order is that of eid and id. ``others`` are the sessions that Alyx has listed.
        """
        of_tables = (each for each in self.tables.all_datasets(is_wanted) if each.eid not in others)
        while page := list(islice(of_tables, _PAGE_DATASETS)):
            probed = self._probed_sizes([each for each in page if each.size is None])
            for each in page:
                yield replace(each, size=probed[each.id]) if each.id in probed else each

    def eids_listed_by_alyx(self) -> set[str]:
        """Return the eids of the sessions of which Alyx has listed the datasets."""
        listed = self._names_listed_since("datasets/", 0.0)
        return {*super().distinct_values("datasets", "eid"), *listed} - {""}

    def session_of_dataset(self, dataset_id: str) -> str | None:
        own = super().session_of_dataset(dataset_id)
        return own or self.tables.session_of_dataset(dataset_id)

    def guess_types(self, names: Iterable[str]) -> dict[str, str]:
        return guess_types(names, self._fetch_rows, self._stored_type_patterns())

    def _stored_type_patterns(self) -> TypePatterns:
        """Return Alyx's patterns for file names, from the stored list of dataset types.

        If this list is not stored, return patterns that match no name.
        """
        body, _ = self.stored_answer(DATASET_TYPES_KEY) or ("", 0.0)
        return type_patterns.parse_type_patterns(body)

    def mark_subjects_without_sessions(self, lab: str) -> None:
        """Store an empty list of sessions for those subjects of a lab that are not in the tables.

        Call this right after the tables are loaded and the subjects are listed. Does nothing if the
        tables have only the datasets of a release, because these do not contain all sessions.
        """
        # the tables of a release tag do not contain all sessions, and a subject that was added
        # after the tables were loaded may have sessions
        created = self.tables.created_at
        if created is None or created <= _STALE_TIMESTAMP:
            return
        for subject in super().subjects(lab):
            key = f"sessions/{lab}/{subject}"
            own = super().fetched_at(key)
            if not self.tables.has_subject(lab, subject) and (own is None or own < created):
                self.add_sessions(key, (), created)

    def unlisted_subjects(self, lab: str) -> list[str]:
        names = super().unlisted_subjects(lab)
        return [name for name in names if not self.tables.has_subject(lab, name)]

    def unlisted_neighbours(
        self, session: Session, most: int, since: float, all_subjects: bool
    ) -> list[str]:
        eids = super().unlisted_neighbours(session, most, since, all_subjects)
        created = self.tables.created_at
        if created is None or created < since:
            return eids
        eids = [eid for eid in eids if eid == session.eid or not self.tables.has_datasets(eid)]
        for eid in self.tables.sessions_without_datasets(session, most, all_subjects):
            own = super().fetched_at(f"datasets/{eid}")
            if eid not in eids and (own is None or own < since):
                eids.append(eid)
        return eids[:most]

    def store_datasets_by_eid(
        self, rows_by_eid: Mapping[str, Sequence[DatasetRow]], now: float
    ) -> None:
        super().store_datasets_by_eid(rows_by_eid, now)
        unknown = [
            row.dataset for rows in rows_by_eid.values() for row in rows if row.dataset.size is None
        ]
        for dataset_id, size in self._probed_sizes(unknown).items():
            self.store_probed_size(dataset_id, size)

    def _is_covered(self, key: str) -> bool:
        """Whether the tables contain the listing ``key``."""
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
        """Return the rows. Where the tables have no size, use the size that a file server gave."""
        probed = self._probed_sizes([row.dataset for row in rows if row.dataset.size is None])
        return [
            replace(row, dataset=replace(row.dataset, size=probed[row.dataset.id]))
            if row.dataset.id in probed
            else row
            for row in rows
        ]

    def _probed_sizes(self, datasets: Sequence[Dataset]) -> dict[str, int]:
        """Return the sizes in bytes that file servers gave, by dataset id."""
        md5_by_id = {dataset.id: dataset.md5 for dataset in datasets}
        query = (
            "SELECT probed_sizes.* FROM json_each(?) AS wanted"
            " JOIN probed_sizes ON probed_sizes.id = wanted.value"
        )
        rows = self._fetch_rows(query, json.dumps(list(md5_by_id)))
        # a size that was stored with another hash is left out
        return {str(id_): int(size) for id_, md5, size in rows if md5 in ("", md5_by_id[id_])}


def _merge_datasets(
    own: list[DatasetRow], in_tables: list[DatasetRow], stated_columns: Set[str]
) -> list[DatasetRow]:
    """Return the catalogue's rows ``own`` and the rows of newer tables ``in_tables``, merged."""
    own_by_key = {(row.dataset.id, _dataset_path(row)): row for row in own}
    merged: dict[tuple[str, _DatasetPath], DatasetRow] = {}
    for row in in_tables:
        key = (row.dataset.id, _dataset_path(row))
        fuller = own_by_key.get(key)
        # if both rows describe the same content, the catalogue's row has more values
        if fuller is not None and _has_same_bytes(row, fuller):
            merged[key] = _with_flags_of_tables(row, fuller, stated_columns)
        else:
            merged[key] = row
    # a row that only the catalogue has stays if the tables have no dataset at its path
    paths = {path for _, path in merged}
    merged.update((key, row) for key, row in own_by_key.items() if key[1] not in paths)
    return sorted(merged.values(), key=lambda row: (*_dataset_path(row), row.dataset.id))


def _with_flags_of_tables(
    in_tables: DatasetRow, own: DatasetRow, stated_columns: Set[str]
) -> DatasetRow:
    """Return the catalogue's row (``own``) with the default flag and the QC from the tables.

    ``stated_columns`` are the columns that the tables have.
    """
    # the tables are newer: an outdated flag would select a revision that is no longer the default;
    # in tables without a column for the flag, each revision would be the default
    newer = own.dataset
    if "default_revision" in stated_columns:
        newer = replace(newer, default=in_tables.dataset.default)
    if "qc" in stated_columns:
        newer = replace(newer, qc=in_tables.dataset.qc)
    return own if newer == own.dataset else replace(own, dataset=newer)


def _has_same_bytes(in_tables: DatasetRow, own: DatasetRow) -> bool:
    """Whether size and hash in the tables are the same as in the catalogue.

    A size or hash that the tables lack is not compared.
    """
    return in_tables.dataset.size in (None, own.dataset.size) and in_tables.dataset.md5 in (
        "",
        own.dataset.md5,
    )


def _dataset_path(row: DatasetRow) -> _DatasetPath:
    return (row.dataset.collection, row.dataset.revision, row.dataset.name)


def _session_sort_key(session: Session) -> tuple[str, int, str]:
    """Return the key that sorts sessions as SQLite does: by date, number and eid."""
    # Of two sessions with the same folder, only the first gets the plain name ``001``, so the order
    # must be the same for Alyx and for the tables. The tables lack the start time.
    return (session.date, session.number, session.eid)


def _lab_subject_splits(rest: str) -> list[tuple[str, str]]:
    """Return all ways to split ``<lab>/<subject>`` into a lab and a subject.

    There are several ways, because a name may contain a slash.
    """
    parts = rest.split("/")
    return [("/".join(parts[:i]), "/".join(parts[i:])) for i in range(1, len(parts))]

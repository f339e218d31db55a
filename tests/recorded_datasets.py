"""The dataset rows of the recordings, and those that no recording holds.

1005 of the 1022 rows stand in the recordings. The others are known to exist, and this is what
they are made of (``_absent``):

- their sessions and names: sessions of one kind in the manifest have the same files, so what most
  sessions of a kind have and one lacks was only never recorded; session details name three more;
- their UUIDs: a session's detail or an insertion's list of datasets, else one made from the path;
- all else: a row of the same name in another session for the size, and a row of the same
  collection in the same session for the rest (when, version, tags, repositories);
- who made them, their qc and their tag: the ``count`` of three recorded searches over all rows says
  how many of them must be found (``_fitted``).
"""

from __future__ import annotations

import functools
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from onefs.demo.records import DatasetRecord, FileRecord
from tests.recordings import bodies, body, manifest, results

#: collection, revision, name
Place = tuple[str, str, str]

#: the tag that ``datasets/tag`` asks for
_TAG = "2022_Q2_IBL_et_al_RepeatedSite"
_GROUPS = ("datasets", "dataset_detail", "http", "other")


@functools.cache
def recorded_rows() -> Mapping[str, Mapping[str, Any]]:
    """Return every recorded row of ``/datasets`` by UUID, preferably that of a list."""
    rows: dict[str, Mapping[str, Any]] = {}
    for group in _GROUPS:
        for _, found in bodies(group):
            for row in found.get("results", [found]):
                if isinstance(row, dict) and "file_records" in row:
                    key = row["url"][-36:]
                    if key not in rows or "public" in row:
                        rows[key] = row
    return rows


@functools.cache
def dataset_records() -> Mapping[str, DatasetRecord]:
    """All 1022 datasets by UUID."""
    found = {key: _record(row) for key, row in recorded_rows().items()}
    found.update({record.id: record for record in _fitted(found, list(_absent(found)))})
    return found


def _fitted(
    known: Mapping[str, DatasetRecord], made: list[DatasetRecord]
) -> Iterator[DatasetRecord]:
    """Return the synthetic rows, as many of olivier, of a good qc and of a tag as counted."""
    rows = known.values()
    detailed = {row["id"] for row in _details().values()}
    made.sort(key=lambda record: record.id not in detailed)
    by_olivier = _count("datasets/created_by") - sum(r.created_by == "olivier" for r in rows)
    passed = _count("sessions/dataset_qc_lte_alone")
    passed -= sum(r.qc in ("PASS", "NOT_SET") and r.eid is not None for r in rows)
    tagged = _count("datasets/tag") - sum(_TAG in r.tags for r in rows)
    for place, record in enumerate(made):
        fitted = replace(
            record,
            created_by="olivier" if place < by_olivier else "root",
            qc=record.qc if place < passed else "WARNING",
        )
        if _TAG in record.tags:
            tagged -= 1
            if tagged < 0:
                fitted = replace(fitted, tags=(), public=0, protected=0)
        yield fitted


def _count(search: str) -> int:
    return int(body(f"{search}.json")["count"])


def _record(row: Mapping[str, Any]) -> DatasetRecord:
    copies = tuple(
        FileRecord(r["id"], r["data_repository"], r["relative_path"], r["exists"])
        for r in row["file_records"]
    )
    same = (
        *("name", "dataset_type", "collection", "revision", "default_dataset", "file_size"),
        *("hash", "created_by", "created_datetime", "auto_datetime", "data_format", "version"),
        *("experiment_number", "qc", "json"),
    )
    return DatasetRecord(
        id=row["url"][-36:],
        eid=row["session"][-36:] if row["session"] else None,
        protected=row.get("protected", 0),
        public=row.get("public", 0),
        tags=tuple(row["tags"]),
        file_records=copies,
        **{name: row[name] for name in same},
    )


def _absent(known: Mapping[str, DatasetRecord]) -> Iterator[DatasetRecord]:
    by_session: dict[str, dict[Place, DatasetRecord]] = defaultdict(dict)
    for record in known.values():
        if record.eid is not None:
            by_session[record.eid][_place(record)] = record
    ids = _unclaimed_ids(known)
    for eid, place in _absent_places(by_session):
        detail = _details().get((eid, place), {})
        probe = place[0].rpartition("/")[2]
        key = detail.get("id") or (ids[eid, probe].pop() if ids[eid, probe] else None)
        yield _made(known, by_session[eid], place, key, detail)


def _place(record: DatasetRecord) -> Place:
    return record.collection, record.revision, record.name


def _absent_places(
    by_session: Mapping[str, Mapping[Place, DatasetRecord]],
) -> Iterator[tuple[str, Place]]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for session in manifest()["sessions"]:
        kinds[session["kind"]].append(session["eid"])
    for eids in kinds.values():
        counts = Counter(place for eid in eids for place in by_session.get(eid, ()))
        usual = [place for place, times in counts.items() if 2 * times >= len(eids)]
        for eid in eids:
            named = [place for found, place in _details() if found == eid]
            places = dict.fromkeys([*usual, *named])
            yield from ((eid, place) for place in places if place not in by_session.get(eid, ()))


@functools.cache
def _details() -> Mapping[tuple[str, Place], Mapping[str, Any]]:
    """The datasets of session details by session and place."""
    names = {row["id"]: row["name"] for row in results("other/revisions.json")}
    return {
        (found["id"], (row["collection"], names.get(row["revision"], ""), row["name"])): row
        for group in ("session_detail", "sideeffect")
        for _, found in bodies(group)
        for row in found.get("data_dataset_session_related", ())
    }


def _unclaimed_ids(known: Mapping[str, DatasetRecord]) -> dict[tuple[str, str], list[str]]:
    """UUIDs that insertions name and no recording describes, by session and probe."""
    ids: dict[tuple[str, str], list[str]] = defaultdict(list)
    detailed = {row["id"] for row in _details().values()}
    for file, found in bodies("other"):
        if not file.startswith("other/insertions"):
            continue
        for row in found["results"]:
            slot = ids[row["session"], row["name"]]
            new = {key for key in row["datasets"] if key not in known and key not in detailed}
            slot.extend(sorted(new.difference(slot)))
    return ids


def _made(
    known: Mapping[str, DatasetRecord],
    siblings: Mapping[Place, DatasetRecord],
    place: Place,
    key: str | None,
    detail: Mapping[str, Any],
) -> DatasetRecord:
    collection, revision, name = place
    beside = next(r for p, r in siblings.items() if p[:2] == place[:2] and _is_ordinary(r))
    alike = next(r for r in known.values() if r.name == name and r.revision == revision)
    key = key or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{beside.eid}/{collection}/{name}"))
    return DatasetRecord(
        id=key,
        eid=beside.eid,
        name=name,
        dataset_type=alike.dataset_type,
        collection=collection,
        revision=revision,
        default_dataset=detail.get("default_revision", str(beside.default_dataset)) == "True",
        file_size=detail.get("file_size", alike.file_size),
        hash=detail.get("hash", "0" * 32),
        created_by=beside.created_by,
        created_datetime=beside.created_datetime,
        auto_datetime=beside.auto_datetime,
        data_format=alike.data_format,
        version=detail.get("version", beside.version),
        experiment_number=beside.experiment_number,
        protected=beside.protected,
        public=beside.public,
        tags=beside.tags,
        qc=detail.get("qc", "NOT_SET"),
        file_records=tuple(_copy(record, beside, key, name) for record in beside.file_records),
    )


def _is_ordinary(record: DatasetRecord) -> bool:
    return len(record.file_records) == 2 and bool(record.hash) and record.file_size is not None


def _copy(record: FileRecord, beside: DatasetRecord, key: str, name: str) -> FileRecord:
    path = record.relative_path.removesuffix(beside.name) + name
    made = str(uuid.uuid5(uuid.UUID(key), record.repository))
    return FileRecord(made, record.repository, path, record.exists)

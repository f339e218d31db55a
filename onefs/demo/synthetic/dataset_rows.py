"""The dataset rows for the files of a synthetic session."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from onefs.demo import alyx_rows
from onefs.demo.digests import md5_of
from onefs.demo.records import DatasetRecord
from onefs.demo.synthetic.plan import BEHAVIOUR_TAG, REPEATED_SITE_TAG, SessionKind, SessionPlan
from onefs.demo.synthetic.session_rows import QC, dataset_id, relative_path


def dataset_rows(
    plan: SessionPlan, eid: str, contents: Mapping[str, bytes]
) -> tuple[DatasetRecord, ...]:
    """Return a dataset row for each file of a session.

    ``contents`` has the bytes of each file, by path inside the session.
    """
    created = datetime.fromisoformat(plan.date) + timedelta(days=1, hours=2)
    return tuple(
        _dataset_row(plan, eid, path, content, created + timedelta(seconds=position))
        for position, (path, content) in enumerate(contents.items())
    )


def _dataset_row(
    plan: SessionPlan, eid: str, path: str, content: bytes, created: datetime
) -> DatasetRecord:
    identity = dataset_id(plan, path)
    collection, revision, _ = alyx_rows.split_path(path)
    if revision:
        created = datetime.fromisoformat(revision) + timedelta(hours=12)
    tags = _tags(plan, collection, revision)
    return alyx_rows.dataset_record(
        identity,
        plan.lab,
        relative_path(plan, path),
        eid=eid,
        default_dataset=revision == _default_revision(plan, path),
        file_size=len(content),
        hash=md5_of(content),
        created_by=plan.users[0],
        created_datetime=created.isoformat(),
        auto_datetime=(created + timedelta(minutes=1)).isoformat(timespec="microseconds"),
        version="2.25.0" if revision else "2.12.1",
        experiment_number=plan.number,
        protected=int(bool(tags)),
        public=int(bool(tags)),
        tags=tags,
        qc=QC[int(identity[:2], 16) % len(QC)],
    )


def _default_revision(plan: SessionPlan, path: str) -> str:
    """Return the default revision of a file, or '' for a file without revisions.

    This is the newest revision. If ``plan.old_default`` is True, it is the oldest revision.
    """
    collection, _, name = alyx_rows.split_path(path)
    if not plan.revisions or collection != plan.sorting_folder(0):
        return ""
    if not name.startswith(("spikes.", "clusters.", "passingSpikes.")):
        return ""
    return plan.revisions[0] if plan.old_default else plan.revisions[-1]


def _tags(plan: SessionPlan, collection: str, revision: str) -> tuple[str, ...]:
    if plan.kind is SessionKind.BIASED and collection == "alf":
        return (BEHAVIOUR_TAG,)
    if plan.kind is SessionKind.EPHYS and collection.startswith("alf/") and not revision:
        return (REPEATED_SITE_TAG,)
    return ()

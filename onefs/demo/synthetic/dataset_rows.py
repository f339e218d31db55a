"""The files of a made session as Alyx's dataset rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from onefs import alf
from onefs.demo import alyx_rows
from onefs.demo.records import DatasetRecord
from onefs.demo.synthetic.plan import (
    BEHAVIOUR_TAG,
    REPEATED_SITE_TAG,
    SessionKind,
    SessionPlan,
)
from onefs.demo.synthetic.session_rows import QC, dataset_id, relative_path


def dataset_rows(
    plan: SessionPlan, eid: str, contents: Mapping[str, bytes]
) -> tuple[DatasetRecord, ...]:
    """The rows of a session whose files hold ``contents``, by path inside the session."""
    created = datetime.fromisoformat(plan.date) + timedelta(days=1, hours=2)
    return tuple(
        _dataset_row(plan, eid, path, content, created + timedelta(seconds=position))
        for position, (path, content) in enumerate(contents.items())
    )


def _dataset_row(
    plan: SessionPlan, eid: str, path: str, content: bytes, created: datetime
) -> DatasetRecord:
    identity = dataset_id(plan, path)
    collection, revision, name = alyx_rows.split_path(path)
    if revision:
        created = datetime.fromisoformat(revision) + timedelta(hours=12)
    tags = _tags(plan, collection, revision)
    return DatasetRecord(
        id=identity,
        eid=eid,
        name=name,
        dataset_type=alf.dataset_type(name),
        collection=collection,
        revision=revision,
        default_dataset=revision == _default_revision(plan, path),
        file_size=len(content),
        hash=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        created_by=plan.users[0],
        created_datetime=created.isoformat(),
        auto_datetime=(created + timedelta(minutes=1)).isoformat(timespec="microseconds"),
        data_format=alyx_rows.format_of(name),
        version="2.25.0" if revision else "2.12.1",
        experiment_number=plan.number,
        protected=int(bool(tags)),
        public=int(bool(tags)),
        tags=tags,
        qc=QC[int(identity[:2], 16) % len(QC)],
        file_records=alyx_rows.file_records_of(identity, plan.lab, relative_path(plan, path)),
    )


def _default_revision(plan: SessionPlan, path: str) -> str:
    """The revision that is the default among those of a file: the newest, or the one before."""
    collection, _, name = alyx_rows.split_path(path)
    if not plan.revisions or collection != plan.sorting_folder(0):
        return ""
    if not name.startswith(("spikes.", "clusters.")):
        return ""
    return plan.revisions[0] if plan.old_default else plan.revisions[-1]


def _tags(plan: SessionPlan, collection: str, revision: str) -> tuple[str, ...]:
    if plan.kind is SessionKind.BIASED and collection == "alf":
        return (BEHAVIOUR_TAG,)
    if plan.kind is SessionKind.EPHYS and collection.startswith("alf/") and not revision:
        return (REPEATED_SITE_TAG,)
    return ()

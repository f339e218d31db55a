"""The aggregates of the synthetic laboratory: one that Alyx knows, and one in the bucket alone."""

from __future__ import annotations

from collections.abc import Mapping

from onefs.demo import alyx_rows
from onefs.demo.digests import md5_of
from onefs.demo.records import DatasetRecord, FileRecord
from onefs.demo.synthetic import parquet
from onefs.demo.synthetic.plan import FLOWERS, REPEATED_SITE_TAG, TUTORIAL

#: the repository of aggregates on the file server, and its folder there
REPOSITORY = "flatiron_aggregates"
FOLDER = "/public/aggregates/"
#: the path of the aggregate that Alyx knows, without UUID
KNOWN_PATH = "Subjects/mainenlab/clns0730/_ibl_subjectSessions.table.csv"
#: the key of the aggregate that only the bucket has
BUCKET_KEY = f"aggregates/{REPEATED_SITE_TAG}/clusters.pqt"

_KNOWN_CONTENT = "".join(
    f"{line}\n"
    for line in (
        "subject,date,number",
        *(f"{plan.subject},{plan.date},{plan.number}" for plan in (TUTORIAL, FLOWERS)),
    )
).encode()


def known_aggregate() -> DatasetRecord:
    """Return the row of the aggregate that Alyx knows."""
    collection, _, name = KNOWN_PATH.rpartition("/")
    identity = alyx_rows.make_id("aggregate", KNOWN_PATH)
    return DatasetRecord(
        id=identity,
        eid=None,
        name=name,
        dataset_type="subjectSessions.table",
        collection=collection,
        file_size=len(_KNOWN_CONTENT),
        hash=md5_of(_KNOWN_CONTENT),
        created_by="root",
        created_datetime="2021-07-05T00:00:00",
        auto_datetime="2021-07-05T00:00:00",
        data_format="csv",
        file_records=(FileRecord(alyx_rows.make_id(identity, REPOSITORY), REPOSITORY, KNOWN_PATH),),
    )


def aggregate_file(path: str) -> bytes | None:
    """Return the file that the file server has at ``path``, if it is an aggregate."""
    served = FOLDER + alyx_rows.with_uuid(KNOWN_PATH, known_aggregate().id)
    return _KNOWN_CONTENT if path == served else None


def repository_row() -> alyx_rows.Row:
    """Return the row of ``/data-repository`` for the folder of aggregates on the file server."""
    return {
        "name": REPOSITORY,
        "timezone": "UTC",
        "globus_path": FOLDER,
        "hostname": "127.0.0.1",
        "data_url": "{data}" + FOLDER,
        "repository_type": "Fileserver",
        "globus_endpoint_id": None,
        "globus_is_personal": False,
        "json": None,
    }


def bucket_aggregates() -> Mapping[str, bytes]:
    """Return the objects that only the bucket has, by key. Without pyarrow there are none."""
    if not parquet.is_available():
        return {}
    clusters = parquet.table({"cluster_id": range(100), "label": [1.0, 0.5] * 50})
    return {BUCKET_KEY: clusters}

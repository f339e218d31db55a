"""A laboratory whose files are in a bucket and on a file server: which copy is read, and how."""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onefs.alyx.client import KEYS_REPOSITORY
from onefs.demo.alyx_rows import flatiron_repository, make_id, with_uuid
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import DatasetRecord, FileRecord, Source
from onefs.demo.servers import Servers
from tests import s3_servers
from tests.laboratories import (
    SMALL,
    AlteredLaboratory,
    account,
    alyx_requests,
    data_requests,
    small_file,
)
from tests.running import Home, Mounted, clean_environment, read_errno, run
from tests.s3_servers import ACCESS_KEY, PRIVATE, SECRET_KEY, S3Server

#: the file that only the bucket has, the one that only the file server has, and one that none has
ONLY_S3, ONLY_HTTP, NOWHERE, BOTH = SMALL[0], SMALL[1], SMALL[2], SMALL[3]
_KEYS = {"Access key ID": ACCESS_KEY, "Secret access key": SECRET_KEY}


class InABucket(AlteredLaboratory):
    """A source whose datasets are in a private bucket too. ``keys`` are those in Alyx."""

    def __init__(self, source: Source, keys: Mapping[str, str]) -> None:
        super().__init__(source)
        self._keys = keys

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """See :class:`onefs.demo.records.Source`."""
        found = dict(self._source.tables())
        rows = found["data-repository"]
        on_s3 = [self._on_s3(row) for row in rows if row["data_url"]]
        # the repository that ONE asks for the bucket and the keys of all datasets
        found["data-repository"] = [*rows, *on_s3, {**on_s3[0], "name": KEYS_REPOSITORY}]
        return found

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return [_with_replica(row) for row in self._source.datasets(eid)]

    def dataset(self, id_: str) -> DatasetRecord | None:
        """See :class:`onefs.demo.records.Source`."""
        found: DatasetRecord | None = self._source.dataset(id_)
        return None if found is None else _with_replica(found)

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        is_lost = "/alf/probe00/" in path or "/alf/_ibl_trials.choice." in path
        return None if is_lost else self._source.file(path)

    def _on_s3(self, row: Mapping[str, Any]) -> dict[str, Any]:
        name = row["name"].replace(flatiron_repository(""), "aws_")
        return {
            **row,
            "name": name,
            "data_url": None,
            "globus_path": f"data/{name.removeprefix('aws_')}/Subjects/",
            "json": {"bucket_name": PRIVATE, "region_name": "us-east-1", **self._keys},
        }


def _with_replica(row: DatasetRecord) -> DatasetRecord:
    (first,) = row.file_records
    name = first.repository.replace(flatiron_repository(""), "aws_")
    copy = FileRecord(make_id(row.id, "aws"), name, first.relative_path)
    return replace(row, file_records=(first, copy))


@pytest.fixture(scope="module")
def bucket(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Serve the files of the small laboratory under the keys of their datasets."""
    laboratory = FolderLaboratory(folder)
    objects = {}
    for session in laboratory.sessions():
        for row in laboratory.datasets(session.eid):
            (record,) = row.file_records
            lab = record.repository.replace(flatiron_repository(""), "")
            path = small_file(folder, f"{lab}/{record.relative_path}")
            key = f"data/{lab}/Subjects/{with_uuid(record.relative_path, row.id)}"
            if path not in (small_file(folder, each) for each in (ONLY_HTTP, NOWHERE)):
                objects[f"{PRIVATE}/{key}"] = path.read_bytes()
    with s3_servers.rclone(tmp_path_factory.mktemp("s3"), objects, signed=True) as server:
        yield server


@pytest.fixture
def source(request: pytest.FixtureRequest, folder: Path) -> InABucket:
    return InABucket(FolderLaboratory(folder), getattr(request, "param", _KEYS))


def mount(home: Home, servers: Servers, bucket: S3Server, **variables: str) -> Mounted:
    return home.mount(**account(servers), ONEFS_S3_ENDPOINT=bucket.endpoint, **variables)


def answers(servers: Servers) -> list[int]:
    """Return the statuses of the file server, without its question for the password."""
    return [each.status for each in data_requests(servers) if each.status != 401]


def test_the_bucket_is_read_first(
    home: Home, servers: Servers, bucket: S3Server, folder: Path
) -> None:
    mounted = mount(home, servers, bucket)
    for path in (ONLY_S3, BOTH, SMALL[4], SMALL[5]):
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    assert data_requests(servers) == []
    asked = [each for each in alyx_requests(servers) if "/data-repository/" in each.path]
    assert [each.path for each in asked] == ["/data-repository/aws_labone"]
    # a file that the bucket lacks costs one more request, for this file only
    assert (mounted.path / ONLY_HTTP).read_bytes() == small_file(folder, ONLY_HTTP).read_bytes()
    assert answers(servers) == [200]
    status = home.status_of(mounted.path)
    assert status is not None
    host = servers.data_url.partition("://")[2]
    assert [(each["kind"], each["name"]) for each in status["sources"]] == [
        ("bucket", "aws_labone"),
        ("server", host),
    ]
    text = home.run("status").stdout
    assert "bucket aws_labone: " in text
    assert f"server {host}: " in text
    everything = f"{home.log()} {text} {status} {mounted.xattr('url', BOTH)}"
    assert SECRET_KEY not in everything
    assert not any(
        SECRET_KEY.encode() in path.read_bytes()
        for path in home.folder.rglob("*")
        if path.is_file()
    )


def test_a_file_server_that_lacks_one_file(
    home: Home, servers: Servers, bucket: S3Server, folder: Path
) -> None:
    mounted = mount(home, servers, bucket, ONEFS_COPIES="flatiron_*")
    for path in (ONLY_S3, BOTH):
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    assert answers(servers) == [404, 200]


def test_a_file_that_neither_has(home: Home, servers: Servers, bucket: S3Server) -> None:
    """The error names both."""
    mounted = mount(home, servers, bucket)
    assert read_errno(mounted.path / NOWHERE) == errno.EIO
    said = mounted.xattr("error", NOWHERE)
    assert f"s3://{PRIVATE}/" in said
    assert servers.data_url in said


@pytest.mark.parametrize("source", [{}], indirect=True)
def test_the_keys_of_the_user_are_not_in_the_environment_of_the_daemon(
    home: Home, servers: Servers, bucket: S3Server, folder: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    mounted = mount(home, servers, bucket, **keys)
    assert (mounted.path / BOTH).read_bytes() == small_file(folder, BOTH).read_bytes()
    assert data_requests(servers) == []
    assert SECRET_KEY.encode() not in Path(f"/proc/{mounted.pid}/environ").read_bytes()


@pytest.mark.long
def test_one_api_reads_the_same_bytes(
    home: Home, servers: Servers, bucket: S3Server, folder: Path
) -> None:
    """ONE's own boto3, with the keys of Alyx, from the same bucket under the same keys."""
    pytest.importorskip("one.api")
    paths = list(SMALL[5:7])
    login = servers.login
    given = {
        "alyx_url": servers.alyx_url,
        "data_url": servers.data_url,
        "username": login.username,
        "password": login.password,
        "data_username": login.data_username,
        "data_password": login.data_password,
        "cache": str(home.root / "one"),
        "paths": paths,
    }
    (one_home := home.root / "one-home").mkdir()
    environment = clean_environment(
        one_home,
        AWS_ENDPOINT_URL_S3=bucket.endpoint,
        AWS_EC2_METADATA_DISABLED="true",
        PYTHONPATH=str(Path(__file__).parents[2]),
    )
    command: list[str | Path] = [sys.executable, "-m", "tests.system.one_s3_client"]
    done = run(command, given=json.dumps(given), environment=environment, timeout=120)
    assert data_requests(servers) == []
    mounted = mount(home, servers, bucket)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        path: hashlib.md5((mounted.path / path).read_bytes()).hexdigest() for path in paths
    }
    assert data_requests(servers) == []

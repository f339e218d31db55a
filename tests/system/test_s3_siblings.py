"""The next files of a folder are fetched from the file server if the bucket cannot be read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import account, downloads
from tests.running import Home, wait_until
from tests.s3_servers import ACCESS_KEY, SECRET_KEY
from tests.scripted_server import ScriptedServer
from tests.system.test_s3 import InABucket

KEYS = {"Access key ID": ACCESS_KEY, "Secret access key": SECRET_KEY}
SESSION = "lab/{}mouse/2021-07-05/001/alf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    alf = made / SESSION.format("Subjects/")
    alf.mkdir(parents=True)
    for index in range(10):
        (alf / f"_x_file.a{index}.npy").write_bytes(random.Random(index).randbytes(3000))
    return made


@pytest.fixture
def source(request: pytest.FixtureRequest, folder: Path) -> InABucket:
    return InABucket(FolderLaboratory(folder), request.param)


@pytest.mark.parametrize(
    ("source", "has_keys"),
    [(KEYS, True), pytest.param({}, False, marks=pytest.mark.long)],
    indirect=["source"],
)
def test_siblings_of_a_file_that_the_bucket_refuses_are_fetched(
    home: Home, servers: Servers, folder: Path, has_keys: bool
) -> None:
    """As many as without a bucket."""
    with ScriptedServer({}) as bucket:  # it has no file
        variables = {"ONEFS_S3_ENDPOINT": bucket.url, "AWS_EC2_METADATA_DISABLED": "true"}
        mounted = home.mount(**account(servers), **variables)
        for read, total in enumerate([1, 2, 4, 6]):
            name = f"_x_file.a{read}.npy"
            read_bytes = (mounted.path / SESSION.format("") / name).read_bytes()
            assert read_bytes == (folder / SESSION.format("Subjects/") / name).read_bytes()
            wait_until(lambda total=total: len(downloads(servers)) == total)  # type: ignore[misc]
        assert len(bucket.requests) == (6 if has_keys else 0)
        mounted.umount()

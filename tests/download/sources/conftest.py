"""Fixtures: the S3 servers, started once for all tests, with the file of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import s3_servers
from tests.content.conftest import disk, open_content
from tests.download.conftest import DATA
from tests.download.sources.wires import KEY
from tests.s3_servers import PRIVATE, PUBLIC, S3Server

__all__ = ["disk", "open_content"]


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("rclone")
    with s3_servers.rclone(folder, {f"{PRIVATE}/{KEY}": DATA}, signed=True) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    with s3_servers.moto({f"{PUBLIC}/{KEY}": DATA, f"{PRIVATE}/{KEY}": DATA}) as server:
        yield server

"""Fixtures: the S3 servers, started once for all tests, with the file of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onefs.http import Transport
from tests import s3_servers
from tests.content.conftest import disk, open_content
from tests.download.conftest import DATA
from tests.download.sources.wires import KEY
from tests.s3_servers import PRIVATE, PUBLIC, S3Server

__all__ = ["disk", "open_content"]


@pytest.fixture
def transport() -> Iterator[Transport]:
    with Transport() as found:
        yield found


@pytest.fixture(autouse=True)
def _no_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has no AWS configuration, and this machine is not one of Amazon's."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "SECURITY_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("rclone")
    with s3_servers.rclone(folder, {f"{PRIVATE}/{KEY}": DATA}, signed=True) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    with s3_servers.moto({f"{PUBLIC}/{KEY}": DATA, f"{PRIVATE}/{KEY}": DATA}) as server:
        yield server

"""Fixtures: a home folder for each test, and the embedded laboratory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import ServeOptions as DemoOptions
from onefs.demo.servers import Servers, make_source
from tests.laboratories import account, small_folder
from tests.running import ALYX_DEADLINE_SECONDS, Home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """The environment of a user who has no settings and no keyring."""
    # the last is how coverage measures the processes that tests start
    inherited = ("PATH", "PYTHONPATH", "LANG", "COVERAGE_PROCESS_CONFIG")
    kept = {name: os.environ[name] for name in inherited if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "TERM": "dumb",
        "ONEFS_DEADLINE": ALYX_DEADLINE_SECONDS,
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }


@pytest.fixture(scope="session")
def laboratory() -> Iterator[Servers]:
    with Servers(make_source(DemoOptions())) as servers:
        yield servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of a small laboratory, for the tests of one module."""
    with Servers(FolderLaboratory(small_folder(tmp_path_factory.mktemp("data")))) as running:
        yield running


@pytest.fixture
def user(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    """The home folder of a user with an account at ``servers``."""
    with Home(tmp_path, **account(servers)) as home:
        yield home

"""Home folders of the system tests; their mounts and processes are ended afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import Source
from onefs.demo.servers import Servers
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import small_folder
from tests.running import Home
from tests.users import Machine, private_machine

_CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _guard(fuse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clean up the folders of the tests, even if their process is killed."""
    command = [sys.executable, "-m", "tests.cleanup", str(tmp_path_factory.getbasetemp())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=_CHECKOUT, start_new_session=True):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home folder for one test."""
    with Home(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small laboratory, which no test changes."""
    return small_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture
def source(folder: Path) -> ChangingLaboratory:
    """That laboratory, whose datasets a test may change."""
    return ChangingLaboratory(FolderLaboratory(folder))


@pytest.fixture
def servers(source: Source) -> Iterator[Servers]:
    """The servers of ``source``; a module may define its own fixture ``source``."""
    with Servers(source) as running:
        yield running


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home folder for the tests of one module."""
    with Home(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with several users."""
    with private_machine() as made:
        yield made

"""Homes for the system tests: each with its own mounts and processes, gone afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Home

_CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _guard(fuse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sweeps the tests' folders even when their own process is killed."""
    command = [sys.executable, "-m", "tests.sweeping", str(tmp_path_factory.getbasetemp())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=_CHECKOUT, start_new_session=True):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home folder for one test."""
    with Home(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home folder for the tests of one module."""
    with Home(tmp_path_factory.mktemp("shared")) as made:
        yield made

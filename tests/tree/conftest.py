"""Fixtures for the tests of the tree: the tree of the embedded laboratory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import open_laboratory


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(SyntheticLaboratory()) as found:
        yield found


@pytest.fixture
def access(servers: Servers, tmp_path: Path) -> Iterator[Access]:
    found = open_laboratory(servers, tmp_path)
    servers.clear_requests()
    yield found
    found.close()

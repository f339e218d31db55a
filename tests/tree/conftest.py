"""The tree over the embedded laboratory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.demo.made import MadeLaboratory
from onefs.demo.serve import Servers
from tests.laboratories import opened


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(MadeLaboratory()) as found:
        yield found


@pytest.fixture
def access(servers: Servers, tmp_path: Path) -> Iterator[Access]:
    found = opened(servers, tmp_path)
    servers.clear_requests()
    yield found
    found.close()

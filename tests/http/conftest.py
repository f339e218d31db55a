"""Fixtures: transports for the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onefs.http import Transport


@pytest.fixture
def client() -> Iterator[Transport]:
    with Transport() as transport:
        yield transport


@pytest.fixture
def hasty() -> Iterator[Transport]:
    """Return a transport that does not wait between attempts."""
    with Transport(sleep=lambda _: None) as transport:
        yield transport

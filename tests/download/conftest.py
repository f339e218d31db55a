"""Fixtures: a cache, and a file server whose files a test sets."""

from __future__ import annotations

from contextlib import suppress

import pytest

from onefs.content.content import Content
from onefs.errors import OnefsError
from onefs.model import Dataset
from tests.content.conftest import Open, disk, open_content, server
from tests.content.ranged_file import BLOCK, read_all, some_bytes
from tests.scripted_server import answer

__all__ = ["disk", "open_content", "server"]

DATA = some_bytes(4 * BLOCK + 99)
LONG = some_bytes(40 * BLOCK)
#: seconds without progress after which readers give up; SHORT_STALL_SECONDS is for faults that last
#: until then
STALL_SECONDS = 4.0
SHORT_STALL_SECONDS = 0.8
PAGE = answer(b"<html>Sorry</html>", Content_Type="text/html")


@pytest.fixture(params=[0, 1 << 30], ids=["blocks", "whole"])
def content(request: pytest.FixtureRequest, open_content: Open) -> Content:
    return open_content(stall=STALL_SECONDS, small_file=request.param)


@pytest.fixture(params=[0, 1 << 30], ids=["blocks", "whole"])
def hasty(request: pytest.FixtureRequest, open_content: Open) -> Content:
    return open_content(stall=SHORT_STALL_SECONDS, small_file=request.param)


def read_or_empty(content: Content, dataset: Dataset) -> bytes:
    with suppress(OnefsError):
        return read_all(content, dataset)
    return b""

"""The list of aggregates in a bucket: how many requests it costs, and how long it is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.config.settings import Settings
from tests.s3_pages import page_of
from tests.scripted_server import ScriptedServer

BUCKET = "ibl-brain-wide-map-public"


@pytest.mark.parametrize("total", [2_500, pytest.param(100_000, marks=pytest.mark.long)])
def test_all_keys_of_a_bucket_are_listed_once(tmp_path: Path, total: int) -> None:
    """One request for a thousand keys; a second look, and a second process, send none."""
    with ScriptedServer({f"/{BUCKET}/": page_of(1000, total)}) as server:
        settings = Settings(
            url=f"{server.url}/{BUCKET}",
            username="",
            profile="",
            cache_dir=tmp_path / "cache",
            state_dir=tmp_path / "state",
            public=True,
        )
        for number in range(2):
            access = Access(settings, "test")
            try:
                listed = access.catalogue.aggregates().value
                assert len({each.id for each in listed}) == total
                assert access.catalogue.aggregates().value is listed
            finally:
                access.close()
            assert len(server.requests) == -(-total // 1000), number
        # without a server the list is still there
        access = Access(replace(settings), "test", offline=True)
        try:
            assert len(access.catalogue.aggregates().value) == total
        finally:
            access.close()

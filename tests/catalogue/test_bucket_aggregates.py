"""The list of aggregates in a bucket: how many requests it costs, and how long it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from onefs import alf
from onefs.access import Access, Deadlines
from onefs.catalogue.aggregates import datasets_of
from onefs.catalogue.catalogue import Catalogue
from onefs.config.settings import Settings
from onefs.download.sources.s3_listing import S3Object
from onefs.errors import DataServerCredentials
from tests.call_counts import counted_calls
from tests.running import BUSY_SECONDS, wait_until
from tests.s3_pages import page_of
from tests.scripted_server import ScriptedServer, answer

BUCKET = "ibl-brain-wide-map-public"


def settings_of(server: ScriptedServer, folder: Path) -> Settings:
    """Return the settings of the public database in the server's bucket."""
    return Settings(
        url=f"{server.url}/{BUCKET}",
        username="",
        profile="",
        cache_dir=folder / "cache",
        state_dir=folder / "state",
        public=True,
    )


@contextmanager
def opened(
    server: ScriptedServer, folder: Path, clock: Callable[[], float] = time.time
) -> Iterator[Catalogue]:
    """Open the catalogue of the public database in the server's bucket, with this clock."""
    access = Access(settings_of(server, folder), "test")
    catalogue = Catalogue(
        access.database,
        access.alyx,
        clock=clock,
        no_alyx=access.without_alyx.error,
        bucket=access.without_alyx.bucket_of_aggregates(),
    )
    try:
        yield catalogue
    finally:
        catalogue.close()
        access.close()


@pytest.mark.parametrize("total", [2_500, pytest.param(100_000, marks=pytest.mark.long)])
def test_all_keys_of_a_bucket_are_listed_once(tmp_path: Path, total: int) -> None:
    """One request for a thousand keys; a second look, and a second process, send none."""
    with ScriptedServer({f"/{BUCKET}/": page_of(1000, total)}) as server:
        settings = settings_of(server, tmp_path)
        for number in range(2):
            access = Access(settings, "test", deadlines=Deadlines(BUSY_SECONDS))
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


def test_a_bucket_that_refuses_is_not_asked_at_each_look(tmp_path: Path) -> None:
    now = time.time()
    scripts = [page_of(1000, 1500), page_of(1000, 1500), answer(status=403)]
    with (
        ScriptedServer({f"/{BUCKET}/": scripts}) as server,
        opened(server, tmp_path, lambda: now) as catalogue,
    ):
        listed = catalogue.aggregates().value
        now += 4000
        # the old list is shown, and requested in the background
        assert catalogue.aggregates().value is listed
        wait_until(lambda: len(server.requests) == 3, what="the request for newer keys")
        for _ in range(20):
            assert len(catalogue.aggregates().value) == 1500
        assert len(server.requests) == 3
        now += 3
        # the refresh before may still be ending, and then this look begins none
        wait_until(
            lambda: len(catalogue.aggregates().value) == 1500 and len(server.requests) == 4,
            what="the next request",
        )


def test_an_unknown_list_is_not_requested_at_each_look(tmp_path: Path) -> None:
    now = time.time()
    with (
        ScriptedServer({f"/{BUCKET}/": answer(status=403)}) as server,
        opened(server, tmp_path, lambda: now) as catalogue,
    ):
        for _ in range(20):
            with pytest.raises(DataServerCredentials):
                catalogue.aggregates()
        assert len(server.requests) == 1


def test_a_refresh_of_the_folder_lists_the_bucket_again(tmp_path: Path) -> None:
    with (
        ScriptedServer({f"/{BUCKET}/": page_of(1000, 5)}) as server,
        opened(server, tmp_path) as catalogue,
    ):
        catalogue.aggregates()
        catalogue.invalidate((alf.AGGREGATES,))
        catalogue.aggregates()
        assert len(server.requests) == 2
        catalogue.invalidate(("labone",))
        catalogue.aggregates()
        assert len(server.requests) == 2


def test_a_look_into_a_long_list_does_not_lay_it_out_again(tmp_path: Path) -> None:
    with ScriptedServer({f"/{BUCKET}/": page_of(1000, 20_500)}) as server:
        access = Access(settings_of(server, tmp_path), "test")
        try:
            tree, name = access.tree, "000007 #+é"
            tree.node(f"/aggregates/{name}")
            with counted_calls() as counted:
                tree.node("/aggregates/000008 #+é")
            assert counted.total() < 2000
        finally:
            access.close()


def test_an_object_that_is_replaced_is_another_dataset() -> None:
    """Also if its key has the UUID of the dataset in Alyx, and its size stays the same."""
    key = "aggregates/lab/clusters.5a5a39d2-9a45-4ed2-9ee8-1d5a1aa1cb3f.npy"
    before, after = (
        datasets_of([S3Object(key, 8, etag)], "https://bucket")[0] for etag in ("a", "b")
    )
    assert before.name == after.name == "clusters.npy"
    assert before.id != after.id

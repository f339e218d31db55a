"""The client of a public bucket: listings by pages, and tables whose sessions are loaded first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.cache_tables.bucket import PublicBucket
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import sync_from_server
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.public_servers import PublicServers
from onefs.demo.s3_server import MAX_KEYS
from onefs.http import Transport
from tests.laboratories import small_folder
from tests.public_database import serve_public

#: keys of two and a half pages, some with characters that a URL must not hold
MANY = {f"many/a b#{number:05}é&.npy": b"" for number in range(MAX_KEYS * 5 // 2)}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicServers]:
    laboratory = FolderLaboratory(small_folder(tmp_path_factory.mktemp("data"), size=10))
    with serve_public(laboratory, extra=MANY) as running:
        yield running


@pytest.fixture
def bucket(servers: PublicServers) -> Iterator[PublicBucket]:
    with Transport() as transport:
        yield PublicBucket(transport, servers.bucket_url, deadline=60.0)


def test_a_listing_has_all_keys_with_one_request_for_a_thousand(
    servers: PublicServers, bucket: PublicBucket
) -> None:
    servers.clear_requests()
    listed = list(bucket.objects("many/"))
    assert [each.key for each in listed] == sorted(MANY)
    assert {each.size for each in listed} == {0}
    assert len(servers.requests) == 3


def test_a_bucket_without_releases_has_no_tags(bucket: PublicBucket) -> None:
    assert bucket.tags() == []


def test_sessions_can_be_read_before_their_datasets(
    servers: PublicServers, bucket: PublicBucket, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    from onefs.cache_tables.build import BuildResult, build

    stages: list[bool] = []

    def builder(*paths: Any, sessions_only: bool = False, **options: Any) -> BuildResult:
        if not sessions_only:  # the sessions are published already
            database = OverlayDatabase(tmp_path / "catalogue.sqlite")
            (session, *_) = database.sessions("labone", "mouse.1")
            assert database.labs() == ["iblrig", "labone", "labtwo"]
            # that it has no datasets is not known
            assert not database.is_empty_in_tables(session.eid)
            assert database.fetched_at(f"datasets/{session.eid}") is None
            database.close()
        stages.append(sessions_only)
        return build(*paths, sessions_only=sessions_only, **options)

    built = sync_from_server(bucket, tmp_path, builder=builder, sessions_first=True)
    assert built is not None
    assert stages == [True, False]
    database = OverlayDatabase(tmp_path / "catalogue.sqlite")
    (session, *_) = database.sessions("labone", "mouse.1")
    assert database.datasets(session.eid)
    database.close()
    # the same tables are not loaded again, and newer ones replace the old ones at once
    assert sync_from_server(bucket, tmp_path, builder=builder, sessions_first=True) is None
    assert servers.requests_to("alyx") == []

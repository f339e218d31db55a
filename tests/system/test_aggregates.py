"""Datasets of no session, in ``aggregates``: from Alyx and verified, else from the bucket."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.public_servers import PublicServers
from onefs.demo.servers import Servers
from onefs.demo.synthetic.aggregates import BUCKET_KEY, KNOWN_PATH, known_aggregate
from tests.laboratories import account
from tests.public_database import FewSessions, serve_public, variables_of
from tests.running import Home, files_below, read_errno, wait_until

pytest.importorskip("pyarrow")

KNOWN = f"aggregates/{KNOWN_PATH}"


@pytest.fixture(scope="module")
def few() -> FewSessions:
    return FewSessions()


@pytest.fixture(scope="module")
def public(few: FewSessions) -> Iterator[PublicServers]:
    with serve_public(few) as servers:
        yield servers


def test_alyx_and_the_bucket_list_aggregates(
    tmp_path: Path, few: FewSessions, public: PublicServers
) -> None:
    public.clear_requests()
    with (
        Servers(few) as servers,
        Home(tmp_path, **account(servers), **variables_of(public)) as user,
    ):
        mount = user.mount()
        assert "aggregates" not in os.listdir(mount.path)
        assert files_below(mount.path / "aggregates") == {
            each.removeprefix("aggregates/") for each in (KNOWN, BUCKET_KEY)
        }
        # one look at the bucket, and one request to Alyx, for any number of looks
        assert files_below(mount.path / "aggregates")
        assert len(public.requests_to("bucket")) == 1
        asked = [each for each in servers.requests if "session__isnull" in each.path]
        assert len(asked) == 1
        # from Alyx's file server, verified by the md5
        content = (mount.path / KNOWN).read_bytes()
        assert hashlib.md5(content).hexdigest() == known_aggregate().hash
        assert mount.xattr("state", KNOWN) == "cached"
        # from the bucket, whose ETag is no proof
        clusters = (mount.path / BUCKET_KEY).read_bytes()
        assert clusters == public.objects.content(BUCKET_KEY)
        assert mount.xattr("state", BUCKET_KEY) == "unverified"
        assert mount.xattr("md5", BUCKET_KEY) == ""
        # ONE's own paths in the cache folder
        (cache,) = (each for each in user.cache.iterdir() if each.is_dir())
        assert (cache / KNOWN).read_bytes() == content
        assert (cache / BUCKET_KEY).read_bytes() == clusters
        assert read_errno(mount.path / "aggregates" / "none") == errno.ENOENT
        printed = user.run("get", mount.path / "aggregates").stdout.split()
        assert {str(cache / KNOWN), str(cache / BUCKET_KEY)} <= set(printed)
        user.run("cache", "evict", cache / KNOWN)
        assert not (cache / KNOWN).exists()
        assert (cache / BUCKET_KEY).exists()


@pytest.mark.long
def test_a_script_reads_an_aggregate_of_the_public_database(
    tmp_path: Path, public: PublicServers
) -> None:
    import pyarrow.parquet

    with Home(tmp_path, **variables_of(public)) as user:
        mount = user.mount("--public")
        assert pyarrow.parquet.read_table(mount.path / BUCKET_KEY).num_rows == 100
        # without Alyx its file is in the bucket too, with the UUID in its key
        assert (mount.path / KNOWN).read_bytes()
        assert mount.xattr("state", KNOWN) == "unverified"
        mount.umount()
        offline = user.mount("--public", "--offline")
        assert (offline.path / BUCKET_KEY).read_bytes()
        assert public.requests_to("alyx") == []


def test_aggregates_of_a_bucket_that_is_away_are_an_error(tmp_path: Path, few: FewSessions) -> None:
    with serve_public(few) as public, Home(tmp_path, **variables_of(public)) as user:
        mount = user.mount("--public")
        public.bucket.stop()
        assert read_errno(mount.path / "aggregates") == errno.EHOSTUNREACH
        public.bucket.start()
        # a failure is remembered for a moment
        wait_until(lambda: read_errno(mount.path / "aggregates") == 0, what="the bucket")
        (names,) = os.walk(mount.path / "aggregates" / BUCKET_KEY.split("/")[1])
        assert names[2] == ["clusters.pqt"]
        # what was listed stays listed
        public.bucket.stop()
        assert user.run("refresh").returncode == 0
        assert read_errno(mount.path / "aggregates") == 0

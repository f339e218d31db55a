"""The first command of somebody without an account: from nothing to a raster of spikes."""

from __future__ import annotations

import time
from pathlib import Path

import flask
import numpy as np
import pytest

from onefs.demo.bucket import PublicBucket
from onefs.demo.public_servers import PublicServers
from tests.public_database import TUTORIAL, FewSessions, variables_of
from tests.running import Home

pytest.importorskip("pyarrow")

#: logins that the user has for other servers, and that nobody is to see
SECRETS = {
    "ONEFS_PASSWORD": "PasswordOfAlyx0123456789",
    "ONEFS_TOKEN": "0123456789abcdef0123456789abcdef01234567",
    "ONEFS_DATA_PASSWORD": "PasswordOfTheFileServer0123456789",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE000000009",
    "AWS_SECRET_ACCESS_KEY": "SecretKeyOfTheUser/0123456789abcdefghijk",
}


class RecordingBucket(PublicBucket):
    """A bucket that records the headers of the requests for its objects."""

    def __init__(self, source: FewSessions) -> None:
        super().__init__(source)
        self.headers: list[dict[str, str]] = []

    def content(self, key: str) -> Path | bytes | None:
        """Return the bytes of an object."""
        self.headers.append(dict(flask.request.headers))
        return super().content(key)


def test_one_command_leads_to_a_raster_of_spikes(tmp_path: Path) -> None:
    """Four requests to the bucket, none to an Alyx, and no login in any of them."""
    source = FewSessions()
    bucket = RecordingBucket(source)
    with (
        PublicServers(bucket, source) as public,
        Home(tmp_path, **variables_of(public), **SECRETS) as user,
    ):
        began = time.monotonic()
        mount = user.mount("--public")
        (probe,) = {path.parent for path in (mount.path / TUTORIAL).rglob("spikes.times.npy")}
        times = np.load(probe / "spikes.times.npy")
        clusters = np.load(probe / "spikes.clusters.npy")
        counts, _, _ = np.histogram2d(times, clusters, bins=(100, np.arange(clusters.max() + 2)))
        print(f"a raster of {len(times)} spikes after {time.monotonic() - began:.1f} s")
        assert counts.sum() == len(times) == len(clusters) > 10_000
        asked = [each.path.rpartition("/")[2] for each in public.requests_to("bucket")]
        assert asked[:2] == ["cache_info.json", "cache.zip"]
        assert [name.split(".")[:2] for name in sorted(asked[2:])] == [
            ["spikes", "clusters"],
            ["spikes", "times"],
        ]
        assert public.requests_to("alyx") == public.requests_to("data") == []
        assert len(bucket.headers) == len(asked)
        for headers in bucket.headers:
            assert not {"Authorization", "Cookie", "X-Amz-Security-Token"} & headers.keys()
            assert not any(secret in str(headers) for secret in SECRETS.values())
        assert not (user.folder / "config" / "onefs").exists()

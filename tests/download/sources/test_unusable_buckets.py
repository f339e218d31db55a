"""Buckets that cannot be read as a whole, so that other replicas of all their files come first."""

from __future__ import annotations

import sys

import pytest

from onefs.config.bucket import Bucket
from onefs.config.secret import Secret
from onefs.download.sources.interface import Body, ByteRequest, Source
from onefs.download.sources.s3 import S3Source
from onefs.download.sources.s3_buckets import Buckets
from onefs.download.sources.s3_client import S3Client
from onefs.errors import NotFound, OnefsError
from onefs.http import Transport
from onefs.model import Dataset, Replica
from tests.content.conftest import Open, place_of
from tests.content.ranged_file import dataset_of, read_all, served
from tests.download.conftest import DATA
from tests.download.sources.wires import with_http
from tests.s3_servers import ACCESS_KEY, PRIVATE, SECRET_KEY
from tests.scripted_server import Script, ScriptedServer, answer

KEYED = Bucket(PRIVATE, "us-east-1", Secret(ACCESS_KEY), Secret(SECRET_KEY))
NAMES = ["a.npy", "b.npy", "c.npy", "d.npy"]
#: answers of S3, and reasons why S3 is not asked
CODES = ["InvalidAccessKeyId", "NoSuchBucket"]
REASONS = ["no keys", "no botocore", "no bucket"]


def _refusal(code: str, status: int) -> Script:
    return answer(f"<Error><Code>{code}</Code></Error>".encode(), status)


class _Repositories:
    """The repositories of Alyx, of which a test counts the requests."""

    def __init__(self, bucket: Bucket | None) -> None:
        self.asked_count = 0
        self._bucket = bucket

    def find(self, repository: str) -> Bucket:
        self.asked_count += 1
        if self._bucket is None:
            raise NotFound("Alyx names no bucket")
        return self._bucket


@pytest.mark.parametrize("kind", CODES + REASONS)
def test_a_bucket_that_cannot_be_read_is_tried_last(
    open_content: Open, transport: Transport, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It gets one request, and files are still fetched before a program reads them."""
    refusal = _refusal(kind, 404 if kind == "NoSuchBucket" else 403)
    buckets = {"no keys": Bucket(PRIVATE), "no bucket": None}
    repositories = _Repositories(buckets.get(kind, KEYED))
    if kind == "no botocore":
        monkeypatch.setitem(sys.modules, "botocore.auth", None)
    routes = {f"/{name}": served(DATA) for name in NAMES}
    routes |= {f"/{PRIVATE}/{name}": refusal for name in NAMES}
    with ScriptedServer(routes) as server:
        s3 = S3Source(S3Client(transport, server.url, {}), Buckets(repositories.find))
        content = open_content(source=with_http(s3, transport))

        def dataset(name: str) -> Dataset:
            bucket = Replica("aws_lab", f"alyx-s3://aws_lab/{name}")
            replicas = (bucket, Replica("flatiron_lab", f"{server.url}/{name}"))
            return dataset_of(server, DATA, f"/{name}", replicas=replicas)

        for name in NAMES[:2]:
            file = dataset(name)
            assert content.small_files.fetch_ahead(file, place_of(file), lambda size: True)
        for name in NAMES:
            assert read_all(content, dataset(name)) == DATA
        asked = [PRIVATE in each.target for each in server.requests]
        assert asked.count(True) == (kind in CODES)
        assert asked.count(False) == len(NAMES)
        assert repositories.asked_count == 1


class _NotedStalls:
    """A source that notes how long it may take to answer, by the scheme of the URL."""

    def __init__(self, source: Source) -> None:
        self.probe, self._source = source.probe, source
        self.noted: list[tuple[str, float]] = []

    def open(self, request: ByteRequest) -> Body:
        """See :class:`Source`."""
        self.noted.append((request.url.partition(":")[0], request.stall))
        return self._source.open(request)


@pytest.mark.parametrize("small_file", [0, 1 << 30])
def test_a_refusal_leaves_the_time_to_the_other_server(
    open_content: Open, transport: Transport, small_file: int
) -> None:
    routes = {f"/{name}": served(DATA) for name in NAMES}
    routes |= {f"/{PRIVATE}/{name}": _refusal("ExpiredToken", 400) for name in NAMES}
    with ScriptedServer(routes) as server:
        s3 = S3Source(S3Client(transport, server.url, {}), Buckets(lambda repository: KEYED))
        source = _NotedStalls(with_http(s3, transport))
        content = open_content(source=source, small_file=small_file, stall=600.0)
        for name in NAMES[:2]:
            bucket = Replica("aws_lab", f"alyx-s3://aws_lab/{name}")
            replicas = (bucket, Replica("flatiron_lab", f"{server.url}/{name}"))
            dataset = dataset_of(server, DATA, f"/{name}", replicas=replicas)
            assert read_all(content, dataset) == DATA
    schemes = [scheme for scheme, _ in source.noted]
    assert schemes == ["alyx-s3", *["http"] * (len(schemes) - 1)]
    assert source.noted[0] == ("alyx-s3", 200.0)
    # nine tenths of what is left, and then all of it, because the bucket is known
    assert 300.0 < source.noted[1][1] < 540.0
    assert source.noted[-1] == ("http", 600.0)


def test_the_error_of_an_unusable_bucket_is_that_of_its_file(
    open_content: Open, transport: Transport
) -> None:
    """A file that is only in the bucket is requested each time, and the error says why."""
    routes = {f"/{PRIVATE}/{name}": _refusal("ExpiredToken", 400) for name in NAMES}
    with ScriptedServer(routes) as server:
        s3 = S3Source(S3Client(transport, server.url, {}), Buckets(lambda repository: KEYED))
        content = open_content(source=with_http(s3, transport))
        for name in NAMES:
            replicas = (Replica("aws_lab", f"alyx-s3://aws_lab/{name}"),)
            with pytest.raises(OnefsError, match=f"{name}.*S3 refuses the keys"):
                read_all(content, dataset_of(server, DATA, f"/{name}", replicas=replicas))

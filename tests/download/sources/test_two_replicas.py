"""A file on a file server and in a bucket, one of which refuses it: the number of requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onefs.config.bucket import Bucket
from onefs.download.sources.interface import Source
from onefs.download.sources.s3 import S3Source
from onefs.download.sources.s3_buckets import Buckets
from onefs.download.sources.s3_client import S3Client
from onefs.errors import DataServerCredentials
from onefs.http import Transport
from onefs.model import Dataset, Replica
from tests.content.conftest import Open, in_threads, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.download.sources.wires import with_http
from tests.scripted_server import Script, ScriptedConnection, ScriptedServer, answer

#: a bucket that is read without a signature
PUBLIC = "lab-public"


def open_source(transport: Transport, endpoint: str) -> Source:
    buckets = Buckets(lambda repository: Bucket(PUBLIC))
    return with_http(S3Source(S3Client(transport, endpoint), buckets), transport)


class TwoReplicas:
    """A file of several blocks on a file server and in a bucket, and what each of them answers."""

    data = some_bytes(6 * BLOCK)

    def __init__(self, server: ScriptedServer, first: str) -> None:
        self.server = server
        urls = {"server": f"{server.url}/x.npy", "bucket": f"s3://{PUBLIC}/x.npy"}
        self.replicas = tuple(
            Replica(name, urls[name]) for name in sorted(urls, key=lambda name: name != first)
        )

    def dataset(self, path: str) -> Dataset:
        return dataset_of(self.server, self.data, path, replicas=self.replicas)

    def asked(self, name: str) -> int:
        target = "/x.npy" if name == "server" else f"/{PUBLIC}/x.npy"
        return len([each for each in self.server.requests if each.target == target])


@contextmanager
def two_replicas(first: str, **scripts: Script) -> Iterator[TwoReplicas]:
    """Serve a file by the scripts for ``server`` and ``bucket``. ``first`` is read first."""
    routes = {"/x.npy": scripts["server"], f"/{PUBLIC}/x.npy": scripts["bucket"]}
    with ScriptedServer(routes) as server:
        yield TwoReplicas(server, first)


def refuse(talk: ScriptedConnection) -> None:
    """Refuse a file late, so that requests that are sent at once overlap."""
    talk.pause(0.3)
    answer(b"<Error><Code>AccessDenied</Code></Error>", 403)(talk)


def refuse_keys(talk: ScriptedConnection) -> None:
    """Refuse the keys for a bucket late."""
    talk.pause(0.3)
    answer(b"<Error><Code>InvalidAccessKeyId</Code></Error>", 403)(talk)


@pytest.mark.parametrize(
    ("first", "refusal"), [("server", refuse), ("bucket", refuse), ("bucket", refuse_keys)]
)
def test_a_replica_that_is_refused_costs_one_request_also_in_parallel(
    transport: Transport, open_content: Open, first: str, refusal: Script
) -> None:
    """Six reads of a large file at once; and then the rest of it, and the file once more."""
    good = served(TwoReplicas.data)
    scripts = {"server": good, "bucket": good, first: refusal}
    with two_replicas(first, **scripts) as served_twice:
        content = open_content(source=open_source(transport, served_twice.server.url), small_file=0)
        dataset = served_twice.dataset("/one.npy")
        offsets = iter(range(0, len(served_twice.data), BLOCK))
        with HandleReader(content, dataset) as reader:

            def read_block() -> bool:
                at = next(offsets)
                return reader.read(at, 100) == served_twice.data[at : at + 100]

            assert in_threads(6, read_block) == [True] * 6
            assert reader.read_to_end() == served_twice.data
        assert served_twice.asked(first) == 1
        assert read_all(content, served_twice.dataset("/two.npy")) == served_twice.data
        assert served_twice.asked(first) == 1


def test_two_replicas_that_are_refused_are_both_named(
    transport: Transport, open_content: Open
) -> None:
    with two_replicas("bucket", server=refuse, bucket=refuse) as refused:
        for small_file in (0, 1 << 30):
            source = open_source(transport, refused.server.url)
            content = open_content(source=source, small_file=small_file, cache=f"c{small_file}")
            with pytest.raises(DataServerCredentials) as caught:
                read_all(content, refused.dataset("/one.npy"))
            assert f"s3://{PUBLIC}/x.npy" in str(caught.value)
            assert f"{refused.server.url}/x.npy" in str(caught.value)


@pytest.mark.parametrize("first", ["server", "bucket"])
def test_a_refusal_of_a_file_that_is_fetched_ahead_is_not_asked_for_again(
    transport: Transport, open_content: Open, first: str
) -> None:
    good = served(TwoReplicas.data)
    scripts = {"server": good, "bucket": good, first: refuse}
    with two_replicas(first, **scripts) as served_twice:
        content = open_content(source=open_source(transport, served_twice.server.url))
        for name in ("/one.npy", "/two.npy"):
            dataset = served_twice.dataset(name)
            assert content.small_files.fetch_ahead(dataset, place_of(dataset), lambda size: True)
            assert served_twice.asked(first) == 1
            assert read_all(content, dataset) == served_twice.data
        assert read_all(content, served_twice.dataset("/three.npy")) == served_twice.data
        assert served_twice.asked(first) == 1

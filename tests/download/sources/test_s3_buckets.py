"""Alyx is asked for the buckets of its repositories, and its failures are not those of S3."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from onefs.config.bucket import Bucket
from onefs.config.secret import Secret
from onefs.download.sources import s3, s3_buckets
from onefs.download.sources.interface import BucketUnknown, ByteRequest, Source
from onefs.download.sources.s3 import S3Source
from onefs.download.sources.s3_buckets import Buckets
from onefs.download.sources.s3_client import S3Client
from onefs.errors import (
    AlyxCredentials,
    DataServerCredentials,
    DeadlineExceeded,
    NotFound,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.http import Transport
from onefs.model import Dataset, Replica
from tests.content.conftest import Open, in_threads
from tests.content.ranged_file import dataset_of, read_all, served
from tests.download.conftest import DATA
from tests.download.sources.wires import OTHER, with_http
from tests.running import wait_until
from tests.s3_servers import ACCESS_KEY, PRIVATE, PUBLIC, SECRET_KEY
from tests.scripted_server import ScriptedServer, answer

KEYED = Bucket(PRIVATE, "us-east-1", Secret(ACCESS_KEY), Secret(SECRET_KEY))
DENIED = answer(b"<Error><Code>AccessDenied</Code></Error>", 403)
EXPIRED = answer(b"<Error><Code>InvalidAccessKeyId</Code></Error>", 403)
FAILURES: dict[str, Callable[[], OnefsError]] = {
    "no answer": lambda: DeadlineExceeded("Alyx does not answer"),
    "429": lambda: Throttled("Alyx asks to wait", 300.0),
    "500": lambda: ServerError("Alyx answers with HTTP 500", 500),
    "unreachable": lambda: Unreachable("Alyx is unreachable"),
}


class Repositories:
    """The repositories of Alyx: :meth:`find` answers with ``result``, or raises it."""

    def __init__(self, result: Bucket | Callable[[], OnefsError] = KEYED) -> None:
        self.asked: list[str] = []
        self.result = result

    def find(self, repository: str) -> Bucket:
        self.asked.append(repository)
        if isinstance(self.result, Bucket):
            return self.result
        raise self.result()


def open_source(transport: Transport, endpoint: str, find: Callable[[str], Bucket]) -> Source:
    return with_http(S3Source(S3Client(transport, endpoint, {}), Buckets(find)), transport)


def read(source: Source, url: str) -> bytes:
    with source.open(ByteRequest(url, 20.0)) as body:
        return b"".join(body.iter_chunks())


def test_the_bucket_of_a_repository_is_requested_once() -> None:
    asked, go_on = [], threading.Event()

    def find(repository: str) -> Bucket:
        asked.append(repository)
        assert go_on.wait(30)
        return KEYED

    buckets = Buckets(find)
    timer = threading.Timer(0.2, go_on.set)
    timer.start()
    assert in_threads(8, lambda: buckets.bucket_of("aws_lab")) == [KEYED] * 8
    assert buckets.bucket_of("aws_lab") == KEYED
    assert asked == ["aws_lab"]
    buckets.renew("aws_lab", 60.0)
    buckets.bucket_of("aws_lab")
    assert asked == ["aws_lab"]


def test_a_repository_without_bucket_is_an_error_of_its_replica() -> None:
    repositories = Repositories(lambda: NotFound("Alyx names no bucket"))
    buckets = Buckets(repositories.find)
    for _ in range(2):
        with pytest.raises(ServerError) as caught:
            buckets.bucket_of("aws_lab")
        assert caught.value.status == 404
        assert not isinstance(caught.value, NotFound)
    assert repositories.asked == ["aws_lab"]


@pytest.mark.parametrize("kind", FAILURES)
def test_a_known_bucket_is_used_while_alyx_fails(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It is requested again in the background, and after a failure not for a minute."""
    repositories = Repositories()
    buckets = Buckets(repositories.find)
    monkeypatch.setattr(s3_buckets, "BUCKET_TTL_SECONDS", 0.0)
    assert buckets.bucket_of("aws_lab") == KEYED
    repositories.result = FAILURES[kind]
    for _ in range(3):
        assert buckets.bucket_of("aws_lab") == KEYED
        wait_until(lambda: len(repositories.asked) == 2)
        wait_until(lambda: not buckets._single_flight._in_flight)
    assert len(repositories.asked) == 2


def test_a_known_bucket_is_used_while_alyx_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ending, asked = threading.Event(), []

    def find(repository: str) -> Bucket:
        asked.append(repository)
        assert len(asked) == 1 or ending.wait(60)
        return KEYED

    buckets = Buckets(find)
    monkeypatch.setattr(s3_buckets, "BUCKET_TTL_SECONDS", 0.0)
    try:
        for _ in range(3):
            assert buckets.bucket_of("aws_lab") == KEYED
        assert not ending.is_set()
    finally:
        ending.set()


@pytest.mark.parametrize("kind", ["withdrawn", "refused"])
def test_a_bucket_that_alyx_withdraws_is_not_used(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    repositories = Repositories()
    buckets = Buckets(repositories.find)
    monkeypatch.setattr(s3_buckets, "BUCKET_TTL_SECONDS", 0.0)
    assert buckets.bucket_of("aws_lab") == KEYED
    is_refused = kind == "refused"
    repositories.result = lambda: AlyxCredentials("log in") if is_refused else NotFound("no bucket")
    buckets.bucket_of("aws_lab")
    wait_until(lambda: not buckets._single_flight._in_flight)
    with pytest.raises(DataServerCredentials if is_refused else ServerError):
        buckets.bucket_of("aws_lab")


def test_readers_do_not_wait_longer_for_alyx_than_for_s3() -> None:
    ending = threading.Event()

    def find(repository: str) -> Bucket:
        ending.wait(60)
        return KEYED

    buckets = Buckets(find)
    try:
        with pytest.raises(BucketUnknown, match="does not say which bucket"):
            buckets.bucket_of("aws_lab", 0.1)
        assert not ending.is_set()
    finally:
        ending.set()
    assert buckets.bucket_of("aws_lab") == KEYED


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_of_alyx_is_not_one_of_s3(
    open_content: Open, transport: Transport, kind: str
) -> None:
    """Files of other buckets are read, with no probe and no pause."""
    repositories = Repositories(FAILURES[kind])
    with ScriptedServer({f"/{PUBLIC}/b.npy": served(DATA)}) as server:
        source = open_source(transport, server.url, repositories.find)
        content = open_content(source=source)

        def dataset(url: str) -> Dataset:
            return dataset_of(server, DATA, f"/{url[-5:]}", replicas=(Replica("aws_lab", url),))

        with pytest.raises(Unreachable, match="which bucket the repository aws_lab has"):
            read_all(content, dataset("alyx-s3://aws_lab/a.npy"))
        assert read_all(content, dataset(f"s3://{PUBLIC}/b.npy")) == DATA
        assert [each.headers.get("range") for each in server.requests] == [None]
        with pytest.raises(BucketUnknown):  # S3 was not asked
            source.probe("alyx-s3://aws_lab/a.npy", 5.0)


@pytest.mark.parametrize(
    ("result", "key"),
    [
        (lambda: NotFound("no such repository"), "a.npy"),
        (lambda: AlyxCredentials("the login is refused"), "a.npy"),
        (Bucket(PRIVATE), "a.npy"),
        (KEYED, "../a.npy"),
    ],
    ids=["no bucket", "no login", "no keys", "no request"],
)
def test_a_probe_for_which_s3_is_not_asked_shows_nothing(
    transport: Transport,
    result: Bucket | Callable[[], OnefsError],
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All buckets have one circuit, and S3 may be down."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with ScriptedServer({f"/{PRIVATE}/b.npy": DENIED}) as server:
        source = open_source(transport, server.url, Repositories(result).find)
        with pytest.raises((DataServerCredentials, ServerError)):
            source.probe(f"alyx-s3://aws_lab/{key}", 5.0)
        assert server.requests == []
        open_source(transport, server.url, Repositories().find).probe("alyx-s3://aws/b.npy", 60.0)
        assert len(server.requests) == 1


def test_other_replicas_are_tried_if_no_thread_can_ask_alyx(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buckets = Buckets(Repositories().find)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(BucketUnknown, match="no more threads"):
            buckets.bucket_of("aws_lab")
    assert buckets.bucket_of("aws_lab") == KEYED


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_wrong_copy_rejects_no_file_while_the_bucket_is_unknown(
    open_content: Open, transport: Transport
) -> None:
    repositories = Repositories(FAILURES["no answer"])
    with ScriptedServer({"/a.npy": served(OTHER)}) as server:
        content = open_content(source=open_source(transport, server.url, repositories.find))
        s3_replica = Replica("aws_lab", "alyx-s3://aws_lab/a.npy")
        replicas = (s3_replica, Replica("flatiron_lab", f"{server.url}/a.npy"))
        dataset = dataset_of(server, DATA, "/a.npy", replicas=replicas)
        with pytest.raises(BucketUnknown):
            read_all(content, dataset)
        assert content.state(dataset)[0] == "remote"


def test_a_file_that_is_refused_does_not_ask_alyx_again(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "KEYS_RECHECK_SECONDS", 0.0)
    repositories = Repositories()
    routes = {f"/{PRIVATE}/a.npy": DENIED, f"/{PRIVATE}/b.npy": served(DATA)}
    with ScriptedServer(routes) as server:
        source = open_source(transport, server.url, repositories.find)
        for _ in range(2):
            with pytest.raises(DataServerCredentials):
                read(source, "alyx-s3://aws_lab/a.npy")
        assert read(source, "alyx-s3://aws_lab/b.npy") == DATA
    assert repositories.asked == ["aws_lab"]


@pytest.mark.parametrize("has_failed", [False, True])
def test_keys_that_are_refused_are_requested_again(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, has_failed: bool
) -> None:
    """If Alyx fails meanwhile, the old keys are tried again."""
    monkeypatch.setattr(s3, "KEYS_RECHECK_SECONDS", 0.0)
    repositories = Repositories()
    with ScriptedServer({f"/{PRIVATE}/a.npy": [EXPIRED, served(DATA)]}) as server:
        source = open_source(transport, server.url, repositories.find)
        with pytest.raises(DataServerCredentials, match="S3 refuses the keys"):
            read(source, "alyx-s3://aws_lab/a.npy")
        new = Bucket(PRIVATE, "us-east-1", Secret("AKIANEW"), Secret("the new key of the bucket"))
        repositories.result = FAILURES["500"] if has_failed else new
        assert read(source, "alyx-s3://aws_lab/a.npy") == DATA
        signed = [each.headers["authorization"] for each in server.requests]
        assert ["AKIANEW" in each for each in signed] == [False, not has_failed]
    assert repositories.asked == ["aws_lab", "aws_lab"]

"""S3: addresses, signatures, keys, regions and errors."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from onefs.config.bucket import Bucket, parse_bucket
from onefs.config.secret import Secret, redact
from onefs.download.sources.by_scheme import SourcesByScheme
from onefs.download.sources.http import HttpSource
from onefs.download.sources.interface import ByteRequest, Source
from onefs.download.sources.s3 import S3Source
from onefs.download.sources.s3_buckets import Buckets
from onefs.download.sources.s3_client import S3Client, endpoint_of, object_url
from onefs.errors import (
    DataServerCredentials,
    MissingLibrary,
    OnefsError,
    ServerError,
    Throttled,
    UsageError,
)
from onefs.http import HostAuth, Transport
from onefs.model import Replica
from tests import s3_servers
from tests.content.conftest import Open, login
from tests.content.ranged_file import dataset_of, read_all, served
from tests.download.conftest import DATA
from tests.download.sources.wires import with_http
from tests.s3_servers import ACCESS_KEY, PRIVATE, PUBLIC, SECRET_KEY, S3Server
from tests.scripted_server import Script, ScriptedServer, answer, unauthorized

LONG_KEY = "/".join(["x" * 199] * 5)
KEYS = [
    "a b/c+d#e%20.npy",
    "é/日本/ü.npy",
    "data/lab/#2020-01-01#/x.y.npy",
    "=&?;:@$,!'()*~",
    LONG_KEY,
]
OBJECTS = {f"{bucket}/{key}": key.encode() for bucket in (PUBLIC, PRIVATE) for key in KEYS}
KEYED = Bucket(PRIVATE, "us-east-1", Secret(ACCESS_KEY), Secret(SECRET_KEY))


@pytest.fixture(scope="module")
def signing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_servers.rclone(tmp_path_factory.mktemp("s3"), OBJECTS, signed=True) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_servers.rclone(tmp_path_factory.mktemp("s3"), OBJECTS, signed=False) as server:
        yield server


@pytest.fixture(scope="module")
def amazon_like_server() -> Iterator[S3Server]:
    with s3_servers.moto(OBJECTS) as server:
        yield server


def source_of(transport: Transport, endpoint: str, bucket: Bucket = KEYED) -> S3Source:
    return S3Source(S3Client(transport, endpoint), Buckets(lambda repository: bucket))


def read(source: Source, url: str) -> bytes:
    with source.open(ByteRequest(url, 20.0)) as body:
        return b"".join(body.iter_chunks())


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
@pytest.mark.parametrize(
    "kind",
    ["signing_server", "open_server", pytest.param("amazon_like_server", marks=pytest.mark.long)],
)
def test_any_key_is_read(
    request: pytest.FixtureRequest, transport: Transport, kind: str, key: str
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    source = source_of(transport, server.endpoint)
    path = quote(key, safe="/")
    urls = [f"alyx-s3://aws_lab/{path}"]
    urls += [] if server.checks_signatures else [f"s3://{PUBLIC}/{path}"]
    for url in urls:
        assert read(source, url) == key.encode()
        with source.open(ByteRequest(url, 20.0, 1, 3, len(key.encode()))) as body:
            assert b"".join(body.iter_chunks()) == key.encode()[1:3]
            assert body.validator.startswith('"')


@pytest.mark.long
def test_a_private_bucket_of_amazon_refuses_a_request_without_signature(
    amazon_like_server: S3Server, transport: Transport
) -> None:
    public_name = Bucket(PRIVATE.replace("private", "public"))
    assert public_name.is_public
    with pytest.raises(DataServerCredentials):
        S3Client(transport, amazon_like_server.endpoint).get(_Unsigned(PRIVATE), KEYS[0], 20.0)


class _Unsigned(Bucket):
    @property
    def is_public(self) -> bool:
        return True


def test_wrong_keys_are_named_as_such(signing_server: S3Server, transport: Transport) -> None:
    bucket = Bucket(PRIVATE, "us-east-1", Secret(ACCESS_KEY), Secret("anything else"))
    source = source_of(transport, signing_server.endpoint, bucket)
    with pytest.raises(DataServerCredentials, match="S3 refuses the keys"):
        read(source, f"alyx-s3://aws_lab/{quote(KEYS[0])}")


def test_the_keys_of_the_user_are_used_for_a_bucket_without_keys(
    signing_server: S3Server, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{PRIVATE}/{quote(KEYS[0])}"
    with pytest.raises(DataServerCredentials, match="aws configure"):
        read(source_of(transport, signing_server.endpoint), url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert read(source_of(transport, signing_server.endpoint), url) == KEYS[0].encode()
    assert SECRET_KEY not in redact(f"a log line with {SECRET_KEY}")


def test_without_botocore_another_replica_is_read(
    open_content: Open, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        source = with_http(source_of(transport, server.url), transport)
        url = f"s3://{PRIVATE}/x.npy"
        content = open_content(source=source, small_file=0)
        dataset = dataset_of(server, DATA)
        both = (Replica("aws_lab", url), *dataset.replicas)
        assert read_all(content, dataset_of(server, DATA, replicas=both)) == DATA
        assert [request.target for request in server.requests if "x.npy" in request.target] == []
    with pytest.raises(MissingLibrary, match=r"pip install 'onefs\[s3\]'"):
        read(source, url)


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint", "url"),
    [
        ("a-public", "us-east-1", "", "https://a-public.s3.us-east-1.amazonaws.com/k%20%23/%C3%A9"),
        ("a.public", "eu-west-1", "", "https://s3.eu-west-1.amazonaws.com/a.public/k%20%23/%C3%A9"),
        ("A_public", "us-east-1", "", "https://s3.us-east-1.amazonaws.com/A_public/k%20%23/%C3%A9"),
        ("a", "cn-north-1", "", "https://s3.cn-north-1.amazonaws.com.cn/a/k%20%23/%C3%A9"),
        ("a-public", "x", "http://h:9/base", "http://h:9/base/a-public/k%20%23/%C3%A9"),
    ],
)
def test_addresses(bucket: str, region: str, endpoint: str, url: str) -> None:
    assert object_url(bucket, "k #/é", region, endpoint) == url


def test_the_endpoint_of_the_environment() -> None:
    assert endpoint_of({}) == ""
    assert endpoint_of({"ONEFS_S3_ENDPOINT": "http://minio:9000/"}) == "http://minio:9000"
    with pytest.raises(UsageError):
        endpoint_of({"ONEFS_S3_ENDPOINT": "ftp://minio"})


def _region_in_body(status: int = 400) -> Script:
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    return answer(body, status)


MOVED: dict[str, Script] = {
    "in the body": _region_in_body(),
    "in a header": answer(b"", 400, x_amz_bucket_region="eu-west-1"),
    "301": answer(b"<Error/>", 301, x_amz_bucket_region="eu-west-1"),
    "307": answer(b"", 307, Location=f"https://{PRIVATE}.s3.eu-west-1.amazonaws.com/x.npy"),
}


@pytest.mark.parametrize("kind", MOVED)
def test_another_region_is_asked_once_and_remembered(transport: Transport, kind: str) -> None:
    scripts = {f"/{PRIVATE}/x.npy": [MOVED[kind], served(DATA)]}
    with ScriptedServer(scripts) as server:
        source = source_of(transport, server.url)
        for _ in range(2):
            assert read(source, "alyx-s3://aws_lab/x.npy") == DATA
        signed = [request.headers["authorization"] for request in server.requests]
        assert ["/us-east-1/s3/" in each for each in signed] == [True, False, False]
        assert all("/eu-west-1/s3/" in each for each in signed[1:])
        assert not any(SECRET_KEY in str(request) for request in server.requests)


def test_no_password_is_sent_to_a_bucket(transport: Transport) -> None:
    """Not even if the server asks for it."""
    with ScriptedServer({f"/{PUBLIC}/x.npy": unauthorized()}) as server:
        http = HttpSource(transport, HostAuth(login(), [server.url], loopback=True))
        s3 = source_of(transport, server.url)
        source = SourcesByScheme({"http": http, "s3": s3})
        with pytest.raises(DataServerCredentials):
            read(source, f"s3://{PUBLIC}/x.npy")
        assert ["authorization" in request.headers for request in server.requests] == [False]


def test_a_region_that_changes_forever_is_an_error(transport: Transport) -> None:
    with ScriptedServer({f"/{PRIVATE}/x.npy": _region_in_body()}) as server:
        bucket = Bucket(PRIVATE, "eu-west-1", Secret(ACCESS_KEY), Secret(SECRET_KEY))
        with pytest.raises(ServerError, match="AuthorizationHeaderMalformed"):
            read(source_of(transport, server.url, bucket), "alyx-s3://aws_lab/x.npy")
        assert len(server.requests) == 1


def test_a_refusal_is_not_the_absence_of_a_file(transport: Transport) -> None:
    """Without permission to list, S3 answers 403 for a key that does not exist."""
    denied = answer(b"<Error><Code>AccessDenied</Code></Error>", 403)
    with (
        ScriptedServer({f"/{PUBLIC}/x.npy": denied}) as server,
        pytest.raises(DataServerCredentials, match="is not in the bucket, or the bucket does not"),
    ):
        read(source_of(transport, server.url), f"s3://{PUBLIC}/x.npy")


def test_slow_down_is_a_request_to_wait(transport: Transport) -> None:
    body = b"<Error><Code>SlowDown</Code></Error>"
    with ScriptedServer({f"/{PUBLIC}/x.npy": answer(body, 503, Retry_After=7)}) as server:
        with pytest.raises(Throttled) as caught:
            read(source_of(transport, server.url), f"s3://{PUBLIC}/x.npy")
        assert caught.value.retry_after == 7


def test_keys_are_secrets() -> None:
    secret = "AnotherSecretOfTheTests+0123456789abcdef"
    record = {"bucket_name": "b", "Access key ID": "AKIA", "Secret access key": secret}
    bucket = parse_bucket(record)
    assert bucket is not None
    assert bucket.secret_key == secret
    assert secret not in repr(bucket)
    assert secret not in redact(f"an error with {secret}")
    with pytest.raises(TypeError):
        pickle.dumps(bucket)


@pytest.mark.parametrize(
    "record",
    [{}, {"bucket_name": ""}, {"bucket_name": 7}, {"bucket_name": "a/b"}, {"region_name": "x"}],
)
def test_a_record_without_bucket(record: dict[str, object]) -> None:
    assert parse_bucket(record) is None


def test_half_a_pair_of_keys_is_no_key() -> None:
    bucket = parse_bucket({"bucket_name": "b-public", "Access key ID": "AKIA"})
    assert bucket is not None
    assert bucket.is_public


@pytest.mark.parametrize("url", ["s3://", "s3://bucket", "s3:///key", "alyx-s3:///x"])
def test_an_address_without_bucket_or_key_is_an_error(transport: Transport, url: str) -> None:
    with pytest.raises(OnefsError):
        read(source_of(transport, "http://127.0.0.1:9"), url)

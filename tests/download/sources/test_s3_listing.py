"""Lists of keys: pages, names, and invalid answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onefs.config.bucket import Bucket
from onefs.download.sources import s3_listing
from onefs.download.sources.s3_client import S3Client
from onefs.download.sources.s3_listing import MAX_PAGE_BYTES, S3Lister
from onefs.errors import OnefsError, ServerError, TooLarge
from onefs.http import Transport
from tests import s3_servers
from tests.s3_pages import page_of
from tests.s3_servers import PRIVATE, PUBLIC, S3Server
from tests.scripted_server import ScriptedServer, answer

NAMES = ["a b", "c+d", "e#f", "g%20h", "é", "日本", "z" * 200]
OBJECTS = {f"{PUBLIC}/data/{name}.npy": name.encode() for name in NAMES}
OBJECTS |= {f"{PUBLIC}/data/more/{number}.npy": b"x" for number in range(3)}
OBJECTS[f"{PUBLIC}/other.npy"] = b"y"


@pytest.fixture
def transport() -> Iterator[Transport]:
    with Transport() as found:
        yield found


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_servers.rclone(tmp_path_factory.mktemp("s3"), OBJECTS, signed=False) as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    private = {path.replace(PUBLIC, PRIVATE): data for path, data in OBJECTS.items()}
    with s3_servers.moto(OBJECTS | private) as server:
        yield server


@pytest.mark.parametrize("kind", ["rclone", pytest.param("moto", marks=pytest.mark.long)])
def test_a_server_lists_its_keys(
    request: pytest.FixtureRequest, transport: Transport, kind: str
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    lister = S3Lister(S3Client(transport, server.endpoint))
    for bucket in (Bucket(PUBLIC), server.private) if kind == "moto" else (Bucket(PUBLIC),):
        found = {each.key: each.size for each in lister.objects(bucket, "data/")}
        expected = {
            path.partition("/")[2]: len(data) for path, data in OBJECTS.items() if "/data/" in path
        }
        assert found == expected
        objects, folders = lister.folder(bucket, "data/")
        assert sorted(each.key for each in objects) == sorted(f"data/{n}.npy" for n in NAMES)
        assert folders == ["data/more/"]
        assert list(lister.objects(bucket, "nothing/")) == []


@pytest.mark.parametrize("total", [2_500, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_thousand_keys_take_one_request(transport: Transport, total: int) -> None:
    with ScriptedServer({f"/{PUBLIC}/": page_of(1000, total)}) as server:
        lister = S3Lister(S3Client(transport, server.url))
        count = 0
        for count, each in enumerate(lister.objects(Bucket(PUBLIC), "data/"), start=1):
            assert each.key == f"data/{count - 1:06} #+é"
        assert count == total
        assert len(server.requests) == -(-total // 1000)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sorry</html>",
        b"<ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult/>',
        '<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult/>'.encode("utf-16"),
        b"<ListBucketResult/>" + b" " * 2000 + b"<x/>",
        b'<?xml version="1.0" encoding="no-such"?><ListBucketResult/>',
    ],
    ids=range(10),
)
def test_an_invalid_list_is_an_error_and_not_empty(transport: Transport, body: bytes) -> None:
    with ScriptedServer({f"/{PUBLIC}/": answer(body)}) as server:
        with pytest.raises(ServerError, match="is invalid"):
            list(S3Lister(S3Client(transport, server.url)).objects(Bucket(PUBLIC), "x/"))
        assert len(server.requests) == 1


def test_a_page_that_is_too_large_is_an_error(transport: Transport) -> None:
    with (
        ScriptedServer({f"/{PUBLIC}/": answer(b" " * (MAX_PAGE_BYTES + 1))}) as server,
        pytest.raises(TooLarge),
    ):
        list(S3Lister(S3Client(transport, server.url)).objects(Bucket(PUBLIC), "x/"))


def test_a_server_that_ignores_the_limit_of_a_page_sends_no_endless_list(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_listing, "MAX_KEYS", 2500)
    item = b"<Contents><Key>a</Key><Size>1</Size></Contents>"
    body = b"<ListBucketResult>" + item * 3000 + b"</ListBucketResult>"
    with ScriptedServer({f"/{PUBLIC}/": answer(body)}) as server:
        lister = S3Lister(S3Client(transport, server.url))
        for listed in (lister.objects, lister.folder):
            with pytest.raises(TooLarge, match="more than 2500 keys"):
                list(listed(Bucket(PUBLIC), "x/"))


def test_a_list_in_circles_ends(transport: Transport) -> None:
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
    )
    with ScriptedServer({f"/{PUBLIC}/": answer(body)}) as server:
        with pytest.raises(ServerError, match="has no end"):
            list(S3Lister(S3Client(transport, server.url)).objects(Bucket(PUBLIC), "x/"))
        assert len(server.requests) == 2


def test_a_page_that_fails_once_is_requested_again(transport: Transport) -> None:
    slow_down = answer(b"<Error><Code>SlowDown</Code></Error>", 503)
    good = page_of(2, 5)
    scripts = {f"/{PUBLIC}/": [good, slow_down, answer(b"", 500), good]}
    with ScriptedServer(scripts) as server:
        found = list(S3Lister(S3Client(transport, server.url)).objects(Bucket(PUBLIC), "x/"))
        assert len(found) == 5
        assert len(server.requests) == 5


def test_a_list_that_fails_is_an_error(transport: Transport) -> None:
    denied = answer(b"<Error><Code>AccessDenied</Code></Error>", 403)
    with (
        ScriptedServer({f"/{PUBLIC}/": [page_of(2, 5), denied]}) as server,
        pytest.raises(OnefsError),
    ):
        list(S3Lister(S3Client(transport, server.url)).objects(Bucket(PUBLIC), "x/"))

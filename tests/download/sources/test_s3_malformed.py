"""Malformed buckets, keys and answers: errors of one replica, so that the next one is read."""

from __future__ import annotations

import pytest

from onefs.config.bucket import Bucket, parse_bucket
from onefs.config.secret import Secret
from onefs.download.replicas import REPLICA_ERRORS
from onefs.download.sources.interface import ByteRequest
from onefs.download.sources.s3 import S3Source
from onefs.download.sources.s3_buckets import Buckets
from onefs.download.sources.s3_client import S3Client
from onefs.errors import DataServerCredentials, OnefsError, ServerError
from onefs.http import Transport
from onefs.model import Replica
from tests.content.conftest import Open
from tests.content.ranged_file import dataset_of, read_all, served
from tests.download.conftest import DATA
from tests.download.sources.wires import with_http
from tests.s3_servers import ACCESS_KEY, PRIVATE, PUBLIC, SECRET_KEY
from tests.scripted_server import Script, ScriptedConnection, ScriptedServer, answer

RECORD = {
    "bucket_name": PRIVATE,
    "region_name": "us-east-1",
    "Access key ID": ACCESS_KEY,
    "Secret access key": SECRET_KEY,
}
KEYED = Bucket(PRIVATE, "us-east-1", Secret(ACCESS_KEY), Secret(SECRET_KEY))
#: buckets and URLs for which no right request can be sent
MALFORMED: dict[str, tuple[Bucket, str]] = {
    "region with a newline": (Bucket(PRIVATE, "us-east-1\n"), "x.npy"),
    "key with a newline": (
        Bucket(PRIVATE, "us-east-1", Secret(f"{ACCESS_KEY}\n"), Secret(SECRET_KEY)),
        "x.npy",
    ),
    "key with a letter": (
        Bucket(PRIVATE, "us-east-1", Secret("AKIAÉ日"), Secret(SECRET_KEY)),
        "x.npy",
    ),
    "key with a surrogate": (
        Bucket(PRIVATE, "us-east-1", Secret("AKIA\udc80\ud800"), Secret("x\ud800")),
        "x.npy",
    ),
    "name with a space": (Bucket("lab public"), "x.npy"),
    "name with a slash": (Bucket("lab-public/../../x"), "x.npy"),
    "name with a surrogate": (Bucket("public\ud800"), "x.npy"),
    "long path": (KEYED, "é" * 3000),
    "dots": (KEYED, "a/../x.npy"),
    "dot": (KEYED, "a/./x.npy"),
    "escaped dots": (KEYED, "%2e%2e/lab-public/x.npy"),
    "surrogates": (KEYED, "a\udc80\ud800.npy"),
    "control characters": (KEYED, "a%00%0a%0d.npy"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_cannot_be_requested_is_an_error_of_its_replica(open_content: Open, kind: str) -> None:
    bucket, path = MALFORMED[kind]
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server, Transport() as transport:
        # an address of Amazon's contains the region
        client = S3Client(transport, "" if kind == "region with a newline" else server.url, {})
        source = with_http(S3Source(client, Buckets(lambda repository: bucket)), transport)
        content = open_content(source=source)
        replicas = (
            Replica("aws_lab", f"alyx-s3://aws_lab/{path}"),
            Replica("flatiron_lab", f"{server.url}/a.b.npy"),
        )
        assert read_all(content, dataset_of(server, DATA, replicas=replicas)) == DATA
        assert all("alyx-s3" not in each.target for each in server.requests)
        with pytest.raises(REPLICA_ERRORS) as caught:
            source.open(ByteRequest(replicas[0].url, 20.0)).__enter__()
        assert SECRET_KEY not in str(caught.value)
        assert ACCESS_KEY not in str(caught.value)


def test_an_invalid_answer_about_a_repository_is_an_error_of_its_replica(
    transport: Transport,
) -> None:
    def find(repository: str) -> Bucket:
        raise UnicodeEncodeError("utf-8", repository, 0, 1, "surrogates not allowed")

    source = S3Source(S3Client(transport, "http://127.0.0.1:9", {}), Buckets(find))
    with pytest.raises(ServerError, match="which bucket the repository"):
        source.open(ByteRequest("alyx-s3://aws_lab/x.npy", 20.0)).__enter__()


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n"])
def test_spaces_around_the_values_of_a_bucket_are_ignored(space: str) -> None:
    record = {name: f"{space}{value}{space}" for name, value in RECORD.items()}
    assert parse_bucket(record) == KEYED


@pytest.mark.parametrize("name", RECORD)
@pytest.mark.parametrize("value", ["attacker.com/#", "é", "a b", "a\nb", "\ud800", "..", "", None])
def test_an_invalid_value_of_a_bucket_is_not_used(name: str, value: object) -> None:
    bucket = parse_bucket({**RECORD, name: value})
    if name == "bucket_name":
        assert bucket is None
    elif name == "region_name":
        assert bucket == Bucket(PRIVATE, "", Secret(ACCESS_KEY), Secret(SECRET_KEY))
    elif value not in ("attacker.com/#", ".."):  # these are valid as keys
        assert bucket == Bucket(PRIVATE, "us-east-1")


@pytest.mark.parametrize("bucket", ["..", ".", "a b", "%2e%2e", "a%0ab", "%2Fx"])
def test_an_invalid_name_in_an_address_is_an_error(transport: Transport, bucket: str) -> None:
    source = S3Source(
        S3Client(transport, "http://127.0.0.1:9", {}), Buckets(lambda repository: KEYED)
    )
    with pytest.raises(ServerError, match="names no bucket and key"):
        source.open(ByteRequest(f"s3://{bucket}/x.npy", 20.0)).__enter__()


def test_a_file_that_a_gateway_refuses_by_a_condition_is_read_elsewhere(
    open_content: Open, transport: Transport
) -> None:
    """onefs sends no condition that leads to the status 412."""
    routes = {f"/{PUBLIC}/x.npy": answer(b"", 412), "/a.b.npy": served(DATA)}
    with ScriptedServer(routes) as server:
        source = S3Source(S3Client(transport, server.url, {}), Buckets(lambda repository: KEYED))
        content = open_content(source=with_http(source, transport), small_file=0)
        replicas = (
            Replica("aws_lab", f"s3://{PUBLIC}/x.npy"),
            Replica("flatiron_lab", f"{server.url}/a.b.npy"),
        )
        assert read_all(content, dataset_of(server, DATA, replicas=replicas)) == DATA


def test_an_error_text_that_trickles_is_not_read_to_its_end(transport: Transport) -> None:
    """Each byte comes in time, but the text would take ten seconds, or days."""
    sent = []

    def trickle(talk: ScriptedConnection) -> None:
        talk.head(403, Content_Length=100)
        for _ in range(100):
            talk.send(b"x")
            sent.append(1)
            talk.pause(0.1)

    with ScriptedServer({f"/{PRIVATE}/x.npy": trickle}) as server:
        with pytest.raises(DataServerCredentials):
            S3Client(transport, server.url, {}).get(KEYED, "x.npy", 0.5)
        assert len(sent) < 100


def _moved(code: str, status: int) -> Script:
    body = f"<Error><Code>{code}</Code><Region>eu-west-1</Region></Error>"
    return answer(body.encode(), status)


@pytest.mark.parametrize("status", [500, 400, 403])
def test_a_region_is_kept_if_it_answers_for_the_bucket(transport: Transport, status: int) -> None:
    """Not if a server on the way has named it, and the region knows nothing of the bucket."""
    moved, failed = _moved("AuthorizationHeaderMalformed", 400), _moved("AccessDenied", status)
    with ScriptedServer({f"/{PRIVATE}/x.npy": [moved, failed, answer(b"bytes")]}) as server:
        client = S3Client(transport, server.url, {})
        with pytest.raises(OnefsError) as caught:
            client.get(KEYED, "x.npy", 20.0)
        assert isinstance(caught.value, DataServerCredentials) is (status == 403)
        client.get(KEYED, "x.npy", 20.0).__exit__()
        last = server.requests[-1].headers["authorization"]
        assert ("/eu-west-1/" in last) is (status == 403)

"""The embedded laboratory as a public bucket: what an S3 client and ``onefs demo serve`` get."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import requests

from onefs.demo.alyx_rows import with_uuid
from onefs.demo.public_servers import PublicServers
from onefs.demo.s3_server import BUCKET_NAME
from onefs.demo.synthetic.plan import BEHAVIOUR_TAG, REPEATED_SITE_TAG, TUTORIAL_EID
from tests.public_database import FewSessions, serve_public

ROOT = Path(__file__).parents[2]
SECRET = "data/mainenlab/secret.npy"
#: keys with everything that a key may hold
ODD = ["odd/a b#c?.npy", "odd/é&<>.npy", "odd/%23.npy", f"odd/{'n' * 1000}"]
EXTRA = {SECRET: b"secret", **{key: key.encode() for key in ODD}}


@pytest.fixture(scope="module")
def source() -> FewSessions:
    return FewSessions()


@pytest.fixture(scope="module")
def servers() -> Iterator[PublicServers]:
    with serve_public(denied={SECRET}, extra=EXTRA) as running:
        yield running


def dataset(source: FewSessions) -> tuple[str, str, int]:
    """Return the key, md5 and size of a dataset."""
    row = next(r for r in source.datasets(TUTORIAL_EID) if r.name == "spikes.times.npy")
    key = f"data/mainenlab/Subjects/{with_uuid(row.file_records[0].relative_path, row.id)}"
    return key, row.hash, row.file_size or 0


def get(servers: PublicServers, key: str, **headers: str) -> requests.Response:
    return requests.get(f"{servers.bucket_url}/{quote(key)}", headers=headers, timeout=60)


def listed(servers: PublicServers, **parameters: str) -> ET.Element:
    """Return one page of ListObjectsV2, without namespaces."""
    query = {"list-type": "2", **{key.replace("_", "-"): v for key, v in parameters.items()}}
    answer = requests.get(servers.bucket_url, params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return ET.fromstring(
        answer.text.replace(' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', "")
    )


def code_of(answer: requests.Response) -> tuple[int, str | None]:
    return answer.status_code, ET.fromstring(answer.content).findtext("Code")


def test_an_object_is_served_whole_and_by_ranges(
    servers: PublicServers, source: FewSessions
) -> None:
    key, md5, size = dataset(source)
    whole = get(servers, key)
    assert (whole.status_code, len(whole.content)) == (200, size)
    assert hashlib.md5(whole.content).hexdigest() == md5
    assert whole.headers["ETag"] == f'"{md5}"'
    part = get(servers, key, Range="bytes=100-199")
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{size}"
    head = requests.head(f"{servers.bucket_url}/{key}", timeout=60)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(size))
    # S3 ignores several ranges
    assert get(servers, key, Range="bytes=0-1,5-6").content == whole.content
    # the file server of the public data needs no password, and has the same bytes
    inside = key.removeprefix("data/")
    assert requests.get(f"{servers.data_url}/{inside}", timeout=60).content == whole.content


def test_errors_are_xml_as_those_of_s3(servers: PublicServers, source: FewSessions) -> None:
    key, _, size = dataset(source)
    assert code_of(get(servers, "data/none.npy")) == (404, "NoSuchKey")
    assert code_of(get(servers, SECRET)) == (403, "AccessDenied")
    assert code_of(get(servers, key, Range=f"bytes={size}-")) == (416, "InvalidRange")
    assert code_of(get(servers, key, **{"If-Match": '"other"'})) == (412, "PreconditionFailed")
    put = requests.put(f"{servers.bucket_url}/data/new.npy", data=b"x", timeout=60)
    assert code_of(put) == (403, "AccessDenied")
    assert code_of(requests.get(servers.bucket_url, timeout=60)) == (501, "NotImplemented")


def test_keys_with_any_character_are_served_and_listed(servers: PublicServers) -> None:
    for key in ODD:
        assert get(servers, key).content == key.encode()
    page = listed(servers, prefix="odd/", encoding_type="url")
    keys = [each.text for each in page.iter("Key")]
    assert keys == [quote_plus(key, safe="/~") for key in sorted(ODD, key=str.encode)]


def test_a_listing_has_folders_and_pages(servers: PublicServers) -> None:
    top = listed(servers, prefix="caches/openalyx/2", delimiter="/")
    folders = [each.findtext("Prefix") for each in top.iter("CommonPrefixes")]
    assert folders == [f"caches/openalyx/{tag}/" for tag in (BEHAVIOUR_TAG, REPEATED_SITE_TAG)]
    assert not list(top.iter("Contents"))
    keys: list[str | None] = []
    token: dict[str, str] = {}
    while True:
        page = listed(servers, prefix="odd/", max_keys="1", **token)
        keys += [each.text for each in page.iter("Key")]
        if page.findtext("IsTruncated") == "false":
            break
        token = {"continuation_token": page.findtext("NextContinuationToken") or ""}
    assert keys == sorted(ODD, key=str.encode)
    after = listed(servers, prefix="odd/", start_after=sorted(ODD, key=str.encode)[0])
    assert after.findtext("KeyCount") == str(len(ODD) - 1)


def test_the_tables_are_those_of_the_laboratory(
    servers: PublicServers, source: FewSessions
) -> None:
    pytest.importorskip("pyarrow")
    info: dict[str, Any] = get(servers, "caches/openalyx/cache_info.json").json()
    assert info["tables"]["sessions"]["nrecs"] == len(source.sessions())
    tagged = f"caches/openalyx/{REPEATED_SITE_TAG}"
    of_tag = get(servers, f"{tagged}/cache_info.json").json()
    assert of_tag["database_tags"] == [REPEATED_SITE_TAG]
    assert 0 < of_tag["tables"]["datasets"]["nrecs"] < info["tables"]["datasets"]["nrecs"]
    archive = zipfile.ZipFile(io.BytesIO(get(servers, f"{tagged}/cache.zip").content))
    assert {"sessions.pqt", "datasets.pqt"} <= set(archive.namelist())
    assert code_of(get(servers, "caches/openalyx/none/cache.zip")) == (404, "NoSuchKey")


def test_a_request_to_alyx_is_recorded(servers: PublicServers) -> None:
    servers.clear_requests()
    assert requests.get(f"{servers.bucket.url}/sessions", timeout=60).status_code == 404
    assert [each.path for each in servers.requests_to("alyx")] == ["/sessions"]


def test_boto3_reads_and_lists_the_bucket(servers: PublicServers, source: FewSessions) -> None:
    boto3 = pytest.importorskip("boto3")
    options = pytest.importorskip("botocore.config").Config(
        signature_version=pytest.importorskip("botocore").UNSIGNED,
        s3={"addressing_style": "path"},
    )
    ClientError = pytest.importorskip("botocore.exceptions").ClientError
    client = boto3.client(
        "s3", endpoint_url=servers.bucket.url, region_name="us-east-1", config=options
    )
    key, md5, _ = dataset(source)
    answer = client.get_object(Bucket=BUCKET_NAME, Key=key)
    assert hashlib.md5(answer["Body"].read()).hexdigest() == md5
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET_NAME, Prefix="odd/", PaginationConfig={"PageSize": 2}
    )
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    assert keys == sorted(ODD, key=str.encode)
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=BUCKET_NAME, Key="none")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.get_object(Bucket=BUCKET_NAME, Key=SECRET)


def test_the_command_serves_the_bucket(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    command = [sys.executable, "-c", "from onefs.cli import main; main()", "demo", "serve"]
    process = subprocess.Popen(
        [*command, "--as-public", f"--access-log={log}"], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready.keys() == {"bucket_url", "data_url"}
        query = "list-type=2&prefix=caches/openalyx/2&delimiter=/"
        assert requests.get(f"{ready['bucket_url']}?{query}", timeout=60).ok
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["server"], line["path"]) == ("bucket", f"/{BUCKET_NAME}?{query}")

"""File records of Alyx's repositories on S3, and the buckets of these repositories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from onefs.alyx import parsing
from onefs.alyx.client import AlyxClient
from onefs.alyx.s3_records import s3_url
from onefs.alyx.tokens import FixedToken
from onefs.config.secret import Secret
from onefs.errors import NotFound, ServerError
from onefs.http import Transport
from onefs.model import Replica, Repository, shown_url
from tests.scripted_server import ScriptedServer, answer_json

ID = "c8df1577-0b76-4277-ab91-76482c7fdc42"
KEY = f"data/lab/Subjects/KS023/2019-12-11/001/alf/#r#/spikes.times.{ID}.npy"
SECRET = "TheSecretOfTheTests/0123456789abcdefghij"


def record(**values: Any) -> dict[str, Any]:
    return {
        "data_repository": "aws_lab",
        "data_repository_path": "data/lab/Subjects/",
        "relative_path": "KS023/2019-12-11/001/alf/#r#/spikes.times.npy",
        "data_url": None,
        "exists": True,
        **values,
    }


def test_the_key_is_that_of_one() -> None:
    """The UUID is before the extension, as ONE's add_uuid_string puts it."""
    alfiles = pytest.importorskip("one.alf.path")
    from pathlib import PurePosixPath

    path = PurePosixPath("data/lab/Subjects/", record()["relative_path"])
    assert alfiles.add_uuid_string(path, ID).as_posix() == KEY
    assert s3_url(record(), ID) == f"alyx-s3://aws_lab/{KEY}"
    assert s3_url(record(relative_path=KEY.removeprefix("data/lab/Subjects/")), ID).endswith(KEY)


@pytest.mark.parametrize(
    ("values", "is_on_s3"),
    [
        ({}, True),
        ({"data_url": "https://b.s3.us-east-1.amazonaws.com/data/x.npy"}, True),
        ({"data_url": "https://files.lab.org/aws/x.npy"}, False),
        ({"data_url": "http:///"}, False),
        ({"data_repository": "flatiron_lab"}, False),
        ({"data_repository_path": None}, False),
        ({"relative_path": ""}, False),
        ({"relative_path": "x" * 20_000}, False),
        ({"relative_path": 7}, False),
    ],
)
def test_which_records_are_on_s3(values: dict[str, Any], is_on_s3: bool) -> None:
    assert bool(s3_url(record(**values), ID)) is is_on_s3


def test_buckets_come_first_as_in_one() -> None:
    row = {
        "id": ID,
        "name": "spikes.times.npy",
        "file_records": [
            {"data_repository": "flatiron_lab", "data_url": "https://f/x.npy", "exists": True},
            record(),
            record(data_repository="aws_other", data_url="http://host/y.npy"),
        ],
    }
    names = ("flatiron_lab", "aws_lab", "aws_other")
    known = {name: Repository(name, "", False) for name in names}
    claimed = parsing.parse_dataset(row, ID).claimed_replicas
    replicas = parsing.usable_replicas(claimed, known)
    assert [each.repository for each in replicas] == ["aws_lab", "flatiron_lab", "aws_other"]
    assert unquote(replicas[0].url) == f"alyx-s3://aws_lab/{KEY}"
    assert "#" not in replicas[0].url
    assert shown_url(replicas) == "https://f/x.npy"  # for programs that can only use http
    assert shown_url(replicas[:1]) == replicas[0].url
    assert shown_url(()) == ""
    assert isinstance(replicas[0], Replica)


@pytest.mark.parametrize(
    ("name", "globus_is_personal", "is_personal"),
    [("aws_lab", None, False), ("aws_lab", True, True), ("lto_tape", None, True)],
)
def test_a_repository_on_s3_without_endpoint_is_no_tape(
    name: str, globus_is_personal: bool | None, is_personal: bool
) -> None:
    row = {"name": name, "globus_is_personal": globus_is_personal}
    assert parsing.parse_repository(row).personal is is_personal


def test_keys_are_not_in_messages() -> None:
    with pytest.raises(ServerError) as caught:
        parsing.parse_repository({"json": {"Secret access key": SECRET}, "name": None})
    assert SECRET not in str(caught.value)


@pytest.fixture
def transport() -> Iterator[Transport]:
    with Transport() as found:
        yield found


def served(**repositories: dict[str, Any] | None) -> ScriptedServer:
    return ScriptedServer(
        {
            f"/data-repository/{name}": answer_json({"name": name, "json": described})
            for name, described in repositories.items()
        }
    )


PRIVATE = {"bucket_name": "b-private", "region_name": "eu-west-1"}
KEYS = {"Access key ID": "AKIA", "Secret access key": SECRET}


def test_the_bucket_of_a_repository(transport: Transport) -> None:
    public = {"bucket_name": "b-public"}
    with served(
        aws_lab=PRIVATE | KEYS, aws_open=public, aws_none=None, aws_cortexlab=PRIVATE | KEYS
    ) as server:
        client = AlyxClient(transport, server.url, FixedToken("token"))
        found = client.bucket("aws_lab")
        assert (found.name, found.region, found.access_key) == ("b-private", "eu-west-1", "AKIA")
        assert found.secret_key == SECRET
        assert client.bucket("aws_open").is_public
        assert len(server.requests) == 2
        # as in ONE, which has one repository with the bucket and the keys for all
        assert client.bucket("aws_none") == client.bucket("aws_unknown") == found


def test_keys_are_for_their_own_bucket(transport: Transport) -> None:
    other = {"bucket_name": "c-private"}
    with served(aws_lab=other, aws_cortexlab=PRIVATE | KEYS) as server:
        client = AlyxClient(transport, server.url, FixedToken("token"))
        assert client.bucket("aws_lab").name == "c-private"
        assert client.bucket("aws_lab").access_key == Secret("")


def test_a_database_without_buckets(transport: Transport) -> None:
    with served(aws_cortexlab=None, aws_lab={}) as server:
        client = AlyxClient(transport, server.url, FixedToken("token"))
        with pytest.raises(NotFound, match="names no bucket of the data repository aws_lab"):
            client.bucket("aws_lab")

"""Recorded rows of Alyx are parsed into the model."""

from __future__ import annotations

import pytest

from onefs.alyx import parsing
from onefs.errors import ServerError
from onefs.model import Replica, Repository

EID = "18619a05-41c1-4ec1-9aee-e01fc22ca10b"
DATASET = "1a98d619-efb4-439f-9781-ffe64662fdd4"
FLATIRON = Repository("flatiron_cortexlab", "http://host/public/cortexlab/Subjects/", False)
AWS = Repository("aws_cortexlab", "http://s3/aws/cortexlab/Subjects/", False)
RIG = Repository("cortexlab_SR", "", True)
KNOWN = {repository.name: repository for repository in (FLATIRON, AWS, RIG)}


def dataset_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "url": f"http://127.0.0.1:8800/datasets/{DATASET}",
        "name": "spikes.depths.npy",
        "created_datetime": "2019-12-11T13:31:27",
        "auto_datetime": "2026-11-22T06:10:48.539565",
        "dataset_type": "spikes.depths",
        "collection": "alf/probe00",
        "session": f"http://127.0.0.1:8800/sessions/{EID}",
        "file_size": 48128,
        "hash": "8BE75B1DB6142B5D760393E93C91D976",
        "file_records": [],
        "revision": "",
        "default_dataset": False,
        "qc": "WARNING",
    }
    return {**row, **changes}


def test_a_dataset_row_is_parsed() -> None:
    found = parsing.parse_dataset(dataset_row(), EID).dataset
    assert found.id == DATASET
    assert (found.name, found.collection, found.revision) == (
        "spikes.depths.npy",
        "alf/probe00",
        "",
    )
    assert found.size == 48128
    assert found.md5 == "8be75b1db6142b5d760393e93c91d976"
    assert found.default is False
    assert found.qc == "WARNING"
    assert found.mtime == 1576071087.0  # 2019-12-11T13:31:27, treated as UTC


@pytest.mark.parametrize("hash_", ["", None, "abc", "z" * 32])
def test_an_invalid_digest_is_ignored(hash_: object) -> None:
    assert parsing.parse_dataset(dataset_row(hash=hash_), EID).dataset.md5 == ""


def test_an_unknown_size_is_none_and_never_0() -> None:
    assert parsing.parse_dataset(dataset_row(file_size=None), EID).dataset.size is None


def test_only_files_that_exist_are_listed_as_replicas() -> None:
    records = [
        {"data_repository": "flatiron_cortexlab", "data_url": "http://host/a", "exists": True},
        {"data_repository": "aws_cortexlab", "data_url": "http://s3/a", "exists": False},
    ]
    assert parsing.parse_dataset(dataset_row(file_records=records), EID).claimed_replicas == (
        ("flatiron_cortexlab", "http://host/a"),
    )


def test_usable_replicas_are_on_servers_that_serve_them() -> None:
    claimed = [
        ("cortexlab_SR", "http://anyurl.org/rubbish"),
        ("aws_cortexlab", "http://s3/a.npy"),
        ("flatiron_cortexlab", "http://host/a.npy"),
        ("flatiron_cortexlab", ""),
        ("never_heard_of", "http://elsewhere/a.npy"),
    ]
    assert parsing.usable_replicas(claimed, KNOWN) == (
        Replica("flatiron_cortexlab", "http://host/a.npy"),
        Replica("aws_cortexlab", "http://s3/a.npy"),
    )


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://h/p/#2020-08-31#/a.npy", "http://h/p/%232020-08-31%23/a.npy"),
        ("http://h:8801/p/a b?c%.npy", "http://h:8801/p/a%20b%3Fc%25.npy"),
        ("https://h/caf\u00e9.npy", "https://h/caf%C3%A9.npy"),
        ("http://h/\udcff.npy", "http://h/%FF.npy"),
    ],
)
def test_urls_are_escaped(written: str, sent: str) -> None:
    assert parsing.escape_url(written) == sent


def test_a_session_row_is_parsed() -> None:
    row = {
        "id": EID,
        "subject": "KS023",
        "start_time": "2019-12-10T10:31:27.123456",
        "number": 1,
        "lab": "cortexlab",
        "projects": ["a", "b"],
        "url": f"http://x/sessions/{EID}",
        "task_protocol": "",
    }
    session, numbered = parsing.parse_session(row)
    assert (session.lab, session.subject, session.date, session.number) == (
        "cortexlab",
        "KS023",
        "2019-12-10",
        1,
    )
    assert numbered
    assert session.projects == ("a", "b")
    assert session.start_time == pytest.approx(1575973887.123456)


def test_rows_of_older_servers_are_parsed() -> None:
    """Rows had no id before May 2022, only one project, and no lab in 2019 (Alyx's git history)."""
    row = {"url": f"http://x/sessions/{EID}", "subject": "a", "project": "p", "number": None}
    session, numbered = parsing.parse_session({**row, "start_time": "2019-01-01T00:00:00"})
    assert session.eid == EID
    assert session.projects == ("p",)
    assert session.lab == ""
    assert not numbered


def test_a_repository_on_tape_counts_as_personal() -> None:
    row = {"name": "tape", "data_url": None, "globus_is_personal": None}
    assert parsing.parse_repository(row) == Repository("tape", "", True)


def test_an_invalid_row_is_an_error_that_shows_it() -> None:
    with pytest.raises(ServerError, match="without a UUID"):
        parsing.uuid_of({"url": "http://x/sessions/"})
    with pytest.raises(ServerError, match="'name'"):
        parsing.parse_dataset(dataset_row(name=5), EID)

"""Filters of probes, trajectories, channels, notes and regions in the synthetic laboratory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from onefs.demo.records import Login
from onefs.demo.rest import create_app
from onefs.demo.synthetic import SyntheticLaboratory
from tests.demo.raw_http import ask, served

_TRACED = "Ephys aligned histology track"


class Client:
    """A logged-in user, and one probe in the laboratory."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self.headers = {"Authorization": f"Token {token}", "Accept": "application/json"}
        self.probe = self.rows("/insertions?limit=1&name=probe01")[0]
        self.eid: str = self.probe["session"]

    def get(self, path: str, status: int = 200) -> Any:
        answer = ask(self.address, "GET", path, self.headers)
        assert answer.status == status, (path, answer.content[:300])
        return json.loads(answer.content)

    def rows(self, path: str) -> list[dict[str, Any]]:
        """Return the rows on the first page of a list. Fail if a row is repeated."""
        body = self.get(path)
        rows: list[dict[str, Any]] = body["results"]
        ids = {row["id"] for row in rows}
        assert len(ids) == len(rows) <= body["count"]
        return rows


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    login = Login()
    with served(create_app(SyntheticLaboratory(), login, data_url="http://127.0.0.1:1")) as address:
        body = f"username={login.username}&password={login.password}".encode()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Content-Length": str(len(body)),
        }
        token = json.loads(ask(address, "POST", "/auth-token", headers, body).content)["token"]
        yield Client(address, token)


def test_trajectories_of_a_session_are_those_of_its_probes(client: Client) -> None:
    rows = client.rows(f"/trajectories?session={client.eid}")
    assert sorted({row["probe_name"] for row in rows}) == ["probe00", "probe01"]
    assert {row["session"]["id"] for row in rows} == {client.eid}
    assert len(rows) == 8
    [one] = client.rows(
        f"/trajectories?session={client.eid}&probe=probe01&provenance={quote(_TRACED)}"
    )
    assert one["probe_insertion"] == client.probe["id"]
    assert client.get(f"/trajectories/{one['id']}") == one
    by_probe = client.rows(f"/trajectories?probe_insertion={client.probe['id']}")
    assert one["id"] in {row["id"] for row in by_probe}
    assert {row["probe_name"] for row in by_probe} == {"probe01"}


@pytest.mark.parametrize(
    "query",
    [
        "subject={subject}",
        "date={date}&experiment_number={number}",
        "subject={subject}&date={date}&experiment_number={number}&probe=probe01",
        "django=probe_insertion__session,{eid},provenance,70",
        "django=probe_insertion__session__subject__nickname,{subject},~provenance,70",
        "django=probe_insertion__name__icontains,PROBE01,provenance__gte,50",
        "project=ibl_neuropixel_brainwide_01",
        "theta=0&phi=180",
    ],
)
def test_filters_of_trajectories_find_some_and_not_all(client: Client, query: str) -> None:
    info = client.probe["session_info"]
    filled = query.format(
        subject=info["subject"], date=info["start_time"][:10], number=info["number"], eid=client.eid
    )
    rows = client.rows(f"/trajectories?limit=1000&{filled}")
    assert rows
    if "theta" not in query and "project" not in query:
        assert len(rows) < client.get("/trajectories?limit=1")["count"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/trajectories?provenance=Guessed", 500),
        ("/trajectories?session=1", 400),
        ("/trajectories?probe_insertion=1", 400),
        ("/trajectories?probe_insertion=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", 400),
        ("/trajectories?x=left", 400),
        ("/trajectories?date=yesterday", 500),
        ("/trajectories?django=provenience,70", 500),
        ("/trajectories/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", 404),
        ("/channels?brain_region=CA1", 400),
        ("/channels?probe_insertion=abc", 400),
        ("/channels/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", 404),
        ("/notes/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", 404),
        ("/brain-regions/1", 404),
        ("/brain-regions?descendants=nowhere", 500),
        ("/insertions?atlas_id=CA1", 400),
    ],
)
def test_values_that_alyx_refuses(client: Client, path: str, status: int) -> None:
    assert client.get(path, status)["status_code"] == status


def test_a_provenance_is_found_in_any_case(client: Client) -> None:
    assert client.rows("/trajectories?limit=1000&provenance=%20planned")


def test_channels_of_a_probe(client: Client) -> None:
    rows = client.rows(f"/channels?limit=1000&probe_insertion={client.probe['id']}")
    assert len({row["trajectory_estimate"] for row in rows}) == 1
    trajectory = rows[0]["trajectory_estimate"]
    ids = {row["id"] for row in rows}
    for query in (
        f"trajectory_estimate={trajectory}",
        f"django=trajectory_estimate__probe_insertion,{client.probe['id']}",
        f"django=trajectory_estimate__id,{trajectory}",
    ):
        assert {row["id"] for row in client.rows(f"/channels?limit=1000&{query}")} == ids
    assert client.get(f"/channels/{rows[0]['id']}") == rows[0]
    assert client.rows(f"/channels?session={client.eid}&axial=20&limit=1000")
    assert client.rows("/channels?lab=nowhere") == []
    unknown = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
    assert client.rows(f"/channels?probe_insertion={unknown}") == []


def test_regions_are_a_tree(client: Client) -> None:
    [region] = client.rows("/brain-regions?acronym=ca1")
    assert client.get(f"/brain-regions/{region['id']}") == region
    above = client.rows("/brain-regions?ancestors=CA1")
    assert [row["acronym"] for row in above][:2] == ["root", "grey"]
    assert region in above
    below = client.rows(f"/brain-regions?descendants={region['parent']}")
    assert {row["acronym"] for row in below} == {"CA", "CA1"}
    assert region in client.rows("/brain-regions?name=field")
    assert region in client.rows(f"/brain-regions?parent={region['parent']}")


@pytest.mark.parametrize(
    "query", ["atlas_acronym=ca1", "atlas_id=382", "atlas_name=hippocampal", "atlas_acronym=TH"]
)
def test_a_region_has_the_sessions_and_probes_recorded_there(client: Client, query: str) -> None:
    probes = client.rows(f"/insertions?limit=1000&{query}")
    sessions = client.rows(f"/sessions?limit=1000&{query}")
    assert client.probe["id"] in {row["id"] for row in probes}
    assert {row["session"] for row in probes} == {row["id"] for row in sessions}
    assert len(sessions) < client.get("/sessions?limit=1")["count"]


def test_a_region_without_channels_has_no_session(client: Client) -> None:
    assert client.rows("/sessions?atlas_acronym=nowhere") == []
    assert client.rows("/insertions?atlas_acronym=nowhere") == []


def test_notes_are_found_by_what_they_are_about(client: Client) -> None:
    [note] = client.rows(f"/notes?django=object_id,{client.eid}")
    assert client.get(f"/notes/{note['id']}") == note
    assert client.get(f"/sessions/{client.eid}")["notes"] == [note]
    assert note in client.rows("/notes?django=text__icontains,LOWERED")
    assert client.rows("/notes?django=text__icontains,lost") == []


@pytest.mark.parametrize(
    "query",
    [
        "session={eid}",
        "session={eid}&name=probe01",
        "django=session__subject__nickname,{subject},name,probe01",
        "django=json__extended_qc__alignment_count__gt,0,session,{eid}",
        "django=trajectory_estimate__provenance__gte,70,session,{eid}",
        "django=datasets__name__icontains,spikes.times,session,{eid}",
        "id={pid}",
        "serial={serial}&session={eid}",
    ],
)
def test_a_probe_is_found(client: Client, query: str) -> None:
    probe = client.probe
    filled = query.format(
        eid=client.eid,
        pid=probe["id"],
        serial=probe["serial"],
        subject=probe["session_info"]["subject"],
    )
    assert probe["id"] in {row["id"] for row in client.rows(f"/insertions?{filled}")}


def test_the_datasets_of_a_probe_are_tested(client: Client) -> None:
    pid, count = client.probe["id"], client.get("/insertions?limit=1")["count"]

    def found(query: str) -> set[str]:
        return {row["id"] for row in client.rows(f"/insertions?limit=1000&{query}")}

    for query in (
        "datasets=spikes.times.npy,clusters.channels.npy",
        "dataset_types=spikes.times,clusters.channels",
        "datasets=spikes.times.npy&dataset_qc_lte=CRITICAL",
        "dataset_qc_lte=CRITICAL&django=name,probe01",
    ):
        assert pid in found(query)
    for query in (
        "datasets=spikes.times.npy,no.such.npy,nor.this.npy",
        "dataset_types=spikes.times,no.such",
        # the behaviour is of the session, not of a probe
        "datasets=_ibl_wheel.position.npy",
        "tag=no such tag",
    ):
        assert pid not in found(query)
    repeated = client.get("/insertions?dataset_qc_lte=CRITICAL&limit=1")["count"]
    assert repeated > count
    assert client.get("/insertions?dataset_qc_lte=good", status=500)["status_code"] == 500

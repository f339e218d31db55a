"""The REST server in cases that are not recorded: listed sessions, pages, limits, safe filters."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from onefs.demo.records import DatasetRecord, Login, SessionRecord
from onefs.demo.rest import create_app
from onefs.demo.rest.cache_tables import CacheTables
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.errors import ApiError
from onefs.demo.rest.session_filters import select_sessions
from tests.demo.raw_http import Answer, ask, served
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.recordings import FILES

_K10 = "18619a05-41c1-4ec1-9aee-e01fc22ca10b"


class _Watched(RecordedSource):
    """A laboratory that records the sessions whose datasets were listed."""

    def __init__(self) -> None:
        super().__init__(as_recorded=True)
        self.asked: list[str] = []

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        self.asked.append(eid)
        return super().datasets(eid)


class _Simultaneous(RecordedSource):
    """A laboratory in which all sessions start at the same time."""

    def sessions(self) -> Sequence[SessionRecord]:
        first = super().sessions()[0]
        return [
            SessionRecord(
                eid=session.eid,
                lab=session.lab,
                subject=session.subject,
                start_time=first.start_time,
                number=1,
            )
            for session in super().sessions()
        ]


class Client:
    """A logged-in user on one server."""

    def __init__(self, address: str, username: str = "test_user") -> None:
        self.address = address
        self.token = json.loads(log_in(address, username).content)["token"]

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return ask(self.address, method, path, {"Authorization": f"Token {self.token}", **headers})

    def get(self, path: str) -> Any:
        answer = self.ask(path)
        assert answer.status == 200, answer.content
        return json.loads(answer.content)

    def walk(self, path: str) -> list[Any]:
        rows: list[Any] = []
        link: str | None = path
        while link:
            page = self.get(link.removeprefix(self.address))
            rows += page["results"]
            link = page["next"]
        return rows


def log_in(address: str, username: str) -> Answer:
    passwords = {LOGIN.username: LOGIN.password, **LOGIN.others}
    body = urlencode({"username": username, "password": passwords[username]}).encode()
    kind = "application/x-www-form-urlencoded"
    return ask(
        address,
        "POST",
        "/auth-token",
        {"Content-Type": kind, "Content-Length": str(len(body))},
        body,
    )


Serve = Callable[..., str]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Return a function: ``serve(source, throttle=...)`` returns the address of a new server."""
    with ExitStack() as stack:

        def start(source: RecordedSource, login: Login = LOGIN, **options: Any) -> str:
            app = create_app(source, login, data_url="http://127.0.0.1:9", **options)
            return stack.enter_context(served(app))

        yield start


@pytest.fixture(scope="module")
def client(serve: Serve) -> Client:
    return Client(serve(RecordedSource(as_recorded=True)))


def test_a_search_lists_datasets_of_no_more_sessions_than_needed(serve: Serve) -> None:
    source = _Watched()
    client = Client(serve(source))
    source.asked.clear()
    assert client.get("/sessions?lab=cortexlab&limit=5")["count"] == 21
    assert client.get("/sessions?django=subject__nickname,KS023")["count"] == 6
    assert source.asked == []
    assert client.get(f"/datasets?session={_K10}")["count"] == 75
    assert client.get(f"/datasets?django=session__in,['{_K10}']")["count"] == 75
    assert client.get("/datasets?subject=KS023&date=2019-12-10&experiment_number=1")["count"] == 75
    assert client.get("/sessions?dataset_types=spikes.times&subject=KS023&number=10")["count"] == 0
    assert set(source.asked) == {_K10, "c18b5cbe-777b-44c3-b5c1-2e8ad1637a15"}


def test_pages_of_an_unordered_list_miss_and_repeat_rows(client: Client) -> None:
    path = f"/datasets?session={_K10}"
    walked = client.walk(f"{path}&limit=10")
    assert len(walked) == 75
    assert 55 <= len({row["url"] for row in walked}) <= 65  # measured: 60
    assert len({row["url"] for row in client.walk(f"{path}&limit=1000")}) == 75


def test_pages_of_an_ordered_list_miss_nothing(client: Client) -> None:
    nicknames = [row["id"] for row in client.walk("/subjects?limit=2")]
    assert len(set(nicknames)) == len(nicknames) == 9


def test_sessions_of_one_time_come_in_any_order(serve: Serve) -> None:
    client = Client(serve(_Simultaneous()))
    walked = client.walk("/sessions?limit=7")
    assert len(walked) == 40
    assert len({row["id"] for row in walked}) < 40


def test_one_user_is_throttled_and_no_other(serve: Serve) -> None:
    address = serve(RecordedSource(as_recorded=True), throttle=2)
    client, other = Client(address), Client(address, "michele")
    assert [client.ask("/labs").status for _ in range(3)] == [200, 200, 429]
    refused = client.ask("/api/schema", Accept="application/json")
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert other.ask("/labs").status == 200
    assert log_in(address, "test_user").status == 200


def test_a_token_outlives_a_restart_and_follows_the_password(serve: Serve) -> None:
    first = Client(serve(RecordedSource(as_recorded=True)))
    restarted = Client(serve(RecordedSource(as_recorded=True)))
    assert first.token == restarted.token
    changed = Login(password="another")
    answer = ask(
        serve(RecordedSource(as_recorded=True), changed),
        "GET",
        "/labs",
        {"Authorization": f"Token {first.token}"},
    )
    assert (answer.status, json.loads(answer.content)["detail"]) == (403, "Invalid token.")


def test_names_that_are_not_utf8_are_served(serve: Serve) -> None:
    name = os.fsdecode(b"caf\xe9")

    class Odd(RecordedSource):
        def sessions(self) -> Sequence[SessionRecord]:
            first, second, *_ = super().sessions()
            return [replace(first, subject=name), second]

    client = Client(serve(Odd(as_recorded=True)))
    page = client.get("/sessions?limit=1&subject=caf%E9")
    assert [row["subject"] for row in page["results"]] == [name]
    assert client.get("/sessions?limit=1&nosuch=caf%E9")["next"].endswith("nosuch=caf%E9&offset=1")


def test_a_connection_serves_several_requests(client: Client) -> None:
    connection = http.client.HTTPConnection(client.address.removeprefix("http://"), timeout=60)
    for _ in range(2):
        connection.request("GET", "/labs", headers={"Authorization": f"Token {client.token}"})
        response = connection.getresponse()
        assert response.status == 200
        assert len(response.read()) == int(response.headers["Content-Length"])
    connection.close()


def test_addresses_follow_the_host_and_the_file_server(client: Client) -> None:
    port = client.address.rpartition(":")[2]
    answer = client.ask("/sessions?limit=1", Host=f"localhost:{port}")
    assert json.loads(answer.content)["next"].startswith(f"http://localhost:{port}/sessions?")
    row = client.get(f"/datasets?session={_K10}&name=spikes.times.npy")["results"][0]
    assert row["file_records"][0]["data_url"].startswith("http://127.0.0.1:9/public/cortexlab/")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
        ("application/json", "application/json"),
        ("*/*", "application/vnd.oai.openapi"),
    ],
)
def test_the_description_needs_no_token(client: Client, accept: str, kind: str) -> None:
    answer = ask(client.address, "GET", "/api/schema", {"Accept": accept})
    assert answer.status == 200
    assert answer.headers.get_content_type() == kind
    document = json.loads(answer.content)
    assert document["openapi"] == "3.0.3"
    assert document["paths"]["/sessions/{eid}"]["get"]["parameters"][0]["in"] == "path"


def test_text_of_a_client_is_never_run(client: Client, tmp_path: Any) -> None:
    target = tmp_path / "built"
    attack = f"[__import__('pathlib').Path('{target}').touch()]"
    answer = client.ask(f"/sessions?django={quote('id__in,' + attack)}")
    assert answer.status == 500
    assert json.loads(answer.content)["detail"] == "name '__import__' is not defined"
    assert not target.exists()


@pytest.mark.parametrize("text", ["[1,", "[" * 500, "(1)+(2)", "[0x" + "f" * 3000 + "]", "[*a]"])
def test_strange_lists_are_refused_and_nothing_breaks(client: Client, text: str) -> None:
    answer = client.ask(f"/sessions?django={quote('number__in,' + text)}")
    assert answer.status == 500
    assert json.loads(answer.content)["detail"]


def test_cache_tables_are_absent_without_pyarrow(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    client = Client(serve(RecordedSource(as_recorded=True)))
    assert client.ask("/cache/info/").status == 404
    assert client.ask("/cache.zip").status == 404


@pytest.fixture(scope="module")
def database() -> DemoDatabase:
    return DemoDatabase(RecordedSource(as_recorded=True), FILES)


@pytest.mark.parametrize(
    ("lookup", "count"),
    [
        ("subject__nickname__startswith,KS", 10),
        ("subject__nickname__istartswith,ks", 10),
        ("subject__nickname__endswith,p01", 2),
        ("subject__nickname__iexact,ks023", 6),
        ("subject__nickname__contains,ks", 0),
        ("subject__lab__name,mainenlab", 11),
        ("~lab__name,mainenlab,~lab__name__startswith,church", 21),
        ("number__gt,1", 7),
        ("number__in,(2,10)", 6),
        ("number__range,[2,3]", 6),
        ("number,None", 1),
        ("number__isnull,False", 39),
        ("start_time__year,2018", 4),
        ("start_time__date__range,['2019-12-10','2019-12-11']", 4),
        ("start_time__gte,2023-12-31T22:00:00", 1),
        ("users__username__in,['olivier','ines']", 12),
        ("projects__name__icontains,practice", 9),
        ("data_dataset_session_related__isnull,True", 3),
        ("data_dataset_session_related__file_records__data_repository__name,aws_cortexlab", 1),
        (f"pk,{_K10}", 1),
        ("extended_qc__behavior,1", 13),
        ("json__POOP_COUNT__lt,10", 2),
        ("qc__gte,50", 2),
    ],
)
def test_lookups_find_the_right_number(database: DemoDatabase, lookup: str, count: int) -> None:
    assert len(select_sessions(database, {"django": lookup})) == count


@pytest.mark.parametrize(
    ("lookup", "detail"),
    [
        ("subject__nope,1", "Cannot resolve keyword 'nope' into field"),
        ("subject__nickname__date,1", "Unsupported lookup 'date'"),
        ("id,abc", "“abc” is not a valid UUID"),
        ("number,abc", "expected a number but got 'abc'"),
        ("start_time,abc", "“abc” value has an invalid format"),
        ("task_protocol__regex,*a", "invalid regular expression"),
        ("number__in,5", "is not iterable"),
        ("number__range,[1]", "not enough values"),
    ],
)
def test_invalid_lookups_are_refused(database: DemoDatabase, lookup: str, detail: str) -> None:
    with pytest.raises(ApiError) as refused:
        select_sessions(database, {"django": lookup})
    assert refused.value.status == 500
    assert detail in refused.value.body["detail"]


def test_cache_tables_follow_the_database() -> None:
    tables = CacheTables()
    known = DemoDatabase(RecordedSource(), FILES)
    built = tables.get(known)
    assert tables.get(known) is built
    source = _Simultaneous()
    assert (
        tables.get(DemoDatabase(source, FILES)).files["sessions.pqt"] != built.files["sessions.pqt"]
    )

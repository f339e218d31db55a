"""``one.alyx``: rows and records of Alyx's REST interface, compared with ONE-api's client."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from onefs.errors import NotFound, ReadOnly, Unreachable, UsageError
from onefs.mount.mount_registry import MountInfo
from onefs.one import ONE, OnefsWarning, alyx_rest
from onefs.one.rest_list import RestList
from onefs.one.rest_query import RestQuery, filter_text
from tests.cli.test_commands_get import LICKS, LicksOnNoServer
from tests.laboratories import account, alyx_requests, small_folder
from tests.one.conftest import EID, Open, arguments, set_home
from tests.one.opened import access_of
from tests.one.reference import open_reference
from tests.running import Home


@pytest.fixture(scope="module")
def reference(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_reference(servers, tmp_path_factory.mktemp("reference")).alyx


def paths(servers: Servers) -> list[str]:
    return [each.path for each in alyx_requests(servers)]


# -- the same rows


@pytest.mark.parametrize(
    "endpoint",
    [
        *("sessions", "insertions", "trajectories", "subjects", "labs", "users", "dataset-types"),
        *("tags", "projects", "revisions", "data-repository", "brain-regions", "locations"),
    ],
)
def test_lists_are_those_of_one_api(shared: ONE, reference: Any, endpoint: str) -> None:
    rows = shared.alyx.rest(endpoint, "list")
    assert isinstance(rows, list)
    assert rows == reference.rest(endpoint, "list")
    assert rows == shared.alyx.get(f"/{endpoint}") == shared.alyx.rest(f"{endpoint}?limit=250")


@pytest.mark.parametrize(
    "filters",
    [
        {"subject": "clns0730"},
        {"lab": "mainenlab", "task_protocol": "wheel"},
        {"date_range": ["2018-08-24", "2018-08-24"]},
        {"users": ["olivier", "test_user"]},
        {"id": EID},
        {"django": f"id__in,['{EID}']"},
        {"django": ["subject__nickname", "clns0730"]},
        {"id": EID, "django": "subject__nickname,clns0730"},
        {"django": None, "subject": "flowers"},
        {"number": 1, "limit": 500},
    ],
)
def test_filters_are_those_of_one_api(shared: ONE, reference: Any, filters: dict[str, Any]) -> None:
    rows = shared.alyx.rest("sessions", "list", **filters)
    assert rows == reference.rest("sessions", "list", **filters)
    assert 0 < len(rows) < 50


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("sessions", EID),
        ("sessions", f"/sessions/{EID}"),
        ("subjects", "clns0730"),
        ("labs", "mainenlab"),
    ],
)
def test_records_are_those_of_one_api(
    shared: ONE, reference: Any, endpoint: str, name: str
) -> None:
    assert shared.alyx.rest(endpoint, "read", name) == reference.rest(endpoint, "read", id=name)
    assert shared.alyx.rest(endpoint, "read", id=name) == shared.alyx.get(
        f"{shared.url}/{endpoint}/{name.rpartition('/')[2]}"
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("subject", ["a", "b"], "a,b"),
        (
            "date_range",
            [datetime.datetime(2020, 1, 2, 3), datetime.date(2020, 1, 3)],
            "2020-01-02,2020-01-03",
        ),
        ("django", {"n_trials__gte": 3, "lab__name": "x"}, "n_trials__gte,3,lab__name,x"),
        ("django", ["session__in", [UUID(EID)]], f"session__in,['{EID}']"),
        ("exists", True, "True"),
        ("session", UUID(EID), EID),
    ],
)
def test_values_become_text(name: str, value: Any, text: str) -> None:
    assert filter_text(name, value) == text


def test_attributes_are_those_of_one_api(shared: ONE, reference: Any) -> None:
    alyx = shared.alyx
    assert (alyx.user, alyx.base_url) == (reference.user, reference.base_url)
    assert alyx.is_logged_in
    assert alyx.cache_dir == shared.cache_dir
    assert set(alyx.rest_schemes.endpoints) >= {"sessions", "insertions", "trajectories"}
    assert alyx.rest_schemes.actions("sessions") == ["list", "read"]
    assert alyx.rest_schemes.field_names("sessions", "list") == (
        reference.rest_schemes.field_names("sessions", "list")
    )


def test_the_endpoints_are_printed(shared: ONE, capsys: pytest.CaptureFixture[str]) -> None:
    assert shared.alyx.rest() is None
    assert "trajectories\n" in capsys.readouterr().out
    assert shared.alyx.rest("sessions") is None
    assert capsys.readouterr().out == "list\nread\n"


# -- pages


def test_pages_are_requested_when_they_are_needed(shared: ONE, servers: Servers) -> None:
    servers.clear_requests()
    rows = shared.alyx.rest("sessions", "list", limit=8, no_cache=True)
    assert isinstance(rows, RestList)
    assert (len(rows), len(paths(servers))) == (50, 1)
    every = shared.alyx.rest("sessions", "list")
    servers.clear_requests()
    assert rows[:8] == every[:8]
    assert paths(servers) == []
    assert (rows[-1], rows[10:12], rows[9]) == (every[-1], every[10:12], every[9])
    assert paths(servers) == [
        "/sessions?limit=8&offset=48",
        "/sessions?limit=8&offset=8",
    ]
    assert list(rows) == every
    assert list(reversed(rows)) == every[::-1]
    assert len(paths(servers)) == 6
    with pytest.raises(IndexError):
        rows[50]


def test_a_list_without_order_is_whole(shared: ONE) -> None:
    rows = shared.alyx.rest("datasets", "list", subject="clns0730", limit=11)
    assert isinstance(rows, RestList)
    assert len({row["url"] for row in rows}) == len(rows)


REPEATED: dict[str, Any] = {"dataset_qc_lte": "CRITICAL", "limit": 5}


def test_rows_that_alyx_repeats_are_requested_once(
    opened: Open, shared: ONE, servers: Servers
) -> None:
    """Alyx repeats a row for each dataset that matches, without a look-up (``django``)."""
    expected = {row["id"] for row in shared.alyx.rest("insertions", "list", limit=1000)}
    with opened() as one:
        rows = one.alyx.rest("insertions", "list", **REPEATED)
        assert isinstance(rows, RestList)
        found = [row["id"] for row in rows]
        assert (len(found), set(found) <= expected) == (len(set(found)), True)
        assert len(found) == len(rows)
        sent = len(paths(servers))
        assert sent <= -(-len(rows) // 5) + 5
        assert [row["id"] for row in rows] == found
        assert len(paths(servers)) == sent
    with opened(mode="local") as offline:
        assert [row["id"] for row in offline.alyx.rest("insertions", "list", **REPEATED)] == found
    assert servers.requests == []


def test_a_list_without_order_is_whole_offline_too(opened: Open, servers: Servers) -> None:
    terms: dict[str, Any] = {"subject": "clns0730", "limit": 11}
    with opened() as one:
        found = {row["url"] for row in one.alyx.rest("datasets", "list", **terms)}
        servers.clear_requests()
        assert {row["url"] for row in one.alyx.rest("datasets", "list", **terms)} == found
        assert servers.requests == []
    with opened(mode="local") as one:
        rows = one.alyx.rest("datasets", "list", **terms)
        assert {row["url"] for row in rows} == found
        assert len(rows) == len(found)
    assert servers.requests == []


def test_rows_on_two_pages_are_completed_once() -> None:
    rows = [{"id": str(number // 3)} for number in range(9)]
    asked: list[int] = []

    def page(filters: Mapping[str, str]) -> dict[str, Any]:
        offset, limit = int(filters["offset"]), int(filters["limit"])
        return {"results": rows[offset : offset + limit]}

    def missing(seen: Set[str]) -> list[dict[str, Any]]:
        asked.append(len(seen))
        return [{"id": "new"}]

    listed = RestList(rows[:4], 9, page, missing, page_rows=4)
    for _ in range(3):
        assert [row["id"] for row in listed] == ["0", "1", "2", "new"]
    assert asked == [3]


def test_rows_that_have_vanished_end_a_list() -> None:
    rows = [{"id": str(number)} for number in range(6)]

    def page(filters: Mapping[str, str]) -> dict[str, Any]:
        return {"results": rows[int(filters["offset"]) :]}

    listed = RestList(rows[:4], 9, page, lambda _: (), page_rows=4)
    assert [row["id"] for row in listed] == [str(number) for number in range(6)]
    assert [row["id"] for row in reversed(listed)] == [str(number) for number in range(5, -1, -1)]
    assert listed[4:] == rows[4:]
    with pytest.raises(IndexError, match="has changed"):
        listed[8]


# -- what is stored


def test_a_page_of_a_thousand_rows_is_used_offline(opened: Open, servers: Servers) -> None:
    rows = [{"id": str(number), "json": "x" * 1600} for number in range(1000)]
    with opened() as one:
        key = alyx_rest._key(RestQuery("notes", {}))
        alyx_rest._store_answer(access_of(one), key, {"count": 1000, "results": rows})
    with opened(mode="local") as one:
        assert one.alyx.rest("notes", "list") == rows


def test_many_answers_drop_no_saved_search(opened: Open, servers: Servers) -> None:
    with opened() as one:
        found = one.search(users="olivier")
        for number in range(1100):
            alyx_rest._store_answer(access_of(one), f"rest/trajectories?id={number}", [])
    with opened(mode="local") as one:
        assert one.search(users="olivier") == found


def test_alyxs_schema_is_requested_once(opened: Open, servers: Servers) -> None:
    with opened(cache_rest=None) as one:
        (pid, *_) = one.search_insertions(subject="KS023")
        servers.clear_requests()
        one.alyx.rest("trajectories", "list", probe_insertion=pid)
        one.alyx.rest("trajectories", "list", provenance="Planned")
        assert [path.partition("?")[0] for path in paths(servers)] == ["/trajectories"] * 2
        for _ in range(2):
            one.alyx.rest("brain-regions", "list", acronym="CA1")
        assert [path for path in paths(servers) if "schema" in path] == ["/api/schema"]
    with opened(cache_rest=None) as one:
        one.alyx.rest("brain-regions", "list", acronym="CA1")
        assert [path for path in paths(servers) if "schema" in path] == []


def test_an_answer_is_used_for_some_minutes(opened: Open, servers: Servers) -> None:
    with opened() as one:
        first = one.alyx.rest("labs", "list")
        servers.clear_requests()
        assert one.alyx.rest("labs", "list") == first
        assert paths(servers) == []
        assert one.alyx.rest("labs", "list", no_cache=True) == first
        one.alyx.cache_mode = None
        assert one.alyx.cache_mode is None
        assert one.alyx.rest("labs", "list") == first
        assert paths(servers) == ["/labs", "/labs"]
    with opened(cache_rest=None) as one:
        one.alyx.rest("labs", "list")
        assert paths(servers) == ["/labs"]


def test_a_refreshed_database_is_asked_again(opened: Open, servers: Servers) -> None:
    with opened() as one:
        one.alyx.rest("labs", "list")
        servers.clear_requests()
        access_of(one).catalogue.invalidate(())
        one.alyx.rest("labs", "list")
        assert paths(servers) == ["/labs"]


@pytest.fixture(scope="module")
def offline(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ONE]:
    """A client that knows one session's listing, and one answer of Alyx."""
    with pytest.MonkeyPatch.context() as patch:
        set_home(tmp_path_factory.mktemp("offline"), patch)
        with ONE(**arguments(servers)) as one:
            one.list(EID)
            one.list(EID, "all")
            one.alyx.rest("insertions", "list", subject="KS023")
        with ONE(**arguments(servers), mode="local") as one:
            yield one


def test_offline_an_earlier_answer_is_used(offline: ONE, servers: Servers) -> None:
    servers.clear_requests()
    assert offline.alyx.rest("insertions", "list", subject="KS023")
    assert servers.requests == []
    assert not offline.alyx.is_logged_in


@pytest.mark.parametrize(
    ("endpoint", "filters"),
    [
        *(("sessions", {}), ("sessions", {"id": EID}), ("sessions", {"lab": "mainenlab"})),
        ("sessions", {"subject": "clns0730", "date_range": "2018-08-24,2018-08-24"}),
        ("sessions", {"django": f"id__in,['{EID}']"}),
    ],
)
def test_offline_known_sessions_are_listed(
    offline: ONE, reference: Any, endpoint: str, filters: dict[str, Any]
) -> None:
    theirs = reference.rest(endpoint, "list", **filters)
    assert offline.alyx.rest(endpoint, "list", **filters) == [
        row for row in theirs if row["id"] == EID
    ]


def test_offline_a_known_record_is_read(offline: ONE, reference: Any) -> None:
    assert offline.alyx.rest("sessions", "read", EID) == reference.rest("sessions", "read", id=EID)


def test_offline_known_datasets_are_listed(offline: ONE, reference: Any) -> None:
    mine = offline.alyx.rest("datasets", "list", session=EID)
    theirs = {row["url"]: row for row in reference.rest("datasets", "list", session=EID)}
    assert {row["url"] for row in mine} == theirs.keys()
    for row in mine:
        other = theirs[row["url"]]
        for key in row.keys() - {"id", "file_records", "revision"}:
            assert row[key] == other[key], key
        urls = {record["data_url"] for record in other["file_records"]}
        assert {record["data_url"] for record in row["file_records"]} <= urls
    name = "spikes.times.npy"
    assert [
        row["name"] for row in offline.alyx.rest("datasets", "list", session=EID, name=name)
    ] == [name]


def test_offline_names_are_listed(offline: ONE) -> None:
    assert offline.alyx.rest("subjects", "list") == [{"nickname": "clns0730"}]
    assert offline.alyx.rest("labs", "read", "mainenlab")["name"] == "mainenlab"
    assert {"name": "spikes.times"} in offline.alyx.rest("dataset-types", "list")
    with pytest.raises(NotFound):
        offline.alyx.rest("labs", "read", "nolab")


@pytest.mark.parametrize(
    ("endpoint", "filters"),
    [
        *(("insertions", {}), ("users", {}), ("datasets", {}), ("sessions", {"users": "olivier"})),
        *(("sessions", {"django": "n_trials__gte,3"}), ("subjects", {"lab": "mainenlab"})),
        ("sessions", {"id": EID, "lab": "mainenlab"}),
    ],
)
def test_offline_what_is_unknown_is_an_error(
    offline: ONE, endpoint: str, filters: dict[str, Any]
) -> None:
    with pytest.raises(Unreachable, match="neither stored nor in the catalogue"):
        offline.alyx.rest(endpoint, "list", **filters)


# -- what is refused


@pytest.mark.parametrize(
    "action", ["create", "update", "partial_update", "partial-update", "delete"]
)
def test_writes_are_refused(shared: ONE, servers: Servers, action: str) -> None:
    servers.clear_requests()
    with pytest.raises(ReadOnly, match="does not write"):
        shared.alyx.rest("sessions", action, id=EID, data={"narrative": "x"})
    for method in ("post", "put", "patch", "delete"):
        with pytest.raises(ReadOnly, match="does not write"):
            getattr(shared.alyx, method)(f"/sessions/{EID}")
    for endpoint in ("check-protected", "register-file", "sync-file-status", "new-download"):
        with pytest.raises(ReadOnly, match="does not write"):
            shared.alyx.rest(endpoint, "list")
        with pytest.raises(ReadOnly, match="does not write"):
            shared.alyx.get(f"/{endpoint}?file=x")
    assert servers.requests == []


def test_invalid_queries_are_errors(shared: ONE, servers: Servers) -> None:
    servers.clear_requests()
    for query in (("nosuch", "list"), ("sessions", "write")):
        with pytest.raises(UsageError):
            shared.alyx.rest(*query)
    with pytest.raises(UsageError, match="'sessions'"):
        shared.alyx.rest("session", "list")
    with pytest.raises(UsageError, match="not a URL of"):
        shared.alyx.get("https://elsewhere.example/sessions")
    assert servers.requests == []
    with pytest.warns(OnefsWarning, match="give its id"):
        assert shared.alyx.rest("sessions", "read") is None
    assert servers.requests == []


def test_a_missing_record_is_the_error_of_one_apis_client(shared: ONE, reference: Any) -> None:
    """ONE-api's own idiom: an HTTPError whose response has the status 404."""
    requests = pytest.importorskip("requests")
    unknown = "00000000-0000-4000-8000-000000000000"
    for alyx in (reference, shared.alyx):
        with pytest.raises(requests.exceptions.HTTPError) as caught:
            alyx.rest("sessions", "read", id=unknown)
        assert caught.value.response.status_code == 404
    error = caught.value
    assert isinstance(error, NotFound)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.response.status_code, again.errno) == (str(error), 404, error.errno)


def test_a_filter_that_alyx_ignores_is_a_warning(shared: ONE) -> None:
    with pytest.warns(OnefsWarning, match="has no filter nonsense"):
        shared.alyx.rest("sessions", "list", nonsense=1)


def test_the_rest_interface_belongs_to_its_client(shared: ONE, tmp_path: Path) -> None:
    alyx = shared.alyx
    assert repr(alyx) == f"AlyxRest({shared.url})"
    with pytest.raises(UsageError, match="cache_mode"):
        alyx.cache_mode = 3  # type: ignore[assignment]


def test_datasets_on_no_server_are_listed_without_alyx(tmp_path: Path) -> None:
    source = LicksOnNoServer(FolderLaboratory(small_folder(tmp_path / "data")))
    session, name = LICKS.split("/alf/")
    with Home(tmp_path / "home") as home, Servers(source) as servers:
        with ONE(**arguments(servers)) as one:
            eid = one.path2eid(f"/{session}")
            expected = one.alyx.rest("datasets", "list", session=eid)
            one.list(eid)
        with ONE(**arguments(servers), mode="local") as one:
            (row,) = one.alyx.rest("datasets", "list", session=eid, exists="")
            assert [(row["id"], row["url"])] == [
                (each["url"][-36:], each["url"]) for each in expected
            ]
        mounted = home.mount(**account(servers))
        with ONE.in_mount(MountInfo(str(mounted.path), mounted.pid, url="http://host")) as one:
            (row,) = one.alyx.rest("datasets", "list", session=eid)
            assert (row["id"], row["name"], row["file_records"]) == (None, name, [])

"""Names of sessions and datasets, compared with ONE-api over the embedded laboratory."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import Ambiguous, NotFound, Unreachable, UsageError
from onefs.mount.mount_registry import MountInfo
from onefs.one import ONE
from onefs.one.alf_paths import ALFPath
from tests.laboratories import TwinSessions, alyx_requests
from tests.one.conftest import EID, FLOWERS, REF, Open, arguments
from tests.one.reference import open_reference, plain
from tests.public_database import serve_public, variables_of
from tests.running import Home

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def reference(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_reference(servers, tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def reference_tables(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_reference(servers, tmp_path_factory.mktemp("reference"), "local")


@pytest.fixture(scope="module")
def sessions(shared: ONE) -> list[str]:
    return shared.search(limit=100)


def relative(client: Any, value: Any) -> Any:
    """Return a result with paths relative to the cache folder, and ids as text."""
    if isinstance(value, Path):
        return str(value.relative_to(client.cache_dir))
    if isinstance(value, dict):
        return {name: relative(client, each) for name, each in value.items()}
    return [relative(client, each) for each in value] if isinstance(value, list) else plain(value)


# -- sessions


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("eid2path", {}),
        ("get_details", {}),
        ("eid2ref", {}),
        ("eid2ref", {"parse": False}),
        ("eid2ref", {"as_dict": False}),
        ("eid2ref", {"as_dict": False, "parse": False}),
    ],
)
def test_every_session_is_named_as_in_one_api(
    shared: ONE, reference: Any, sessions: list[str], method: str, options: dict[str, Any]
) -> None:
    # ONE-api sends a request for each session, so that few are compared in most forms
    some = sessions if method == "get_details" else [EID, *sessions[::7]]
    mine = getattr(shared, method)(some, **options)
    assert relative(shared, mine) == relative(
        reference, getattr(reference, method)(some, **options)
    )
    assert getattr(shared, method)(UUID(some[3]), **options) == mine[3]


def test_every_path_and_ref_leads_back(
    shared: ONE, reference: Any, reference_tables: Any, sessions: list[str]
) -> None:
    paths, refs = shared.eid2path(sessions), shared.eid2ref(sessions, as_dict=False)
    assert shared.path2eid(paths) == sessions == shared.to_eid(paths) == shared.to_eid(refs)
    assert shared.ref2eid(refs) == sessions
    assert shared.ref2path(refs) == paths
    assert shared.path2ref(paths) == shared.ref2dict(refs)
    # ONE-api cuts a subject's name at its last dot
    plain_paths = [path for path in paths if "." not in path.subject]
    assert shared.path2ref(plain_paths) == reference.path2ref(plain_paths)
    assert shared.path2ref(str(paths[0]), as_dict=False) == reference.path2ref(
        str(paths[0]), as_dict=False
    )
    assert plain(reference_tables.path2eid(paths)) == sessions
    assert all(isinstance(path, ALFPath) for path in [*paths, shared.path(sessions[0])])


def test_the_whole_record_is_alyxs(shared: ONE, reference: Any) -> None:
    mine, theirs = shared.get_details(EID, full=True), reference.get_details(EID, full=True)
    assert mine == theirs


def test_details_have_keys_as_attributes_where_one_api_has_them(shared: ONE) -> None:
    ref = shared.eid2ref(EID)
    assert (ref.subject, ref.date, ref.sequence) == ("clns0730", datetime.date(2018, 8, 24), 1)
    assert shared.ref2dict(REF).copy() == ref == shared.path2ref(shared.path(EID))


def test_what_is_unknown_is_none_or_an_error(shared: ONE, reference: Any) -> None:
    path = "/data/lab/Subjects/clns0730/2018-08-24/099"
    assert shared.to_eid() is reference.to_eid() is None
    assert shared.to_eid(UNKNOWN) == UNKNOWN == str(reference.to_eid(UNKNOWN))
    for method, name in [
        *(("eid2path", UNKNOWN), ("path2eid", path), ("path2eid", "/tmp/x"), ("to_eid", path)),
        *(("path2ref", "/tmp/x"), ("path2record", path), ("dict2ref", {})),
    ]:
        assert getattr(shared, method)(name) is getattr(reference, method)(name) is None
    for method, name in [("get_details", UNKNOWN), ("ref2eid", "2018-08-24_9_clns0730")]:
        with pytest.raises(NotFound):
            getattr(shared, method)(name)
    for bad in ("nonsense", 3, {"subject": "x"}, "2018-08-24"):
        with pytest.raises(UsageError):
            shared.to_eid(bad)
        with pytest.raises((ValueError, AssertionError)):
            reference.to_eid(bad)
    with pytest.raises(UsageError):
        shared.eid2path(path)
    with pytest.raises(ValueError, match="Cannot parse"):
        reference.eid2path(path)


def test_other_names_of_a_session(shared: ONE, reference: Any) -> None:
    record = shared.get_details(EID)
    for name in (
        f"{shared.url}/sessions/{EID}",
        {"lab": "mainenlab", "subject": "clns0730", "number": 1, "date": "2018-08-24"},
        {"subject": "clns0730", "date": "2018-08-24", "sequence": "001"},
        record,
        f"{shared.path(EID)}/spikes.times.npy",
        "clns0730/2018-08-24/001",
        "/wronglab/Subjects/clns0730/2018-08-24/1",
    ):
        assert shared.to_eid(name) == str(reference.to_eid(name)) == EID, name


def test_of_two_sessions_on_one_number_each_has_its_path() -> None:
    twins = TwinSessions(SyntheticLaboratory())
    with Servers(twins) as servers, ONE(**arguments(servers)) as one:
        paths = one.eid2path(twins.eids)
        assert [path.name for path in paths] == ["001", "001~fe0b3320"]
        assert one.path2eid(paths) == list(twins.eids)
        with pytest.raises(Ambiguous, match="give one of these eids"):
            one.path2eid("/".join(paths[0].parts[-3:]))


def test_a_list_of_eids_costs_few_requests(opened: Open, servers: Servers) -> None:
    with opened() as one:
        eids = opened().search(limit=100)
        servers.clear_requests()
        one.get_details(eids)
        asked = [each.path for each in alyx_requests(servers)]
        # one for the sessions, and one for each subject, whose sessions may have the same number
        assert sum(path.startswith("/sessions?django") for path in asked) <= 1
        assert not any(path.startswith("/sessions?id=") for path in asked)


def test_subjects_are_those_of_the_database(shared: ONE, reference_tables: Any) -> None:
    assert shared.list_subjects() == reference_tables.list_subjects()


# -- references

_REFS = st.one_of(
    st.sampled_from([REF, "2018-08-24_001_a_b", "2018-8-4_1_x", "x", "", "2018-08-24_1234_x", 3]),
    st.fixed_dictionaries(
        {"subject": st.sampled_from(["KS-1", "a_b"])},
        optional={
            "date": st.sampled_from(["2018-08-24", datetime.date(2018, 8, 24)]),
            "sequence": st.sampled_from([1, "001"]),
            "number": st.sampled_from([2, "002"]),
            "start_time": st.sampled_from(["2018-08-24T10:00:00", datetime.datetime(2018, 8, 24)]),
        },
    ),
)


def _call(method: Any, *values: Any) -> Any:
    try:
        return method(*values)
    except Exception as error:
        return f"error {isinstance(error, Exception)}"


@settings(max_examples=60, deadline=None)
@given(_REFS)
@example([REF, "2018-08-24_2_x"])
def test_refs_are_converted_as_in_one_api(ref: Any) -> None:
    theirs = pytest.importorskip("one.converters").ConversionMixin
    assert ONE.is_exp_ref(ref) == theirs.is_exp_ref(ref)
    for method in ("ref2dict", "dict2ref"):
        mine, other = _call(getattr(ONE, method), ref), _call(getattr(theirs, method), ref)
        # a dict with a date as text and a number as int is an error there
        assert mine == other or (method == "dict2ref" and str(other).startswith("error"))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["/d/lab/Subjects/KS023/2020-01-01/001/alf", "a\\KS-1\\2020-01-02\\1", "x/y"])
    | st.text("ab/-_120", max_size=20)
)
def test_paths_become_refs_as_in_one_api(path: str) -> None:
    theirs = pytest.importorskip("one.converters").ConversionMixin
    assert _call(ONE.path2ref, path) == _call(theirs.path2ref, path)
    assert ONE.path2ref(path, as_dict=False) == theirs.path2ref(path, as_dict=False)


def test_a_subject_with_a_dot_is_whole() -> None:
    assert ONE.path2ref("lab/Subjects/my.mouse/2020-01-01/001").subject == "my.mouse"


# -- datasets


def _paths_of(client: Any, eid: str, names: list[str]) -> list[Path]:
    folder = client.eid2path(eid)
    return [folder / name for name in names]


def test_urls_and_records_of_every_dataset(
    shared: ONE, reference_tables: Any, sessions: list[str]
) -> None:
    for eid in (EID, FLOWERS, shared.to_eid("2019-12-20_1_KS023")):
        # a part of them, because ONE-api reads its table for each path
        names = reference_tables.list_datasets(eid, qc="CRITICAL")[::6]
        mine = _paths_of(shared, eid, names)
        theirs = _paths_of(reference_tables, eid, names)
        # a URL with a sign # would be cut there
        expected = [url.replace("#", "%23") for url in reference_tables.path2url(theirs)]
        assert shared.path2url(mine) == expected
        for own, path in zip(shared.path2record(mine[:3]), theirs, strict=False):
            record = reference_tables.path2record(path)
            assert own.name == plain(record.name)
            assert dict(own) == dict(record)
            assert shared.record2path(record) == shared.eid2path(eid) / record["rel_path"]
            assert shared.record2url(record) == shared.record2url(own)
        table = pd.DataFrame([reference_tables.path2record(path) for path in theirs[:3]])
        assert shared.record2path(table) == mine[:3]
        assert shared.record2url(table) == expected[:3]


def test_a_sessions_record(shared: ONE, reference_tables: Any) -> None:
    record = reference_tables.path2record(reference_tables.eid2path(EID))
    mine = shared.path2record(shared.path(EID))
    assert (mine.name, dict(mine)) == (EID, dict(record))
    assert list(mine.index) == list(record.index)
    assert shared.record2url(record) == reference_tables.record2url(record)
    assert shared.record2url(mine) == reference_tables.record2url(record)


def test_a_uuid_in_the_name_decides(shared: ONE) -> None:
    path = shared.path(EID) / "spikes.times.npy"
    record = shared.path2record(path)
    renamed = ALFPath("/elsewhere/spikes.times.npy").with_uuid(record.name[1])
    assert dict(shared.path2record(renamed)) == dict(record)
    assert shared.path2url(renamed) == shared.path2url(path)


def test_datasets_that_do_not_exist(shared: ONE) -> None:
    exceptions = pytest.importorskip("one.alf.exceptions")
    path = shared.path(EID) / "no.such.npy"
    assert shared.path2record(path) is None
    with pytest.raises(exceptions.ALFObjectNotFound):
        shared.path2url(path)
    with pytest.raises(UsageError, match="not a record"):
        shared.record2path(path)


# -- without requests, and in a mount


def test_offline_names_are_those_that_are_known(
    shared: ONE, servers: Servers, sessions: list[str]
) -> None:
    shared.eid2path(EID)
    shared.list(EID)
    servers.clear_requests()
    assert shared.eid2path([EID, UNKNOWN], query_type="local") == [shared.path(EID), None]
    assert shared.path2eid(shared.path(EID), query_type="local") == EID
    assert shared.path2eid("lab/Subjects/x/2020-01-01/001", query_type="local") is None
    assert shared.get_details(EID, query_type="local").subject == "clns0730"
    path = shared.path(EID) / "spikes.times.npy"
    assert shared.path2url(path, query_type="local") == shared.path2url(path)
    assert shared.path2url("lab/Subjects/x/2020-01-01/001/a.b.c", query_type="local") is None
    assert servers.requests == []
    with pytest.raises(UsageError, match="query_type"):
        shared.eid2path(EID, query_type="sometimes")


def test_a_path_without_lab_names_a_session(
    shared: ONE, reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONE-api: subject, date and number are enough, wherever the program runs."""
    name = "clns0730/2018-08-24/001"
    for folder in (tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        assert shared.list_datasets(name) == shared.list_datasets(EID)
        assert shared.path(name) == shared.path(EID)
        assert shared.to_eid(name) == plain(reference.to_eid(name)) == EID
        with pytest.raises(NotFound):
            shared.path("clns0730/2018-08-24/099")
    monkeypatch.chdir(shared.cache_dir)
    assert shared.path(f"mainenlab/Subjects/{name}") == shared.path(EID)


def test_names_in_another_users_mount(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        mounted = home.mount("--demo")
        with ONE.in_mount(MountInfo(str(mounted.path), mounted.pid, url="http://host")) as one:
            path = one.eid2path(EID)
            assert path == mounted.path / "mainenlab" / "clns0730" / "2018-08-24" / "001"
            assert one.path2eid(path) == one.to_eid(REF) == one.ref2eid(REF) == EID
            assert one.eid2ref(EID, as_dict=False) == REF
            assert one.get_details(EID)["task_protocol"] == "spontaneous_wheel1.0.0"
            assert one.get_details(EID, full=True)["id"] == EID
            assert "clns0730" in one.list_subjects()
            assert one.path2record(path / "spikes.times.npy").rel_path == "spikes.times.npy"
            assert one.path2url(path / "spikes.times.npy").startswith("http://127.0.0.1")
            assert one.alyx.rest("sessions", "read", EID)["id"] == EID
            assert [row["id"] for row in one.alyx.rest("sessions", "list", subject="clns0730")] == [
                EID
            ]
            assert "mainenlab" in [lab["name"] for lab in one.alyx.rest("labs", "list")]
            assert one.get_details(EID)["url"] == f"http://host/sessions/{EID}"
            rows = one.alyx.rest("datasets", "list", session=EID)
            assert len(rows) == len(one.list(EID, details=True))
            with pytest.raises(UsageError, match="mount, which cannot answer insertions"):
                one.alyx.rest("insertions", "list")
            assert not one.alyx.is_logged_in


def test_names_in_the_public_database(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_public() as servers:
        for name, value in variables_of(servers).items():
            monkeypatch.setenv(name, value)
        with ONE.public() as one:
            path = one.eid2path(EID)
            assert one.path2eid(path) == one.ref2eid(REF) == EID
            assert one.list_subjects() == ["ZM_1897", "clns0730"]
            assert one.get_details(EID)["projects"] == "ibl_tutorial"
            assert one.eid2path(UNKNOWN) is one.path2eid("a/b/2020-01-01/001") is None
            for method, unknown in (("get_details", UNKNOWN), ("ref2eid", "2018-08-24_2_clns0730")):
                with pytest.raises(NotFound):
                    getattr(one, method)(unknown)
            folder = f"{servers.data_url}/mainenlab/Subjects/clns0730/2018-08-24/001"
            assert one.record2url(one.path2record(path)) == folder
            assert one.path2url(path / "spikes.times.npy").startswith(f"{folder}/spikes.times.")
            assert [row["id"] for row in one.alyx.rest("sessions", "list", lab="mainenlab")]
            assert one.alyx.rest("datasets", "list", session=EID, name="spikes.times.npy")
            with pytest.raises(Unreachable, match="public database has no Alyx"):
                one.alyx.rest("insertions", "list")

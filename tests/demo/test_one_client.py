"""ONE-api's client with the REST server. It reads the API's description, then searches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.rest import create_app
from tests.demo.raw_http import served
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.recordings import FILES

one_api = pytest.importorskip("one.api")
webclient = pytest.importorskip("one.webclient")

_EID = "18619a05-41c1-4ec1-9aee-e01fc22ca10b"
_K09 = "d6ccedb7-336a-48b5-b348-32b8c5ca9ee1"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(create_app(RecordedSource(), LOGIN, data_url=FILES)) as address:
        yield address


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a new home folder, because ONE stores its settings in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))
    monkeypatch.setattr("one.params.CACHE_DIR_DEFAULT", str(tmp_path / "downloads"))
    (tmp_path / "home").mkdir()


@pytest.fixture
def settings(address: str, tmp_path: Path) -> dict[str, Any]:
    """Return the arguments for both of ONE's classes."""
    return {
        "base_url": address,
        "username": LOGIN.username,
        "password": LOGIN.password,
        "cache_dir": tmp_path / "cache",
        "silent": True,
        "cache_rest": None,
    }


@pytest.fixture
def alyx(settings: dict[str, Any]) -> Any:
    return webclient.AlyxClient(**settings)


@pytest.fixture
def one(settings: dict[str, Any]) -> Any:
    return one_api.OneAlyx(**settings, mode="remote")


def test_the_client_knows_our_endpoints(alyx: Any) -> None:
    assert {"sessions", "datasets", "labs", "subjects", "insertions"} <= set(alyx.list_endpoints())
    assert {"list", "read"} <= set(alyx.rest_schemes.actions("sessions"))
    assert {"users", "date_range", "django"} <= set(
        alyx.rest_schemes.field_names("sessions", "list")
    )


def test_sessions_are_listed_and_read(alyx: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ONE warns about a filter that is not in the description
        rows = alyx.rest(
            "sessions", "list", subject="KS023", date_range="2019-12-10,2019-12-10", limit=40
        )
    assert [row["number"] for row in rows] == [10, 2, 1]
    detail = alyx.rest("sessions", "read", id=_EID)
    assert detail["id"] == _EID
    assert len(detail["data_dataset_session_related"]) == 75


def test_datasets_of_several_sessions_in_one_list(alyx: Any) -> None:
    rows = alyx.rest("datasets", "list", django=f"session__in,['{_EID}','{_K09}']", limit=1000)
    assert len(rows) == 122
    assert {row["session"][-36:] for row in rows} == {_EID, _K09}


def test_a_long_list_comes_in_pages(alyx: Any) -> None:
    rows = alyx.rest("sessions", "list", limit=15)
    assert len({row["id"] for row in rows}) == 40


def test_a_row_by_its_key(alyx: Any) -> None:
    # the client asks for django=pk,<id>
    assert [row["id"] for row in alyx.rest("sessions", "list", id=_EID)] == [_EID]
    assert alyx.rest("data-repository", "read", id="flatiron_cortexlab")["name"]
    with pytest.raises(Exception, match="No Lab matches"):
        alyx.rest("labs", "read", id="nolab")


def test_a_wrong_password_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="authentication failed"):
        webclient.AlyxClient(**{**settings, "password": "wrong"})


def test_search_and_list_in_remote_mode(one: Any) -> None:
    eids = one.search(subject="KS023", date_range="2019-12-10", query_type="remote")
    assert str(eids[-1]) == _EID
    eids = one.search(
        datasets=["spikes.times.npy", "licks.times.npy"], lab="cortexlab", query_type="remote"
    )
    assert _EID in map(str, eids)
    names = one.list_datasets(_EID, collection="alf/probe00", query_type="remote")
    assert "alf/probe00/spikes.times.npy" in names
    assert "alf/probe00/#2020-08-31#/spikes.times.npy" in one.list_datasets(
        _EID, default_revisions_only=False, query_type="remote"
    )
    assert one.eid2ref(_EID, as_dict=False) == "2019-12-10_1_KS023"
    probes, labels = one.eid2pid(_EID)
    assert labels == ["probe00", "probe01"]
    assert one.pid2eid(probes[0])[1] == "probe00"


def test_cache_tables(one: Any, tmp_path: Path) -> None:
    one.mode = "auto"
    one.load_cache(clobber=True)
    assert (tmp_path / "cache" / "sessions.pqt").is_file()
    assert [str(eid) for eid in one.search(subject="KS023", number=10, query_type="local")] == [
        "c18b5cbe-777b-44c3-b5c1-2e8ad1637a15"
    ]
    local = one.list_datasets(_K09, query_type="local")
    assert "alf/_ibl_trials.choice.npy" in local
    # exists on a lab's own machine only, so that no table has it
    assert "alf/licks.times.npy" not in local
    assert len(one.search(lab="lab", query_type="local")) == 39

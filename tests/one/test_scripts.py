"""What public scripts do with ONE-api, beyond single verbs, done with ours and with ONE-api."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from onefs.config.settings import load_settings_file
from onefs.demo.servers import Servers
from onefs.one import ONE
from tests.one.conftest import EID, set_home
from tests.one.one_api_client import assert_same, remote_client

pytest.importorskip("one.api")

PROBES = "59832991-e2c0-485d-a614-685638968a88"


@pytest.fixture(scope="module")
def clients(
    shared: ONE, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Any]]:
    """Return ONE-api's client and ours."""
    folder = tmp_path_factory.mktemp("scripts")
    with pytest.MonkeyPatch.context() as patch:
        set_home(folder, patch)
        patch.setattr("one.params.CACHE_DIR_DEFAULT", str(folder / "downloads"))
        yield [remote_client(servers, folder / "cache"), shared]


def same(results: list[Any]) -> Any:
    theirs, ours = results
    assert_same(ours, theirs)
    return ours


def test_insertions_of_alyx_name_sessions(clients: list[Any]) -> None:
    pids = [one.alyx.rest("insertions", "list", lab="cortexlab")[0]["id"] for one in clients]
    same(pids)
    eid, name = same([one.pid2eid(pids[0]) for one in clients])
    assert isinstance(eid, str)
    same([one.list_datasets(eid, collection=f"alf/{name}*") for one in clients])
    trajectories = [
        one.alyx.rest("trajectories", "list", probe_insertion=pids[0], limit=5) for one in clients
    ]
    assert len(same([list(map(dict, each)) for each in trajectories]))


def test_trials_are_a_table_and_arrays(clients: list[Any]) -> None:
    trials = [one.load_object(PROBES, "trials", collection="alf") for one in clients]
    same([each.to_df() for each in trials])
    same([each["feedbackType"] for each in trials])
    same([list(each.keys()) for each in trials])
    name = "_ibl_trials.choice.npy"
    same([one.load_dataset(PROBES, name, collection="alf") for one in clients])
    wheel = [one.load_collection(PROBES, "alf", object="wheel") for one in clients]
    same([each["wheel"]["position"] for each in wheel])


def test_a_table_of_trials(clients: list[Any]) -> None:
    names = clients[1].search(datasets="_ibl_trials.table.pqt")
    assert names
    tables = [
        one.load_dataset(names[0], "_ibl_trials.table.pqt", collection="alf") for one in clients
    ]
    assert len(same(tables)) > 1
    trials = [one.load_object(names[0], "trials", collection="alf") for one in clients]
    same([each.to_df()[sorted(each.to_df())] for each in trials])


def test_files_beside_a_session(clients: list[Any]) -> None:
    paths = [one.eid2path(UUID(EID)).joinpath("alf", "x.npy") for one in clients]
    assert paths[0].relative_to(clients[0].cache_dir) == paths[1].relative_to(clients[1].cache_dir)
    assert (clients[1].cache_dir / "x").parent == clients[1].cache_dir
    files = [one.load_dataset(EID, "licks.times", download_only=True) for one in clients]
    same([np.load(file) for file in files])
    assert files[1].session_parts == files[0].session_parts


def test_a_search_of_a_project(clients: list[Any]) -> None:
    theirs, ours = (
        one.search(subject="KS023", project="brainwide", task_protocol="ephys", details=True)
        for one in clients
    )
    same([list(theirs[0]), ours[0]])
    assert all(isinstance(eid, str) for eid in ours[0])
    frames = [pd.DataFrame(list(rows)) for _, rows in (theirs, ours)]
    same([frame[sorted(frames[0])] for frame in frames])


def test_series_of_eids(clients: list[Any]) -> None:
    eids = pd.Series([EID, PROBES])
    same([[one.list_collections(eid) for eid in eids] for one in clients])
    paths = [one.eid2path(list(eids)) for one in clients]
    assert [path.name for path in paths[0]] == [path.name for path in paths[1]]
    assert clients[1].eid2path(eids) == paths[1] == clients[1].eid2path(eids.to_numpy())


def test_who_is_logged_in(clients: list[Any], tmp_path: Path) -> None:
    same([one.alyx.user for one in clients])
    same([one.alyx.is_logged_in for one in clients])
    same([one.alyx.base_url for one in clients])
    from onefs import ONE as factory

    factory.setup(base_url="https://openalyx.internationalbrainlab.org", silent=True)
    default = load_settings_file().default_profile()
    assert default is not None
    assert default.username == "intbrainlab"
    one = clients[1]
    one.record_loaded = True
    one.load_object(EID, "licks")
    ids, path = one.save_loaded_ids(sessions_only=True)
    one.record_loaded = False
    assert (ids, path.read_text().split()) == ([EID], ["session_uuid", EID])

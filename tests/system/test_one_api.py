"""ONE-api as a client: of the embedded servers, and of the mount as its cache folder."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from onefs.alyx.auth import fetch_token
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.http import Transport
from tests.laboratories import account, data_requests, downloads
from tests.running import Home, Mounted, clean_environment, run

pytest.importorskip("one.api")

TUTORIAL = ("cf264653-2deb-44cb-aa84-89b82507028a", "mainenlab/clns0730/2018-08-24/001")
#: two probes, and a re-sorting of the first one
PROBES = ("5030accd-f990-4ed5-9527-6efce51fdc4c", "angelakilab/NYU-11/2019-12-27/001")
#: a re-sorting that is the default, and a later one that is not
RESORTED = ("c1d29b25-ac68-45ea-86a8-4ae7ad4352fa", "cortexlab/KS023/2019-12-20/001")
#: the last revision before this date is the original
REVISION, BEFORE = "2020-08-31", "2020-01-01"
_CLIENT = Path(__file__).parent / "one_client.py"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(SyntheticLaboratory()) as running:
        yield running


@pytest.fixture(scope="module")
def mounted(shared_home: Home, servers: Servers) -> Mounted:
    return shared_home.mount(**account(servers))


@pytest.fixture(scope="module")
def tables(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache tables as the server gives them."""
    login = servers.login
    with Transport() as transport:
        token = fetch_token(transport, servers.alyx_url, login.username, login.password)
    answer = requests.get(
        f"{servers.alyx_url}/cache.zip", headers={"Authorization": f"Token {token}"}, timeout=60
    )
    folder = tmp_path_factory.mktemp("tables")
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(folder)
    assert {"sessions.pqt", "datasets.pqt"} <= set(os.listdir(folder))
    return folder


@pytest.fixture(scope="module")
def truth(mounted: Mounted) -> Mapping[str, Any]:
    """What must be loaded, by the files of the mount themselves."""
    spikes = mounted.path / TUTORIAL[1]
    probe = mounted.path / PROBES[1] / "alf"
    return {
        "spikes": {
            name: _summary(spikes / f"spikes.{name}.npy")
            for name in ("amps", "clusters", "depths", "times")
        },
        "probes": [
            _summary(probe / f"probe00/#{REVISION}#/spikes.times.npy"),
            _summary(probe / "probe01/spikes.times.npy"),
        ],
        "licks": _summary(spikes / "licks.times.npy"),
        "default revision": _summary(probe / f"probe00/#{REVISION}#/spikes.times.npy"),
        "revision before": _summary(probe / "probe00/spikes.times.npy"),
    }


def test_its_rest_client_searches_lists_and_loads(
    servers: Servers, truth: Mapping[str, Any], tmp_path: Path
) -> None:
    servers.clear_requests()
    cache = tmp_path / "downloads"
    found = _one("http", servers, tmp_path, cache=str(cache))
    assert found["search"] == [TUTORIAL[0]]
    assert len(found["types"]) == 28  # not notes.md, which is no ALF name
    assert found["collections"] == ["alf", "alf/probe00", "alf/probe01", "raw_behavior_data"]
    assert found["revisions"] == ["", REVISION]
    assert {name: found[name] for name in truth} == truth
    # it downloaded by itself, from our file server, with our credentials
    assert {each.agent.partition("/")[0] for each in downloads(servers)} != {"onefs"}
    assert (cache / "mainenlab/Subjects/clns0730/2018-08-24/001/spikes.times.npy").is_file()


@pytest.mark.parametrize("way", ["local", "remote"])
def test_the_mount_is_its_cache_folder(
    mounted: Mounted,
    servers: Servers,
    tables: Path,
    truth: Mapping[str, Any],
    tmp_path: Path,
    way: str,
) -> None:
    """``local`` asks no server at all; ``remote`` is ``ONE(cache_dir=MNT, cache_rest=None)``."""
    servers.clear_requests()
    places = {"mount": str(mounted.path), "tables": str(tables), "cache": str(mounted.path)}
    found = _one(way, servers, tmp_path, **places)
    assert len(found["types"]) == 28  # not notes.md, which is no ALF name
    assert found["collections"] == ["alf", "alf/probe00", "alf/probe01", "raw_behavior_data"]
    assert {name: found[name] for name in truth} == truth
    # ONE downloads nothing: what it reads, the mount has fetched
    assert {each.agent.partition("/")[0] for each in data_requests(servers)} <= {"onefs"}
    if way == "local":
        mount, session = mounted.path, "mainenlab/Subjects/clns0730/2018-08-24/001"
        assert found["path"] == str(mount / session)
        assert found["eid"] == TUTORIAL[0]
    assert sorted(os.listdir(mounted.path)) == [
        "angelakilab",
        "cortexlab",
        "mainenlab",
        "zadorlab",
    ]


def test_a_day_is_what_it_loads_with_that_revision(
    mounted: Mounted, servers: Servers, tables: Path, tmp_path: Path
) -> None:
    """``revision=DAY`` over ``.as-of/DAY``: ONE's own paths resolve, and are the plain file's."""
    days = ("2019-12-31", "2020-08-30", "2020-08-31", "2021-07-04", "2021-07-05", "2999-12-31")
    given = {"mount": str(mounted.path), "tables": str(tables), "cache": str(mounted.path)}
    found = _one("days", servers, tmp_path, days=" ".join(days), resorted=RESORTED[0], **given)
    file = f"{RESORTED[1]}/alf/probe00/spikes.times.npy"
    assert found == {day: _summary(mounted.path / ".as-of" / day / file) for day in days}
    assert len({tuple(each) for each in found.values()}) == 3


def _one(way: str, servers: Servers, folder: Path, **more: str) -> dict[str, Any]:
    given = {
        **servers.connection_info(),
        "eid": TUTORIAL[0],
        "probes": PROBES[0],
        "before": BEFORE,
        **more,
    }
    home = folder / "home"
    home.mkdir()
    done = run(
        [sys.executable, _CLIENT, way],
        environment=clean_environment(home),
        given=json.dumps(given),
        cwd=folder,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _summary(path: Path) -> list[float]:
    values = np.load(path)
    return [len(values), round(float(np.sum(values)), 3)]

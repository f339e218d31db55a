"""Searches as folders, and the same database from the command line, over a real mount."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import account
from tests.running import Home, run

REF = "2018-08-24_1_clns0730"
SESSION = "mainenlab/clns0730/2018-08-24/001"
QUERY = "users=olivier&date_range=2018-08-24,2018-08-24"

#: ``ONE()`` as a program has it where nothing is set up
_LOAD = """
from onefs import ONE
with ONE() as one:
    [eid] = one.search(users="olivier", date_range=["2018-08-24", "2018-08-24"])
    [path] = one.load(eid, ["licks.times"], download_only=True)
    print(path)
"""

#: what ``ONE(**arguments)`` of a program opens: its address, or the sentence why it does not
_OPEN = """
import json, sys
from onefs import ONE
from onefs.errors import NotConfigured
try:
    with ONE(**json.loads(sys.argv[1])) as one:
        [path] = one.load("2018-08-24_1_clns0730", ["licks.times"], download_only=True)
        print(one.url, path.stat().st_size)
except NotConfigured as error:
    print("NotConfigured", error)
"""


def test_a_search_in_a_mount(home: Home) -> None:
    with Servers(SyntheticLaboratory()) as servers:
        user = account(servers)
        mounted = home.mount(**user)
        folder = mounted.path / ".search" / QUERY
        assert run(["ls", folder]).stdout.split() == [REF]
        assert (folder / REF).samefile(mounted.path / SESSION)
        assert (folder / REF / "licks.times.npy").stat().st_size > 100
        assert (folder / ".paths").read_text() == SESSION + "\n"
        with pytest.raises(FileNotFoundError):
            os.stat(mounted.path / ".search" / "userz=olivier")
        assert "did you mean 'users'" in mounted.xattr("error", ".search")
        home.run("search", "--subject", "flowers", "--save", "flowers", variables=user)
        assert os.listdir(mounted.path / ".search") == ["flowers"]
        assert "2018-07-13_1_flowers" in os.listdir(mounted.path / ".search" / "flowers")
        found = home.run("search", "--user", "olivier", "--format", "paths", variables=user).stdout
        assert str(mounted.path / SESSION) in found.splitlines()
        counted = run(["xargs", "-n1", "ls", "-d"], given=found).stdout.split()
        assert len(counted) == 8
        header = (mounted.path / SESSION / ".datasets.tsv").read_text().splitlines()
        assert len(header) == 30
        home.run("search", "--forget", "flowers", variables=user)
        assert os.listdir(mounted.path / ".search") == []
        shown = home.run("show", mounted.path / SESSION / "spikes.times.npy", variables=user).stdout
        assert "float64" in shown
        mounted.umount()


@pytest.mark.long
def test_the_verbs_see_the_database_that_is_mounted(home: Home) -> None:
    """Ours: without any settings, the only mount's, or that in which a path lies."""
    assert "no database is set up" in home.error_of(2, "search", "--subject", "flowers")
    mounted = home.mount("--demo")
    found = home.run("search", "--user", "olivier", "--date", "2018-08-24", "--format", "paths")
    assert found.stdout == f"{mounted.path / SESSION}\n"
    assert home.run("path", REF).stdout == f"{mounted.path / SESSION}\n"
    assert "licks.times" in home.run("list", REF).stdout.split()
    loaded = run([sys.executable, "-c", _LOAD], environment=home.environment)
    status = home.status_of(mounted.path)
    assert status is not None
    one_path = SESSION.replace("/", "/Subjects/", 1) + "/licks.times.npy"
    assert loaded.stdout == f"{status['cache_dir']}/{one_path}\n"  # one cache, not two
    # another database is set up, and unreachable
    other = {"ONEFS_URL": "http://127.0.0.1:1", "ONEFS_USERNAME": "x", "ONEFS_PASSWORD": "x"}
    assert "127.0.0.1" in home.error_of(4, "list", REF, **other)
    assert "licks.times" in home.run("list", mounted.path / SESSION, variables=other).stdout.split()
    shown = home.run("show", mounted.path / SESSION / "licks.times.npy", variables=other).stdout
    assert "float64" in shown
    mounted.umount()


def open_one(home: Home, variables: dict[str, str] | None = None, /, **arguments: str) -> str:
    """What a program opens where nothing is set up."""
    command: list[str | Path] = [sys.executable, "-c", _OPEN, json.dumps(arguments)]
    return run(command, environment=home.environment | (variables or {})).stdout


@pytest.mark.long
def test_a_mount_replaces_no_database_that_is_named(home: Home) -> None:
    """Ours: secrets go only to a named server; another cache folder is another database's."""
    with Servers(SyntheticLaboratory()) as servers:
        login = servers.login
        mounted = home.mount(**account(servers))
        status = home.status_of(mounted.path)
        assert status is not None
        password = {"ONEFS_DATA_PASSWORD": login.data_password}
        password["ONEFS_DATA_HOSTS"] = servers.data_url
        same = password | {"ONEFS_CACHE_DIR": status["cache_dir"]}
        other = password | {"ONEFS_CACHE_DIR": str(home.root / "other")}
        opened = f"{servers.alyx_url} "
        name = login.data_username
        # the file server requires a user, so loading shows that the name was sent
        assert open_one(home, password, data_username=name).startswith(opened)
        servers.clear_requests()
        for given in (
            {"username": "me", "password": "secret"},
            {"token": "0" * 40},
            {"data_username": name, "data_password": "secret"},
        ):
            assert open_one(home, **given).startswith("NotConfigured no database is set up")
        assert "NotConfigured" in open_one(home, other, data_username=name)
        folder = str(home.root / "other")
        assert "NotConfigured" in open_one(home, password, data_username=name, cache_dir=folder)
        assert servers.requests == []
        assert "no database is set up" in home.error_of(2, "list", REF, **other)
        assert open_one(home, same, data_username=name).startswith(opened)
        assert "licks.times" in home.run("list", REF, **same).stdout.split()
        assert home.run("search", "--subject", "flowers", **same).stdout
        mounted.umount()


def test_what_is_mounted_is_not_one_of_several_that_are_saved(home: Home) -> None:
    mounted = home.mount("--demo")
    assert "licks.times" in home.run("list", REF).stdout.split()
    profiles = {name: {"url": f"http://{name}.invalid"} for name in ("one", "two")}
    path = Path(home.environment["XDG_CONFIG_HOME"]) / "onefs" / "settings.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps({"profiles": profiles}))
    path.chmod(0o600)
    assert "several profiles are saved and none is the default" in open_one(home)
    assert "several profiles are saved and none is the default" in home.error_of(2, "list", REF)
    mounted.umount()

"""Logins at the servers of ``onefs mount --demo --demo-data``: only this user's succeed.

They listen on the loopback interface, where every user of the machine reaches them.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
import requests

from onefs.demo import demo_identity
from onefs.demo.records import Login
from tests.laboratories import SMALL, small_file
from tests.running import Home, Mounted, run

PUBLISHED = Login()
#: a file of the folder, and the session that it is in
PATH = SMALL[0]
SESSION = "/".join(PATH.split("/")[:4])
#: ``ONE()`` of the only mount, without any settings
_LOAD = """
from onefs import ONE
with ONE() as one:
    [eid] = one.search(lab="labone", subject="mouse.1", number=2)
    [licks] = one.load(eid, ["licks.times"])
    print(licks.sum())
"""


@pytest.fixture
def mounted(home: Home, folder: Path) -> Mounted:
    return home.mount("--demo", "--demo-data", folder)


def kept_in(home: Home, folder: Path) -> Path:
    """The file that holds the passwords of a folder's servers."""
    database = demo_identity(folder)
    return home.state / database / "private" / f"{database}.json"


def address(mounted: Mounted) -> str:
    """Where Alyx listens, which any user may learn from the kernel."""
    found = mounted.home.status_of(mounted.path)
    assert found is not None
    return str(found["url"])


def log_in(alyx: str, password: str) -> requests.Response:
    given = {"username": PUBLISHED.username, "password": password}
    return requests.post(f"{alyx}/auth-token", data=given, timeout=60)


def test_a_stranger_gets_in_nowhere(mounted: Mounted, folder: Path) -> None:
    alyx = address(mounted)
    assert log_in(alyx, PUBLISHED.password).status_code == 400
    # the URLs of the file server and of a file, which another user would have to find out
    kept = json.loads(kept_in(mounted.home, folder).read_text())
    assert PUBLISHED.password not in kept.values()
    assert PUBLISHED.data_password not in kept.values()
    token = log_in(alyx, kept["password"]).json()["token"]
    headers = {"Authorization": f"Token {token}"}
    answer = requests.get(f"{alyx}/datasets?name=spikes.times.npy", headers=headers, timeout=60)
    record = answer.json()["results"][0]["file_records"][0]
    pair = (PUBLISHED.data_username, PUBLISHED.data_password)
    assert requests.get(record["data_url"], auth=pair, timeout=60).status_code == 401
    right = (PUBLISHED.data_username, kept["data_password"])
    assert requests.get(record["data_url"], auth=right, timeout=60).status_code == 200


def test_the_passwords_are_where_only_this_user_reads(mounted: Mounted, folder: Path) -> None:
    kept = kept_in(mounted.home, folder)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    words = set(json.loads(kept.read_text()).values())
    assert len(words) == 2
    said = mounted.home.log() + mounted.home.run("status", "--json").stdout
    assert not [word for word in words if word in said]


def test_this_users_commands_and_programs_get_in(mounted: Mounted, folder: Path) -> None:
    original = small_file(folder, PATH)
    assert (mounted.path / PATH).read_bytes() == original.read_bytes()
    home = mounted.home
    assert "spikes.times" in home.run("list", mounted.path / SESSION).stdout.split()
    fetched = home.run("get", mounted.path / SMALL[1]).stdout.split()[0]
    assert Path(fetched).read_bytes() == small_file(folder, SMALL[1]).read_bytes()
    loaded = run([sys.executable, "-c", _LOAD], environment=home.environment)
    assert float(loaded.stdout) > 0


def test_a_second_mount_and_a_later_one_have_the_same_passwords(
    mounted: Mounted, folder: Path
) -> None:
    home = mounted.home
    before = kept_in(home, folder).read_bytes()
    second = home.mount("--demo", "--demo-data", folder, at="second")
    assert os.listdir(second.path / SESSION) == os.listdir(mounted.path / SESSION)
    mounted.umount()
    assert (second.path / SMALL[1]).read_bytes() == small_file(folder, SMALL[1]).read_bytes()
    second.umount()
    assert kept_in(home, folder).read_bytes() == before
    third = home.mount("--demo", "--demo-data", folder)
    assert (third.path / SMALL[4]).read_bytes() == small_file(folder, SMALL[4]).read_bytes()
    third.umount()


def test_the_synthetic_laboratory_has_the_published_password(home: Home) -> None:
    mounted = home.mount("--demo")
    assert log_in(address(mounted), PUBLISHED.password).status_code == 200
    mounted.umount()

"""Commands with a mounted demo, with an unreachable server, and with invalid paths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.laboratories import SMALL, account, small_folder
from tests.running import Home

pytestmark = pytest.mark.usefixtures("fuse")

SESSION = SMALL[0].rpartition("/alf/")[0]
REF = "2021-03-05_10_mouse.2"


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as made:
        yield made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_folder(tmp_path / "data")


@row("onefs sync where only a demo is mounted")
def test_sync_takes_the_only_mount(user: Home, data: Path) -> None:
    user.mount("--demo", "--demo-data", data)
    assert "sizes were fetched" in user.run("sync", "--sizes").stdout


@row("onefs search --url URL-of-a-demo-mount")
@pytest.mark.parametrize("command", [["search", "--limit", "1"], ["get", SMALL[0]]])
def test_the_url_of_a_demo_mount_has_its_login(user: Home, data: Path, command: list[str]) -> None:
    mounted = user.mount("--demo", "--demo-data", data)
    settings = user.folder / "config" / "onefs" / "settings.json"
    settings.parent.mkdir(parents=True)
    profile = {"url": "https://alyx.example.org", "username": "me"}
    settings.write_text(json.dumps({"profiles": {"mine": profile}, "default": "mine"}))
    status = user.status_of(mounted.path)
    assert status is not None
    assert user.run(*command, "--url", status["url"]).stdout
    # another user name is not replaced by the demo's
    user.error_of(3, *command, "--url", status["url"], "--username", "me")


@row("onefs mount with the server away")
def test_mount_reports_an_unreachable_server(user: Home, data: Path) -> None:
    with Servers(FolderLaboratory(data)) as servers:
        login = account(servers)
        mounted = user.mount(**login)
        assert (mounted.path / SESSION / "alf").is_dir()
        mounted.umount()
        told = user.run("mount", mounted.path, variables=login).stderr
        assert told == ""
        mounted.umount()
    told = user.run("mount", mounted.path, variables=login).stderr
    away = f"onefs: the server {re.escape(servers.alyx_url)} is unreachable: "
    shown = r"the mount at \S+ shows the catalogue of 20\S+ \S+ until the server answers again\n"
    assert re.fullmatch(away + shown, told), told


@row("--demo-data one level too low")
@pytest.mark.parametrize("below", ["labone", "labone/Subjects"])
def test_a_folder_inside_a_lab_is_refused(user: Home, data: Path, below: str) -> None:
    for command in (["mount", "mnt", "--demo", "--demo-data"], ["demo", "serve", "--data"]):
        told = user.error_of(2, *command, data / below)
        assert told == f"{data / below} is a folder of one lab: name {data}, which holds the labs"


@row("onefs show SESSION; onefs get --type spikess")
def test_messages_name_the_mistake_and_the_counts(user: Home, data: Path) -> None:
    with Servers(FolderLaboratory(data)) as servers:
        login = account(servers)
        for name in (SESSION, f"/x/.by-ref/{REF}"):
            told = user.error_of(2, "show", name, **login)
            assert "is a session, not a dataset" in told
        told = user.error_of(1, "get", REF, "--type", "lickss.times", **login)
        assert told == (
            f"there is no dataset of type lickss.times at {REF} (did you mean 'licks.times'?)"
        )
        for flags, done in (["--dry-run"], "1 file to fetch, "), ([], "1 file fetched, "):
            said = user.run("get", SMALL[4], *flags, variables=login).stderr
            assert said.splitlines()[-1].startswith(done)


@row("exit codes")
def test_an_invalid_mount_point_exits_with_2(user: Home, data: Path) -> None:
    mounted = user.mount("--demo", "--demo-data", data)
    demo = ("--demo", "--demo-data", data)
    assert "already mounted" in user.error_of(2, "mount", mounted.path, *demo)
    assert "not empty" in user.error_of(2, "mount", data, "--demo")
    assert "Nothing is mounted" in user.error_of(2, "umount", data)

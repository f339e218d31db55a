"""Each way in which ``onefs mount`` can fail: one sentence, the right code, and nothing left."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests import rig
from tests.cleanup import mounts_below, processes_below
from tests.laboratories import SMALL, account, small_folder
from tests.running import ONEFS, Home, process, run
from tests.scripted_server import (
    ScriptedServer,
    answer,
    refusing_url,
    unanswering_url,
)

FAILED, USAGE, CREDENTIALS, UNREACHABLE = 1, 2, 3, 4


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[Servers]:
    with Servers(FolderLaboratory(folder)) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(home: Home) -> Iterator[None]:
    """A mount that failed leaves no mount, no process and no folder that it made."""
    yield
    assert mounts_below(home.root) == []
    assert processes_below(home.root) == []
    assert not (home.root / "mnt").exists()


def test_nothing_is_configured(home: Home) -> None:
    said = home.error_of(USAGE, "mount", "mnt")
    assert "onefs setup" in said
    assert "onefs mount --demo" in said


def test_the_profile_is_unknown(home: Home) -> None:
    assert "'nosuch'" in home.error_of(USAGE, "mount", "mnt", "--profile", "nosuch")


def test_the_password_is_wrong(home: Home, servers: Servers) -> None:
    variables = account(servers) | {"ONEFS_PASSWORD": "wrong"}
    said = home.error_of(CREDENTIALS, "mount", "mnt", **variables)
    assert servers.alyx_url in said
    assert "wrong" not in said


def test_the_token_is_wrong(home: Home, servers: Servers) -> None:
    said = home.error_of(CREDENTIALS, "mount", "mnt", **account(servers, token="0" * 40))
    assert "onefs login" in said
    assert "0" * 40 not in said


def test_there_is_no_login(home: Home, servers: Servers) -> None:
    variables = account(servers)
    del variables["ONEFS_PASSWORD"]
    assert "onefs login" in home.error_of(CREDENTIALS, "mount", "mnt", **variables)


def test_the_server_refuses_connections(home: Home, servers: Servers) -> None:
    with refusing_url() as url:
        variables = account(servers) | {"ONEFS_URL": url}
        said = home.error_of(UNREACHABLE, "mount", "mnt", **variables)
    assert url.removeprefix("http://") in said


def test_the_server_does_not_answer(home: Home, servers: Servers) -> None:
    with unanswering_url() as url:
        variables = account(servers) | {"ONEFS_URL": url, "ONEFS_DEADLINE": "1"}
        said = home.error_of(UNREACHABLE, "mount", "mnt", **variables)
    assert url.removeprefix("http://") in said


def test_with_a_token_the_server_refuses_connections(home: Home, servers: Servers) -> None:
    with refusing_url() as url:
        variables = account(servers, token="0" * 40) | {"ONEFS_URL": url}
        said = home.error_of(UNREACHABLE, "mount", "mnt", **variables)
    assert url.removeprefix("http://") in said


def test_the_server_is_no_alyx(home: Home, servers: Servers) -> None:
    page = answer(b"<html>Welcome to nginx!</html>", Content_Type="text/html")
    with ScriptedServer({"/auth-token": page}) as web:
        said = home.error_of(FAILED, "mount", "mnt", **account(servers) | {"ONEFS_URL": web.url})
    assert web.url.removeprefix("http://") in said


def test_there_is_no_fuse_device(home: Home) -> None:
    """In a private mount namespace with an empty /dev; the machine's own is not touched."""
    script = f"mount -t tmpfs none /dev && exec {ONEFS} mount mnt --demo"
    command = ["unshare", "-rm" if os.getuid() else "-m", "sh", "-c", script]
    done = run(command, cwd=home.root, environment=home.environment, code=FAILED)
    assert done.stdout == ""
    assert done.stderr.startswith("onefs: There is no /dev/fuse")
    assert len(done.stderr.splitlines()) == 1


def test_there_is_no_libfuse(home: Home) -> None:
    said = home.error_of(FAILED, "mount", "mnt", "--demo", FUSE_LIBRARY_PATH="/nowhere/libfuse.so")
    assert "apt-get install fuse3" in said


def test_the_mount_point_is_not_empty(home: Home) -> None:
    place = home.root / "full"
    place.mkdir()
    (place / "thesis.tex").write_text("")
    said = home.error_of(USAGE, "mount", place, "--demo")
    assert str(place) in said
    assert "not empty" in said
    assert os.listdir(place) == ["thesis.tex"]


def test_the_mount_point_is_a_file(home: Home) -> None:
    place = home.root / "file"
    place.write_text("")
    assert str(place) in home.error_of(USAGE, "mount", place, "--demo")
    assert place.is_file()


def test_it_is_mounted_already(home: Home, servers: Servers) -> None:
    mounted = home.mount(**account(servers))
    said = home.error_of(USAGE, "mount", mounted.path, **account(servers))
    assert "already mounted" in said
    assert f"onefs umount {mounted.path}" in said
    # the first mount continues
    assert len((mounted.path / SMALL[0]).read_bytes()) > 0
    mounted.umount()


@pytest.mark.parametrize("option", ["--cache-dir", "--state-dir"])
def test_a_folder_of_ours_lies_inside_the_mount(home: Home, option: str) -> None:
    place = home.root / "mnt"
    said = home.error_of(USAGE, "mount", place, "--demo", option, place / "inside")
    assert str(place / "inside") in said


@pytest.mark.parametrize("option", ["--cache-dir", "--state-dir"])
def test_the_mount_lies_inside_a_folder_of_ours(home: Home, option: str) -> None:
    place = home.root / "ours" / "mnt"
    said = home.error_of(USAGE, "mount", place, "--demo", option, home.root / "ours")
    assert str(place) in said
    assert not place.exists()


def test_the_cache_is_found_inside_the_mount_through_a_link(home: Home) -> None:
    (home.root / "link").symlink_to(home.root)
    cache = home.root / "link" / "mnt" / "cache"
    said = home.error_of(USAGE, "mount", home.root / "mnt", "--demo", "--cache-dir", cache)
    assert str(home.root / "mnt") in said
    assert not (home.root / "mnt").exists()


def test_the_cache_belongs_to_another_database(home: Home, servers: Servers) -> None:
    cache = home.root / "cache"
    home.mount("--demo", "--demo-data", rig.FILES, "--cache-dir", cache).umount()
    variables = account(servers) | {"ONEFS_CACHE_DIR": str(cache)}
    said = home.error_of(USAGE, "mount", "mnt", **variables)
    assert str(cache) in said
    assert "--cache-dir" in said


def test_the_cache_cannot_be_made(home: Home) -> None:
    (home.root / "occupied").write_text("")
    cache = home.root / "occupied" / "cache"
    said = home.error_of(FAILED, "mount", "mnt", "--demo", ONEFS_CACHE_DIR=str(cache))
    assert str(cache) in said


@pytest.mark.parametrize("options", [[], ["--foreground"]], ids=["", "foreground"])
def test_the_state_folder_cannot_be_made(home: Home, options: list[str]) -> None:
    (home.root / "occupied").write_text("")
    state = home.root / "occupied" / "state"
    said = home.error_of(FAILED, "mount", "mnt", "--demo", "--state-dir", state, *options)
    assert str(state) in said


def test_the_register_of_mounts_cannot_be_made(home: Home) -> None:
    (home.root / "occupied").write_text("")
    variables = {"XDG_STATE_HOME": str(home.root / "occupied")}
    state = home.root / "state"
    home.run("mount", "mnt", "--demo", "--state-dir", state, variables=variables)
    assert os.listdir(home.root / "mnt")
    told = home.run("status", ONEFS_STATE_DIR=str(state), variables=variables).stdout
    assert str(home.root / "mnt") in told
    home.run("umount", "mnt", ONEFS_STATE_DIR=str(state), variables=variables)


def test_a_script_with_the_line_ends_of_windows(home: Home) -> None:
    said = home.error_of(USAGE, "mount", "mnt\r", "--demo")
    assert r"mnt\r" in said
    assert os.listdir(home.root) == ["home"]


def test_two_at_once_at_one_place(home: Home, servers: Servers) -> None:
    place, environment = home.root / "mnt", home.environment | account(servers)
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                process([ONEFS, "mount", place], env=environment, stderr=PIPE, text=True)
            )
            for _ in range(2)
        ]
        said = {each.wait(60): each.stderr.read() for each in both if each.stderr is not None}
    # USAGE if the second looks at the place only when the first has mounted
    [code] = said.keys() - {0}
    assert code in (FAILED, USAGE)
    assert "mount" in said[code]
    assert len(said[code].splitlines()) == 1
    assert mounts_below(home.root) == [str(place)]
    assert len((place / SMALL[0]).read_bytes()) > 0
    home.run("umount", place)


def test_the_mount_lies_inside_the_data_folder(home: Home) -> None:
    data = small_folder(home.root / "data", size=1000)
    place = data / "mnt"
    said = home.error_of(USAGE, "mount", place, "--demo", "--demo-data", data)
    assert str(place) in said
    assert not place.exists()


def test_the_data_folder_is_missing(home: Home) -> None:
    data = home.root / "nothing"
    said = home.error_of(USAGE, "mount", "mnt", "--demo", "--demo-data", data)
    assert str(data) in said


def test_the_data_folder_holds_no_session(home: Home) -> None:
    data = home.root / "data"
    data.mkdir()
    said = home.error_of(FAILED, "mount", "mnt", "--demo", "--demo-data", data)
    assert str(data) in said
    assert "Subjects" in said


@pytest.mark.parametrize(
    "options",
    [["--demo-data", "."], ["--demo-rate", "5"], ["--demo", "--url", "http://localhost"]],
    ids=" ".join,
)
def test_options_contradict_each_other(home: Home, options: list[str]) -> None:
    said = home.error_of(USAGE, "mount", "mnt", *options)
    assert [option for option in options if option.startswith("--") and option in said]
    assert not (home.root / "mnt").exists()


def test_a_deadline_is_no_number(home: Home) -> None:
    assert "ONEFS_DEADLINE" in home.error_of(USAGE, "mount", "mnt", "--demo", ONEFS_DEADLINE="soon")


def test_flask_is_missing(home: Home) -> None:
    """The demo is an extra: without its library a sentence says what to install."""
    blocker = home.root / "blocker"
    blocker.mkdir()
    (blocker / "flask.py").write_text("raise ModuleNotFoundError(name='flask')")
    missing = {"PYTHONPATH": str(blocker)}
    said = home.error_of(FAILED, "mount", "mnt", "--demo", **missing)
    assert 'pip install "onefs[demo]"' in said
    foreground = home.error_of(FAILED, "mount", "mnt", "--demo", "--foreground", **missing)
    for text in (said, foreground):
        assert (text.count("Flask"), text.count("embedded laboratory")) == (1, 1)


def test_nothing_is_mounted_there(home: Home) -> None:
    assert str(home.root) in home.error_of(USAGE, "umount", home.root)


def test_something_else_is_mounted_there(home: Home) -> None:
    assert "onefs" in home.error_of(USAGE, "umount", "/proc")


def test_the_commands_run_without_a_path_to_python(home: Home) -> None:
    """As from a desktop file or cron: nothing is found by PATH but what the system has."""
    assert shutil.which(str(ONEFS))
    mounted = home.mount("--demo", "--demo-data", rig.FILES, PATH="/usr/bin:/bin", PYTHONPATH="")
    assert os.listdir(mounted.path) == ["iblrig"]
    assert sys.executable in (Path("/proc") / str(mounted.pid) / "cmdline").read_text()
    mounted.umount()

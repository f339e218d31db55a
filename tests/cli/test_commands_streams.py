"""Outputs that cannot be written, names that cannot be printed, folders that cannot be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.laboratories import SMALL, account, small_folder
from tests.running import ONEFS, TIMEOUT_SECONDS, Home

SESSION = "labone/mouse.1/2021-03-04/001"
NO_SPACE = "onefs: cannot write to standard output: No space left on device\n"
CLOSED = "onefs: cannot write to standard output: the output is closed\n"
#: a home folder that cannot be created, not even by an administrator
NO_HOME = "/proc/nonexistent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[Servers]:
    with Servers(FolderLaboratory(folder)) as running:
        yield running


@pytest.fixture
def user(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    with Home(tmp_path, **account(servers)) as made:
        yield made


def shell(
    home: Home, script: str, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a line in a shell. ``$ONEFS`` is the command, and ``$1``, ``$2``, ... its arguments."""
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", *arguments],
        env={**home.environment, "ONEFS": str(ONEFS), **variables},
        cwd=home.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@row("onefs list REF --details > /dev/full")
@pytest.mark.parametrize(
    "command",
    ["list $1 --details", "list --labs", "get $1", "search --limit 1", "status --json", "--help",
     "get --help", "cache info", "show $2"],
)  # fmt: skip
def test_an_output_on_a_full_disk_is_one_sentence(user: Home, command: str) -> None:
    done = shell(user, f"$ONEFS {command} > /dev/full", SESSION, SMALL[0])
    lines = done.stderr.decode().splitlines(keepends=True)
    assert done.returncode == 1
    assert lines[-1] == NO_SPACE
    assert len(lines) == 1


@row("onefs search --user olivier >&-")
@pytest.mark.parametrize("command", ["search --limit 1", "list --labs", "path $1", "--version"])
def test_a_closed_output_is_one_sentence(user: Home, command: str) -> None:
    done = shell(user, f"$ONEFS {command} >&-", SESSION)
    assert (done.returncode, done.stderr.decode()) == (1, CLOSED)


def test_messages_that_cannot_be_written_do_not_end_a_command(user: Home) -> None:
    done = shell(user, "$ONEFS get $1 2> /dev/full", SESSION)
    assert done.returncode == 0
    assert all(Path(os.fsdecode(line)).is_file() for line in done.stdout.splitlines())
    assert shell(user, "$ONEFS get nothing/there 2>&-").returncode == 1


def test_a_reader_that_ends_early_is_no_error(user: Home) -> None:
    done = shell(user, "$ONEFS list --dataset-types | true")
    assert (done.returncode, done.stderr) == (0, b"")


@row("onefs search --user olivier >&-")
def test_a_mount_is_made_without_any_descriptor(user: Home, fuse: None) -> None:
    done = shell(user, "$ONEFS mount $1 <&- >&- 2>&-", user.root / "mnt")
    assert done.returncode == 0
    assert "labone" in os.listdir(user.root / "mnt")
    user.run("umount", user.root / "mnt")


@row("cd DIR; rmdir DIR; onefs get")
@pytest.mark.parametrize(
    "command", ["get $1", "list $1", "show $2", "path $1", "search --limit 1", "cache info",
                "status", "refresh"],
)  # fmt: skip
def test_a_deleted_folder_matters_to_no_command_without_relative_paths(
    user: Home, command: str
) -> None:
    done = shell(user, f"mkdir d; cd d; rmdir ../d; $ONEFS {command}", SESSION, SMALL[0])
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


@row("cd DIR; rmdir DIR; onefs get")
@pytest.mark.parametrize(
    "command",
    ["get ./x", "cache list ../x", "mount x", "umount x", "refresh x", "list a/b",
     "list --labs --cache-dir x", "mount --demo --demo-data x /m", "cache adopt ."],
)  # fmt: skip
def test_a_relative_path_in_a_deleted_folder_is_one_sentence(user: Home, command: str) -> None:
    done = shell(user, f"mkdir d; cd d; rmdir ../d; $ONEFS {command}")
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert "Traceback" not in said
    if "adopt" not in command and "demo-data" not in command:
        assert said.startswith("onefs: ")
        assert f"{user.root}/d was deleted" in said


@row("cd DIR; rmdir DIR; onefs get")
def test_python_works_in_a_deleted_folder(user: Home) -> None:
    command = 'mkdir d; cd d; rmdir ../d; "$1" -c "$2"'
    if shell(user, command, sys.executable, "import socket").returncode:
        pytest.skip("this Python imports no socket in a deleted folder: a fault of 3.13.0")
    script = f"from onefs import ONE; print(len(ONE().list('{SESSION}')))"
    done = shell(user, command, sys.executable, script)
    assert (done.returncode, done.stderr) == (0, b"")
    assert int(done.stdout) > 0


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An ISO-8859-1 locale that is created for the test."""
    place = tmp_path_factory.mktemp("locales")
    name = place / "en_US.ISO-8859-1"
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not installed")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(name)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if not name.is_dir():
        pytest.skip(f"no ISO-8859-1 locale can be made: {done.stderr.decode()}")
    return {"LOCPATH": str(place), "LC_ALL": "en_US.ISO-8859-1"}


#: a locale that can encode only ASCII, with Python's own workarounds switched off
ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def greek(tmp_path: Path) -> Iterator[tuple[Servers, str]]:
    """Servers with a session whose subject name cannot be encoded in Latin-1."""
    data = small_folder(tmp_path / "greek")
    shutil.move(data / "labone" / "Subjects" / "mouse.1", data / "labone" / "Subjects" / "m-Ω")
    with Servers(FolderLaboratory(data)) as running:
        yield running, "labone/m-Ω/2021-03-04/001"


@row("LC_ALL=en_US.ISO-8859-1")
@pytest.mark.parametrize("locale", ["latin", "ascii"])
def test_names_that_the_locale_cannot_express_are_escaped(
    tmp_path: Path,
    greek: tuple[Servers, str],
    locale: str,
    request: pytest.FixtureRequest,
    fuse: None,
) -> None:
    servers, session = greek
    variables = request.getfixturevalue("latin") if locale == "latin" else ASCII
    shown = b"m-\\u03a9" if locale == "latin" else "m-Ω".encode()
    with Home(tmp_path, **account(servers), **variables) as home:
        done = shell(home, "$ONEFS list $1 --details", session)
        assert (done.returncode, done.stderr) == (0, b"")
        assert shown in done.stdout
        done = shell(home, "$ONEFS get $1", session)
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout
        kept = list(home.cache.rglob("*.npy"))
        assert kept
        assert all("/m-Ω/" in str(path) for path in kept)
        done = shell(home, "$ONEFS mount $1", tmp_path / "m-Ω")
        assert done.returncode == 0, done.stderr
        assert "m-Ω" in os.listdir(tmp_path / "m-Ω" / "labone")
        assert os.listdir(tmp_path / "m-Ω" / session)
        done = shell(home, "$ONEFS umount $1", tmp_path / "m-Ω")
        assert done.returncode == 0, done.stderr


def given_folders(user: Home) -> dict[str, str]:
    """An environment whose variables name all folders, and whose home folder does not exist."""
    unset = {f"XDG_{name}_HOME": "" for name in ("CONFIG", "CACHE", "STATE", "DATA")}
    own = {"ONEFS_CACHE_DIR": str(user.root / "c"), "ONEFS_STATE_DIR": str(user.root / "s")}
    return {"HOME": NO_HOME, **unset, **own}


@row("HOME=/nonexistent, every ONEFS_* given")
def test_without_a_home_folder_commands_work_and_nothing_is_saved(user: Home, fuse: None) -> None:
    folders = given_folders(user)
    done = user.run("get", SESSION, variables=folders)
    saved = [line for line in done.stderr.splitlines() if "cannot be saved" in line]
    assert len(saved) == 1
    assert saved[0].startswith("onefs: the login cannot be saved for later commands: ")
    assert "XDG_CONFIG_HOME" in saved[0]
    script = f"from onefs import ONE; print(len(ONE().list('{SESSION}')))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**user.environment, **folders}, cwd=user.root,
        capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True,
    )  # fmt: skip
    assert int(done.stdout) > 0
    mount = user.root / "mnt"
    user.run("mount", mount, variables=folders)
    try:
        assert (mount / SMALL[0]).read_bytes()
        status = user.run("status", variables=folders).stdout
        assert f"cache {user.root / 'c'}" in status
        assert list((user.root / "s" / "mounts").glob("*.json"))
    finally:
        user.run("umount", mount, variables=folders)
    assert not mount.exists()


@row("HOME=/nonexistent, every ONEFS_* given")
def test_a_command_that_needs_a_home_folder_names_the_variable(user: Home, fuse: None) -> None:
    folders = given_folders(user)
    assert "XDG_CONFIG_HOME" in user.error_of(2, "login", **folders)
    assert "XDG_CONFIG_HOME" in user.error_of(2, "setup", **folders)
    del folders["ONEFS_STATE_DIR"]
    done = user.run("mount", user.root / "mnt", code=1, variables=folders)
    assert "ONEFS_STATE_DIR" in done.stderr
    assert "Traceback" not in done.stderr
    user.run("mount", user.root / "mnt", "--state-dir", user.root / "s", variables=folders)
    user.run("umount", user.root / "mnt", variables=folders)

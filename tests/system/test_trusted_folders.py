"""``--trust-cache-dir``: folders that others may write to, on every command that opens one."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from onefs.errors import UsageError
from onefs.one import ONE
from tests.laboratories import SMALL, account, small_file
from tests.running import Home

PATH = SMALL[0]
SESSION = PATH[: PATH.index("/alf/")]
#: commands that use a cache folder, each with arguments that end well
COMMANDS = (
    ["get", PATH],
    ["cache", "info"],
    ["cache", "list"],
    ["cache", "verify"],
    ["search", "--limit", "3"],
    ["list", SESSION],
    ["show", PATH],
    ["refresh"],
)


@pytest.fixture
def home(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    with Home(tmp_path, **account(servers)) as made:
        yield made


@pytest.mark.long
@pytest.mark.parametrize("which", ["cache", "state"])
def test_every_command_refuses_a_folder_that_others_may_write_to(
    home: Home, folder: Path, tmp_path: Path, which: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    there = {f"ONEFS_{which.upper()}_DIR": str(shared)}
    trusting = {**there, "ONEFS_TRUST_CACHE_DIR": "1"}
    for command in ([*COMMANDS[0], "--dry-run"], *COMMANDS[:-1]):
        said = home.error_of(2, *command, **there)
        assert said.startswith(f"every user may write to {shared} of the {which} folder")
        assert "--trust-cache-dir" in said
    said = home.error_of(2, "mount", tmp_path / "mnt", **there)
    assert "every user may write to" in said
    assert not (tmp_path / "mnt").exists()
    assert list(shared.iterdir()) == []
    for command in COMMANDS:
        home.run(*command, "--trust-cache-dir", variables=there)
        home.run(*command, variables=trusting)
    mounted = home.mount("--trust-cache-dir", **there)
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    said = home.error_of(2, "refresh", mounted.path / PATH, **there)
    assert "every user may write to" in said
    # what the file is for others is what the folder is
    mode = stat.S_IMODE(next(shared.rglob("*")).stat().st_mode)
    assert mode & 0o077 == 0o077 if which == "cache" else mode & 0o700
    mounted.umount()


@pytest.mark.long
def test_a_profile_may_say_so(home: Home, tmp_path: Path, folder: Path) -> None:
    cache = tmp_path / "shared"
    cache.mkdir()
    cache.chmod(0o777)
    home.run("setup", "--profile", "lab", "--cache-dir", cache, "--trust-cache-dir")
    saved = json.loads((home.folder / "config/onefs/settings.json").read_text())
    assert saved["profiles"]["lab"]["trust_cache_dir"] == "1"
    home.run("cache", "info")
    mounted = home.mount()
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    assert "0 wrong" in home.run("cache", "verify", PATH).stderr
    mounted.umount()


def test_python_refuses_it_too(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    cache = tmp_path / "shared"
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(UsageError, match="every user may write to"):
        ONE(cache_dir=cache, silent=True)
    monkeypatch.setenv("ONEFS_TRUST_CACHE_DIR", "1")
    with ONE(cache_dir=cache, silent=True) as one:
        [path] = one.load(SESSION, ["spikes.times"], collection="alf/probe00", download_only=True)
        assert path.read_bytes() == small_file(folder, PATH).read_bytes()


def test_a_link_in_the_place_of_a_lab_is_refused(home: Home, tmp_path: Path) -> None:
    home.run("get", PATH)
    [cache] = home.cache.iterdir()
    lab = cache / "labone"
    lab.rename(tmp_path / "elsewhere")
    lab.symlink_to(tmp_path / "elsewhere")
    assert f"{lab} is a symbolic link" in home.error_of(2, "cache", "list")
    home.run("cache", "list", "--trust-cache-dir")


@pytest.mark.long
def test_the_folders_of_the_first_onefs_are_no_trouble(home: Home, folder: Path) -> None:
    """It made the cache folder 0755, or 0775, as the umask was."""
    home.run("get", PATH)
    [cache] = home.cache.iterdir()
    for mode in (0o755, 0o775):
        for path in (cache, *cache.rglob("*")):
            path.chmod(mode if path.is_dir() else mode & 0o666)
        mounted = home.mount()
        assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
        mounted.umount()

"""``status``, ``log``, ``profile`` and ``cache info``: what is mounted, and what is saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs import __version__
from tests.cli.commands_table import row
from tests.running import Home, run

pytestmark = pytest.mark.usefixtures("fuse")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as made:
        yield made


def record_of(user: Home) -> Path:
    (path,) = (user.state / "mounts").glob("*.json")
    return path


@row("onefs status of mounts whose record is gone")
def test_a_mount_without_a_record_is_foreign(user: Home) -> None:
    mounted = user.mount("--demo")
    elsewhere = {"XDG_STATE_HOME": str(user.root / "elsewhere")}
    told = user.run("status", variables=elsewhere).stdout
    assert f"{mounted.path}  foreign" in told
    assert "mounted by another user, or recorded in another state folder" in told
    found = json.loads(user.run("status", "--json", variables=elsewhere).stdout)["mounts"]
    (mine,) = [each for each in found if each["mountpoint"] == str(mounted.path)]
    assert (mine["state"], mine["pid"]) == ("foreign", None)


@row("onefs cache info for a folder that a running mount limits")
@pytest.mark.parametrize("named", [False, True])
def test_cache_info_reports_the_limit_of_a_running_mount(user: Home, named: bool) -> None:
    mounted = user.mount("--demo", "--cache-size", "3M", "--cache-dir", user.root / "cache")
    which = ["--cache-dir", str(user.root / "cache")] if named else []
    told = user.run("cache", "info", *which).stdout
    assert f"of 3.0 MiB (set by the mount at {mounted.path})" in told
    found = json.loads(user.run("cache", "info", "--json", *which).stdout)
    assert (found["limit"], found["limited_by"]) == (3 << 20, str(mounted.path))


@row("onefs status --json: version")
@pytest.mark.parametrize("version", ["0.0.9", None])
def test_status_reports_the_version_of_each_daemon(user: Home, version: str | None) -> None:
    mounted = user.mount("--demo")
    status = user.status_of(mounted.path)
    assert status is not None
    assert status["version"] == __version__
    assert "served by" not in user.run("status").stdout
    record = json.loads(record_of(user).read_text())
    record.pop("version") if version is None else record.update(version=version)
    record_of(user).write_text(json.dumps(record))  # as an older daemon has it
    told = user.run("status").stdout
    assert f"served by onefs {version or '(older version)'}, but this command is onefs" in told


@row("python -m onefs; onefs profile")
def test_status_names_the_log_and_log_prints_it(user: Home) -> None:
    assert "no database" in user.error_of(2, "log")
    mounted = user.mount("--demo")
    log = user.run("log", "--file").stdout.strip()
    assert f"  log {log}\n" in user.run("status").stdout
    whole = Path(log).read_text().splitlines()
    assert (
        user.run("log", mounted.path, "--lines", "1000").stdout.splitlines()[: len(whole)] == whole
    )
    assert len(user.run("log", "--lines", "1").stdout.splitlines()) == 1
    assert "nothing is mounted at" in user.error_of(2, "log", user.root)


@row("python -m onefs; onefs profile")
def test_python_runs_onefs_as_a_module(user: Home) -> None:
    done = run([sys.executable, "-m", "onefs", "--version"], environment=user.environment)
    assert done.stdout == f"onefs, version {__version__}\n"
    done = run([sys.executable, "-m", "onefs", "umount"], environment=user.environment, code=2)
    assert "onefs umount" in done.stderr
    assert "__main__" not in done.stderr


@row("python -m onefs; onefs profile")
def test_profiles_are_listed_chosen_and_removed(user: Home) -> None:
    assert "`onefs setup` saves one" in user.run("profile", "list").stdout
    settings = user.folder / "config" / "onefs" / "settings.json"
    settings.parent.mkdir(parents=True)
    rows = {name: {"url": f"https://{name}.example.org", "username": "me"} for name in "abc"}
    settings.write_text(json.dumps({"profiles": rows, "default": "a", "kept": 1}))
    settings.chmod(0o600)
    assert user.run("profile", "list").stdout.splitlines() == [
        "* a  https://a.example.org  me",
        "  b  https://b.example.org  me",
        "  c  https://c.example.org  me",
    ]
    user.run("profile", "use", "b")
    assert json.loads(user.run("profile", "list", "--json").stdout)["default"] == "b"
    for verb in ("use", "remove"):
        assert "no profile 'd' (known: a, b, c)" in user.error_of(2, "profile", verb, "d")
        assert "an argument is empty" in user.error_of(2, "profile", verb, "")
    user.run("profile", "remove", "b")
    assert json.loads(settings.read_text()) == {
        "profiles": {"a": rows["a"], "c": rows["c"]},
        "kept": 1,
    }
    assert "c is the default now" in user.run("profile", "remove", "a").stdout
    user.run("profile", "remove", "c")
    assert json.loads(user.run("profile", "list", "--json").stdout) == {
        "default": None,
        "profiles": [],
    }

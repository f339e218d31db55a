"""``onefs umount`` and ``onefs status``, and a mount in the foreground."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onefs
from onefs.cache.sparse import disk_size
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cleanup import mounts_below
from tests.laboratories import SMALL, account, small_file, small_folder
from tests.running import ONEFS, Home, Mounted, process, wait_until
from tests.scripted_server import ScriptedServer, answer_json, stall

#: what ``onefs status --json`` promises of each mount, and of each download
MOUNT_KEYS = {
    "mountpoint", "pid", "url", "profile", "cache_dir", "cache_bytes", "cache_limit", "state",
    "since", "log_file", "version", "sources", "downloads",
}  # fmt: skip
DOWNLOAD_KEYS = {"path", "done", "size", "rate"}
#: takes the lock under which the cache's bytes are counted, and keeps it
HOLD_USAGE_COUNTER = """
import os, sys
from onefs.cache import locks, usage
file = os.open(sys.argv[1], os.O_RDWR)
while not locks.try_lock(file, usage._GUARD_LOCK_BYTE): pass
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("data"), size=30_000)


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[Servers]:
    with Servers(FolderLaboratory(folder)) as running:
        yield running


@pytest.fixture
def mounted(home: Home, servers: Servers) -> Mounted:
    return home.mount(**account(servers))


class TestUmount:
    def test_it_ends_mount_and_daemon_and_removes_the_folder_that_mount_made(
        self, mounted: Mounted
    ) -> None:
        mounted.umount()
        assert mounts_below(mounted.home.root) == []
        assert mounted.has_ended()
        assert not mounted.path.exists()

    def test_a_folder_that_was_there_stays(self, home: Home, servers: Servers) -> None:
        (home.root / "mine").mkdir(mode=0o755)
        mounted = home.mount(at="mine", **account(servers))
        mounted.umount()
        assert mounted.path.stat().st_mode & 0o777 == 0o755
        assert os.listdir(mounted.path) == []

    def test_a_folder_that_is_made_is_private(self, mounted: Mounted) -> None:
        mode = mounted.path.parent.stat().st_mode
        os.kill(mounted.pid, signal.SIGKILL)
        wait_until(mounted.has_ended)
        mounted.umount()
        assert not mounted.path.exists()
        assert mounted.path.parent.stat().st_mode == mode

    def test_it_names_the_processes_that_keep_it_busy(self, mounted: Mounted, folder: Path) -> None:
        with process(["sleep", "60"], cwd=mounted.path) as sleeper:
            said = mounted.home.error_of(1, "umount", mounted.path)
            assert f"sleep ({sleeper.pid})" in said
            # the mount continues
            content = small_file(folder, SMALL[0]).read_bytes()
            assert (mounted.path / SMALL[0]).read_bytes() == content
            assert not mounted.has_ended()
        mounted.umount()

    def test_it_takes_the_mount_point_however_it_is_written(
        self, home: Home, servers: Servers
    ) -> None:
        mounted = home.mount(**account(servers))
        home.run("umount", "./nothing/../mnt/")
        assert mounted.has_ended()

    def test_a_dead_mount_can_be_unmounted(self, mounted: Mounted) -> None:
        os.kill(mounted.pid, signal.SIGKILL)
        wait_until(mounted.has_ended)
        mounted.umount()
        assert mounts_below(mounted.home.root) == []


class TestStatus:
    def test_before_and_after_a_mount_there_is_nothing(self, home: Home, servers: Servers) -> None:
        for _ in range(2):
            status = home.status()
            assert set(status) == {"version", "mounts"}
            assert status["version"] == onefs.__version__
            assert home.status_of(home.root / "mnt") is None
            home.mount(**account(servers)).umount()

    def test_of_a_mount(self, mounted: Mounted, servers: Servers) -> None:
        content = (mounted.path / SMALL[0]).read_bytes()
        status = _wait_for(mounted, lambda found: found["cache_bytes"] > 0)
        assert set(status) == MOUNT_KEYS
        assert status | {"since": 0} == {
            "mountpoint": str(mounted.path),
            "pid": mounted.pid,
            "url": servers.alyx_url,
            "profile": None,
            "cache_dir": str(next(mounted.home.cache.iterdir())),
            "cache_bytes": disk_size(len(content)),
            "cache_limit": None,
            "state": "ready",
            "since": 0,
            "log_file": str(next(mounted.home.state.glob("*/onefs.log"))),
            "version": onefs.__version__,
            "sources": [
                {
                    "kind": "server",
                    "name": servers.data_url.partition("://")[2],
                    "bytes": len(content),
                }
            ],
            "downloads": [],
        }
        assert abs(status["since"] - time.time()) < 60

    def test_the_pid_is_of_the_process_whose_death_ends_the_mount(self, mounted: Mounted) -> None:
        before = mounted.home.status_of(mounted.path)
        os.kill(mounted.pid, signal.SIGKILL)
        wait_until(mounted.has_ended)
        status = mounted.home.status_of(mounted.path)
        assert status is not None
        assert set(status) == MOUNT_KEYS
        assert (status["state"], status["pid"]) == ("stale", None)
        # cached files are still readable
        assert before is not None
        assert status["cache_bytes"] == before["cache_bytes"]
        with pytest.raises(OSError, match="endpoint"):
            os.listdir(mounted.path)

    def test_of_the_embedded_laboratory(self, home: Home, folder: Path) -> None:
        mounted = home.mount("--demo", "--demo-data", folder)
        status = home.status_of(mounted.path)
        assert status is not None
        assert status["url"].startswith("http://127.0.0.1:")
        assert status["url"] == mounted.xattr("url")
        assert Path(status["cache_dir"]).name.startswith("demo-")

    def test_of_a_download(self, home: Home, folder: Path) -> None:
        size = small_file(folder, SMALL[0]).stat().st_size
        with Servers(FolderLaboratory(folder), rate=size // 8) as servers:
            mounted = home.mount(**account(servers))
            with process(["cat", mounted.path / SMALL[0]], stdout=subprocess.DEVNULL):
                status = _wait_for(mounted, lambda found: found["downloads"])
                (download,) = status["downloads"]
                assert set(download) == DOWNLOAD_KEYS
                assert (download["path"], download["size"]) == (SMALL[0], size)
                assert 0 <= download["done"] <= size
                grown = _wait_for(
                    mounted, lambda f: f["downloads"] and f["downloads"][0]["done"] > 0
                )
                assert 0 < grown["downloads"][0]["rate"] < 2 * size

    @pytest.mark.long
    def test_while_another_process_is_frozen_with_the_count_of_bytes(
        self, mounted: Mounted
    ) -> None:
        content = (mounted.path / SMALL[0]).read_bytes()
        _wait_for(mounted, lambda found: found["cache_bytes"] > 0)
        usage = next(mounted.home.cache.glob("*/.onefs/usage"))
        command: list[str | Path] = [sys.executable, "-c", HOLD_USAGE_COUNTER, usage]
        pipe = subprocess.PIPE
        with process(command, stdin=pipe, stdout=pipe) as frozen:
            assert frozen.stdout is not None
            assert frozen.stdout.readline() == b"held\n"
            frozen.send_signal(signal.SIGSTOP)
            wait_until(lambda: mounted.log_lines("WARNING", "status cannot be determined"), 25)
            assert not mounted.has_ended()
            assert (mounted.path / SMALL[0]).read_bytes() == content
            status = mounted.home.status_of(mounted.path)
            assert status is not None
            assert (status["state"], status["cache_bytes"] > 0) == ("ready", True)
        known = status["cache_bytes"]
        (mounted.path / SMALL[1]).read_bytes()
        _wait_for(mounted, lambda found: found["cache_bytes"] > known)

    def test_for_people(self, mounted: Mounted) -> None:
        text = mounted.home.run("status").stdout
        assert str(mounted.path) in text
        assert "ready" in text


class TestForeground:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_unmounts(self, home: Home, servers: Servers, number: int) -> None:
        place = home.root / "mnt"
        environment = home.environment | account(servers)
        command: list[str | Path] = [ONEFS, "mount", place, "--foreground"]
        with process(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
            wait_until(lambda: mounts_below(home.root) == [str(place)])
            wait_until(lambda: home.status_of(place), 5)
            status = home.status_of(place)
            assert status is not None
            assert status["pid"] == running.pid
            assert (place / SMALL[0]).stat().st_size > 0
            running.send_signal(number)
            assert running.wait(60) == 0
            assert running.stderr is not None
            assert "Traceback" not in running.stderr.read()
        assert mounts_below(home.root) == []
        assert not place.exists()

    @pytest.mark.parametrize("level", ["debug", "info", "error"])
    def test_it_logs_to_the_terminal(self, home: Home, servers: Servers, level: str) -> None:
        place, said = home.root / "mnt", home.root / "stderr"
        environment = home.environment | account(servers)
        command: list[str | Path] = [ONEFS, "mount", place, "--foreground", "--log-level", level]
        with said.open("w") as file, process(command, env=environment, stderr=file) as running:
            wait_until(lambda: home.status_of(place))
            assert (place / SMALL[0]).stat().st_size > 0
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0
        text = said.read_text()
        mounted = re.findall(r" INFO onefs\.mount\.\w+: mounted the database onefs:\S+ at ", text)
        assert len(mounted) == (level != "error")
        assert (" DEBUG " in text) == (level == "debug")
        assert servers.login.password not in text

    @pytest.mark.parametrize(
        ("number", "code"),
        [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    )
    def test_a_signal_ends_it_before_it_is_mounted(
        self, home: Home, number: int, code: int
    ) -> None:
        token = answer_json({"token": "0" * 40})
        with ScriptedServer({"/auth-token": token, "/labs": stall()}) as web:
            variables = {
                "ONEFS_URL": web.url,
                "ONEFS_USERNAME": "somebody",
                "ONEFS_PASSWORD": "secret",
                "ONEFS_DEADLINE": "60",
            }
            command: list[str | Path] = [ONEFS, "mount", home.root / "mnt", "--foreground"]
            environment = home.environment | variables
            with process(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
                wait_until(lambda: any("/labs" in each.target for each in web.requests))
                running.send_signal(number)
                assert running.wait(30) == code
                assert running.stderr is not None
                assert "Traceback" not in running.stderr.read()
        assert mounts_below(home.root) == []
        assert not (home.root / "mnt").exists()


def _wait_for(mounted: Mounted, condition: Any) -> dict[str, Any]:
    """The first status that meets a condition."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        status = mounted.home.status_of(mounted.path)
        assert status is not None
        json.dumps(status)
        found.append(status)
        return bool(condition(status))

    wait_until(look, 15)
    return found[-1]

"""An Alyx whose own database is down counts as unreachable, for commands and mounts."""

from __future__ import annotations

import errno
import json
import os
import time
from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import account
from tests.running import Home, Mounted, read_errno, wait_until

DETAIL = (
    'connection to server at "localhost", port 5432 failed: FATAL:  the database system is '
    "starting up\n"
)
SESSION = "mainenlab/clns0730/2018-08-24/001"
OUTAGE_TEXT = "its own database seems to be unavailable"
#: seconds that a command may take beside its deadlines
SOON_SECONDS = 60.0


@pytest.fixture(scope="module")
def source() -> SyntheticLaboratory:
    return SyntheticLaboratory()


def take_database_down(servers: Servers) -> None:
    """Make Alyx answer every request with 500 and a ``detail``."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        body = json.dumps({"status_code": 500, "detail": DETAIL}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("500 Internal Server Error", headers)
        return [body]

    servers.alyx.stop()
    servers.alyx.start(app)


def bring_database_back(servers: Servers) -> None:
    servers.alyx.stop()
    servers.alyx.start(servers._alyx_app)


def test_a_mount_comes_up_with_what_is_known(home: Home, servers: Servers) -> None:
    who = account(servers)
    mounted = home.mount(**who)
    listed = sorted(os.listdir(mounted.path / SESSION))
    mounted.umount()
    take_database_down(servers)

    began = time.monotonic()
    again = home.mount(**who)
    assert sorted(os.listdir(again.path / SESSION)) == listed
    assert read_errno(again.path / "zadorlab") == errno.EHOSTUNREACH
    assert time.monotonic() - began < SOON_SECONDS
    assert len(again.log_lines("; onefs shows what is in the catalogue", "starting up")) == 1
    assert "Traceback" not in home.log()

    bring_database_back(servers)
    wait_until(lambda: _is_back(again), 90.0)


def _is_back(mounted: Mounted) -> bool:
    try:
        return bool(os.listdir(mounted.path / "zadorlab"))
    except OSError:
        return False


def test_an_outage_during_a_mount_is_reported_once(home: Home, servers: Servers) -> None:
    mounted = home.mount(**account(servers))
    listed = sorted(os.listdir(mounted.path / SESSION))
    take_database_down(servers)
    for name in (
        ".by-ref/2018-08-24_1_nobody",
        "zadorlab",
        ".search/lab=zadorlab",
    ):
        assert read_errno(mounted.path / name) == errno.EHOSTUNREACH, name
    assert sorted(os.listdir(mounted.path / SESSION)) == listed
    assert len(mounted.log_lines("WARNING")) == 1, home.log()


def test_commands_say_one_sentence(home: Home, servers: Servers) -> None:
    who = account(servers)
    take_database_down(servers)
    for command in (
        ("search", "--lab", "mainenlab"),
        ("get", f"{SESSION}/spikes.times.npy"),
        ("sync",),
        ("login",),
        ("mount", home.root / "mnt"),
    ):
        said = home.error_of(4, *command, **who)
        assert OUTAGE_TEXT in said, command
        assert "starting up" in said

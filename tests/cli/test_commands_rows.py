"""Tests for rows of the table of commands that concern several commands, or Python."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.alyx.auth import fetch_token
from onefs.cache.sparse import disk_size
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.http import Transport
from onefs.mount.mount_registry import STATUS_XATTR
from onefs.printable import format_size
from tests.cli.commands_table import row
from tests.laboratories import account
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.running import Home, run, within
from tests.system.test_database_down import OUTAGE_TEXT, SESSION, take_database_down

#: number of requests that Alyx allows in any minute
THROTTLE = 60
#: a session with a dataset whose bytes contradict the database
EID = "d6ccedb7-336a-48b5-b348-32b8c5ca9ee1"
WRONG = "cortexlab/KS023/2019-12-09/001/alf/_ibl_trials.contrastRight.npy"


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as made:
        yield made


@row("Alyx up, its database down")
@pytest.mark.usefixtures("fuse")
def test_a_database_that_is_down_is_one_sentence_and_one_line(user: Home) -> None:
    """Commands report that Alyx's database is down. A mount starts with the catalogue."""
    with Servers(SyntheticLaboratory()) as servers:
        who = account(servers)
        user.mount(**who).umount()
        take_database_down(servers)
        for command in (("search", "--limit", "1"), ("sync",), ("login",)):
            assert OUTAGE_TEXT in user.error_of(4, *command, **who), command
        mounted = user.mount(**who)
        assert (
            len(mounted.log_lines("is unreachable (", "; onefs shows what is in the catalogue"))
            == 1
        )
        assert "Traceback" not in user.run("get", f"{SESSION}/no.npy", code=4, variables=who).stderr
        mounted.umount()


def use_up_request_limit(servers: Servers, token: str) -> None:
    """Send requests, without a rate limit as another client does, until Alyx answers 429."""
    headers = {"Authorization": f"Token {token}"}
    for _ in range(THROTTLE + 1):
        request = urllib.request.Request(f"{servers.alyx_url}/labs?limit=1", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 429:
                return
            raise
    raise AssertionError("Alyx has no throttle")


@row("another client used up the throttle")
@pytest.mark.parametrize("with_token", [False, True])
def test_a_request_limit_used_up_by_other_clients_is_reported(user: Home, with_token: bool) -> None:
    """Cached answers are printed with a message, and other errors name the seconds to wait."""
    with Servers(SyntheticLaboratory(), throttle=THROTTLE) as servers:
        login = servers.login
        with Transport() as transport:
            token = fetch_token(transport, servers.alyx_url, login.username, login.password)
        who = account(servers, token=token if with_token else "")
        found = user.run("search", "--user", "olivier", variables=who).stdout
        assert found
        use_up_request_limit(servers, token)
        soon = {**who, "ONEFS_DEADLINE": "2"}
        done = user.run("search", "--user", "olivier", variables=soon)
        assert done.stdout == found
        (line,) = done.stderr.splitlines()
        assert re.search(r"\d+ s", line)
        assert "by the same search are returned, because of an error: " in line
        ref = found.splitlines()[1].split()[0]
        assert user.run("list", ref, code=4, variables=soon).stdout == ""
        for command in (["search", "--tag", "no"], ["list", "--users"]):
            assert re.search(r"\d+ s", user.error_of(4, *command, **soon)), command


@row("onefs status just after reads")
@pytest.mark.usefixtures("fuse")
def test_status_reports_what_has_just_been_read(user: Home) -> None:
    """``onefs status`` asks the mount, because the mount's record can be some seconds old."""
    mounted = user.mount("--demo")
    before = user.status_of(mounted.path)
    assert before is not None
    assert before["cache_bytes"] == 0
    expected = 0
    for path in sorted((mounted.path / SESSION / "alf").glob("*.npy"))[:3]:
        expected += disk_size(len(path.read_bytes()))
        status = user.status_of(mounted.path)
        assert status is not None
        assert status["cache_bytes"] == expected
    assert format_size(expected) in user.run("status").stdout
    names = os.listxattr(mounted.path)
    assert STATUS_XATTR not in names
    assert json.loads(os.getxattr(mounted.path, STATUS_XATTR))["username"] == ""


@row("onefs status just after reads")
@pytest.mark.usefixtures("fuse")
def test_status_of_a_daemon_that_does_not_answer_is_its_record(user: Home) -> None:
    mounted = user.mount("--demo")
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        with within():
            status = user.status_of(mounted.path)
    finally:
        os.kill(mounted.pid, signal.SIGCONT)
    assert status is not None
    assert (status["pid"], status["state"]) == (mounted.pid, "ready")


@row("BadContent from one.load(eid, [types])")
def test_wrong_bytes_are_reported_once_with_the_path(user: Home, tmp_path: Path) -> None:
    code = (
        "from onefs import ONE\n"
        "with ONE() as one:\n"
        f"    one.load({EID!r}, ['_ibl_trials.contrastRight'])"
    )
    with Servers(RecordedSource(folder=tmp_path / "large"), LOGIN) as servers:
        environment = user.environment | account(servers)
        done = run([sys.executable, "-c", code], environment=environment, code=1)
    assert done.stderr.count("the database says") == 1
    assert f"BadContent: {WRONG}: the database says" in done.stderr

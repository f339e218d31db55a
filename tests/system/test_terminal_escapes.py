"""Texts of servers never reach a terminal, a log or an attribute as control sequences.

Each command is run with its output in pipes and at a terminal.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from onefs.demo.records import DatasetRecord, SessionRecord
from onefs.demo.servers import Servers
from tests.cli.terminal import ONEFS, Terminal
from tests.laboratories import AlteredLaboratory, account
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.running import Home, Mounted, run
from tests.scripted_server import (
    Request,
    Script,
    ScriptedServer,
    answer_json,
)
from tests.terminal_escapes import ESCAPES, control_characters_in

#: what our own progress writes
_OURS = re.compile(r"\r?\x1b\[K|\x1b\[\d+A\x1b\[J|\x1b\[\?25[lh]")
EID = "12345678-1234-4234-8234-123456789abc"


class Evil(AlteredLaboratory):
    """The recorded laboratory with hostile texts in every field that holds one."""

    def sessions(self) -> Sequence[SessionRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return [
            replace(
                each,
                subject=each.subject + ESCAPES,
                task_protocol=ESCAPES,
                projects=(ESCAPES,),
                narrative=ESCAPES,
                qc=ESCAPES,
            )
            for each in self._source.sessions()
        ]

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return [
            replace(
                each,
                name=ESCAPES + each.name,
                dataset_type=each.dataset_type + ESCAPES,
                collection=f"{each.collection}/{ESCAPES}",
                revision=ESCAPES,
                qc=ESCAPES,
                hash=ESCAPES,
            )
            for each in self._source.datasets(eid)
        ]


class Refusing(ScriptedServer):
    """An Alyx that gives tokens, and answers everything else with hostile words."""

    status = 500

    def next_script(self, request: Request) -> Script:
        """See :class:`ScriptedServer`."""
        if request.target.startswith("/auth-token"):
            return answer_json({"token": "0" * 40})
        if request.target == "/labs?limit=1":  # the token is looked at
            return answer_json({"count": 0, "next": None, "previous": None, "results": []})
        return answer_json({"detail": ESCAPES}, self.status)


@pytest.fixture(scope="module")
def evil() -> Iterator[Servers]:
    with Servers(Evil(RecordedSource()), LOGIN) as found:
        yield found


def assert_nothing_is_obeyed(shown: str, *, paths: bool = False) -> None:
    """That nothing in an output is obeyed; ``paths`` are for programs, and exact."""
    if paths:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", shown), ascii(shown)
    else:
        assert control_characters_in(shown) == [], ascii(shown)
    assert "\nINFO forged" not in shown


def run_in_pipe_and_terminal(
    home: Home, variables: Mapping[str, str], *arguments: str, paths: bool = False
) -> str:
    """Run a command with pipes and at a terminal; what the pipe had."""
    environment = {**home.environment, "PAGER": "cat", **variables}
    done = run([*ONEFS, *arguments], environment=environment, cwd=home.root, code=None)
    assert_nothing_is_obeyed(done.stderr)
    assert "Traceback" not in done.stderr
    assert_nothing_is_obeyed(done.stdout, paths=paths)
    with Terminal(list(arguments), environment) as terminal:
        terminal.exit_code()
        assert_nothing_is_obeyed(_OURS.sub("", terminal.shown))
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("status", [400, 403, 500])
def test_what_a_server_says_in_errors(home: Home, status: int) -> None:
    with Refusing({}) as alyx:
        alyx.status = status
        variables = {"ONEFS_URL": alyx.url, "ONEFS_USERNAME": "me", "ONEFS_TOKEN": "0" * 40}
        for arguments in (
            ["search", "--subject", "x"],
            ["list", "--labs"],
            ["list", EID],
            ["path", EID],
            ["get", EID],
            ["sync"],
            ["cache", "pin", EID],
            ["login"],
            ["setup", "--url", alyx.url, "--username", "me"],
            ["mount", "mnt"],
        ):
            run_in_pipe_and_terminal(home, variables, *arguments)
        assert home.log()
        assert_nothing_is_obeyed(home.log())


@pytest.mark.long
def test_what_a_database_holds(home: Home, evil: Servers) -> None:
    person = account(evil)
    mounted = home.mount("--log-level", "DEBUG", **person)
    eid = run_in_pipe_and_terminal(
        home, person, "search", "--limit", "2", "--format", "eids"
    ).split()[0]
    for arguments in (
        ["search", "--limit", "3", "--details"],
        ["search", "--limit", "3", "--format", "json"],
        ["list", eid],
        ["list", eid, "--details"],
        ["list", eid, "--all"],
        ["list", "--dataset-types"],
        ["list", "--subjects"],
        ["status"],
        ["status", "--json"],
    ):
        run_in_pipe_and_terminal(home, person, *arguments)
    for arguments in (
        ["search", "--limit", "3", "--format", "paths"],
        ["path", eid],
        ["get", "--dry-run", eid],
        ["get", eid],
    ):
        run_in_pipe_and_terminal(home, person, *arguments, paths=True)
    found = run_in_pipe_and_terminal(
        home, person, "search", "--limit", "1", "--format", "paths", paths=True
    )
    assert os.path.isdir(found.rstrip("\n"))
    for arguments in (["cache", "list"], ["cache", "info"], ["cache", "verify"], ["show", found]):
        run_in_pipe_and_terminal(home, person, *arguments)
    _look_at_files(mounted, found.rstrip("\n"))
    assert_nothing_is_obeyed(home.log())


def _look_at_files(mounted: Mounted, session: str) -> None:
    """Tables and attributes below a session."""
    table = os.path.join(session, ".datasets.tsv")
    with open(table, "rb") as file:
        lines = file.read().decode().rstrip("\n").split("\n")
    assert {line.count("\t") for line in lines} == {6}
    for line in lines:
        assert_nothing_is_obeyed("".join(line.split("\t")[1:]))
    with open(os.path.join(session, ".session.json"), "rb") as file:
        record = file.read().decode()
    assert_nothing_is_obeyed(record)
    assert json.loads(record)["narrative"] == ESCAPES
    seen = 0
    for folder, _, files in os.walk(session):
        for name in files[:3]:
            path = os.path.join(folder, name)
            for attribute in os.listxattr(path):
                if attribute.startswith("user.onefs."):
                    assert_nothing_is_obeyed(os.getxattr(path, attribute).decode())
                    seen += 1
    assert seen


@pytest.mark.long
def test_what_names_and_variables_hold(home: Home) -> None:
    """Arguments, profiles and files on disk may be another's too."""
    evil = ESCAPES.replace("\n", "").replace("/", "")
    nobody = {"ONEFS_URL": "http://127.0.0.1:1", "ONEFS_USERNAME": "x", "ONEFS_TOKEN": "0" * 40}
    for arguments in (
        ["mount", f"mnt{evil}/x/y"],
        ["umount", evil],
        ["get", evil],
        [evil],
        ["search", f"--{evil}"],
        ["search", "--limit", evil],
        ["list", f"--profile={evil}"],
        ["cache", "list", f"/{evil}"],
    ):
        run_in_pipe_and_terminal(home, nobody, *arguments)
    for variable in ("ONEFS_URL", "ONEFS_PROFILE", "ONEFS_DATA_HOSTS", "ONEFS_CACHE_SIZE"):
        run_in_pipe_and_terminal(home, {**nobody, variable: evil}, "list", "--labs")


def test_python_errors_and_warnings(home: Home, evil: Servers) -> None:
    code = """
import warnings
from onefs import ONE
warnings.simplefilter("always")
one = ONE()
eid = one.search(limit=1)[0]
print(one.list(eid, details=True))
one.load(eid, "no.such" + chr(27))
"""
    environment = home.environment | account(evil)
    done = run([sys.executable, "-c", code], environment=environment, cwd=home.root, code=None)
    assert_nothing_is_obeyed(done.stdout)
    assert_nothing_is_obeyed(done.stderr)


def test_a_path_is_exact_in_a_pipe_and_safe_at_a_terminal(home: Home, evil: Servers) -> None:
    """As `ls` does it: a program opens what it reads, and a terminal obeys nothing of it."""
    folder = home.root / "cache\x9b31m\u202e\udcff"
    variables = {**account(evil), "ONEFS_CACHE_DIR": str(folder)}
    eid = run_in_pipe_and_terminal(
        home, variables, "search", "--limit", "1", "--format", "eids"
    ).strip()
    environment = {**home.environment, **variables}
    for arguments in (["path", eid], ["search", "--limit", "1", "--format", "paths"]):
        shown = subprocess.run(
            [*ONEFS, *arguments], env=environment, capture_output=True, check=True, timeout=60
        ).stdout
        assert shown.startswith(os.fsencode(folder) + b"/")
        with Terminal(arguments, environment) as terminal:
            assert terminal.exit_code() == 0
            assert_nothing_is_obeyed(terminal.shown)
            assert "cache?31m?%FF/" in terminal.shown

"""Tests that Ctrl-C at once ends a call that waits for a server, in Python and in commands.

The servers are stopped by SIGSTOP, so that they accept connections but do not answer. All deadlines
of requests are longer than the time that a test waits.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from onefs.lowlevel.child_process import CHILD_WORKING_DIRECTORY, child_command
from onefs.lowlevel.files import wait_readable
from tests.one.conftest import EID
from tests.running import ONEFS, wait_until

ROOT = Path(__file__).parents[2]
#: seconds after which the programs' own deadlines would end a wait
LONG_DEADLINE_SECONDS = 900
#: seconds within which an interrupted program ends; for a machine that is busy
INTERRUPT_SECONDS = 30.0
#: seconds for a program to have sent its requests
REQUEST_STARTED_SECONDS = 1.5


class Server:
    """Both servers, in a process that can be stopped and continued."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdout is not None
        self.ready: dict[str, str] = json.loads(process.stdout.readline())

    @contextmanager
    def stalling(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@pytest.fixture
def server() -> Iterator[Server]:
    process = subprocess.Popen(
        child_command("onefs.demo", "--until-stdin-closes"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHILD_WORKING_DIRECTORY,
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    names = ("username", "password", "data_username", "data_password")
    return {
        **os.environ,
        **{f"ONEFS_{name.upper()}": server.ready[name] for name in names},
        "ONEFS_URL": server.ready["alyx_url"],
        "ONEFS_DATA_HOSTS": server.ready["data_url"],
        "ONEFS_CACHE_DIR": str(tmp_path / "ONE"),
        "ONEFS_DEADLINE": str(LONG_DEADLINE_SECONDS),
        "ONEFS_STALL": str(LONG_DEADLINE_SECONDS),
        "ONEFS_SMALL_FILE": "200000",  # some of the files come in blocks
    }


class Program:
    """``tests.one.interrupted_program``."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.one.interrupted_program"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
        )
        self.tell({})
        self.await_word("ready", 60)

    def tell(self, what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def await_word(self, word: str, seconds: float = INTERRUPT_SECONDS) -> None:
        assert self.process.stdout is not None
        assert wait_readable(self.process.stdout, seconds), f"not {word} within {seconds:g} s"
        assert self.process.stdout.readline().decode().strip() == word

    def do(self, method: str, *arguments: Any, **keywords: Any) -> None:
        self.tell([method, arguments, keywords])
        self.await_word("begun")

    def interrupt(self) -> None:
        time.sleep(REQUEST_STARTED_SECONDS)
        self.process.send_signal(signal.SIGINT)
        self.await_word("interrupted")


@pytest.fixture
def program(environment: dict[str, str]) -> Iterator[Program]:
    made = Program(environment)
    try:
        yield made
    finally:
        made.process.kill()
        print(made.process.communicate()[1].decode(errors="replace"))  # shown when a test fails


CALLS: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "load of many files": ("load", [EID], {}),
    "load of a file in blocks": ("load", [EID, "clusters.templateWaveforms"], {}),
    "list": ("list", [EID], {}),
    "tables": ("list", [None, "labs"], {}),
    "search": ("search", [], {"subject": "clns0730"}),
    "ref": ("ref", [EID], {}),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_method_ends_at_once_and_the_object_works_on(
    server: Server, program: Program, call: str
) -> None:
    method, arguments, keywords = CALLS[call]
    if method == "load":  # so that it waits for the file server
        program.do("list", EID, details=True)
        program.await_word("done", 60)
    with server.stalling():
        for _ in range(2):
            program.do(method, *arguments, **keywords)
            program.interrupt()
    program.do(method, *arguments, **keywords)
    program.await_word("done", 90)


@pytest.mark.parametrize("call", ["load of many files", "load of a file in blocks", "list"])
def test_the_program_can_end_after_it(server: Server, program: Program, call: str) -> None:
    """When Python ends, it does not wait for requests that have begun."""
    method, arguments, keywords = CALLS[call]
    if method == "load":
        program.do("list", EID, details=True)
        program.await_word("done", 60)
    with server.stalling():
        program.do(method, *arguments, **keywords)
        program.interrupt()
        _, said = program.process.communicate(timeout=INTERRUPT_SECONDS)
    assert (program.process.returncode, said) == (0, b"")


COMMANDS = {
    "search": ["search", "--subject", "clns0730"],
    "list": ["list", EID],
    "get a session": ["get", EID],
    "get a file": ["get", f"{EID}", "--type", "clusters.templateWaveforms"],
    "sync": ["sync"],
    "accept": ["cache", "accept", EID],
    "path": ["path", EID],
    "show": ["show", "mainenlab/Subjects/clns0730/2018-08-24/001/eye.area.npy"],
}


def _has_connected_or_ended(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        return True
    links = []
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            links.append(os.readlink(entry))
    return any(link.startswith("socket:") for link in links)


@pytest.mark.parametrize("known", [False, True], ids=["nothing known", "listed"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_at_once(
    server: Server, environment: dict[str, str], command: str, known: bool
) -> None:
    if known:
        subprocess.run(
            [ONEFS, "get", "--dry-run", EID], env=environment, check=True, capture_output=True
        )
    with server.stalling():
        process = subprocess.Popen(
            [ONEFS, *COMMANDS[command]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            wait_until(lambda: _has_connected_or_ended(process))
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=INTERRUPT_SECONDS)
        finally:
            process.kill()
    assert b"Traceback" not in said
    # the last where the signal meets an interpreter that is ending
    assert process.returncode in (0, 1, 130, -signal.SIGINT), said

"""Each command is run in each state that a machine, a terminal or a server may be in."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field

import pytest

from onefs.cli import COMMANDS
from onefs.demo.servers import Servers
from tests.cli.terminal import Terminal
from tests.laboratories import SMALL
from tests.running import ONEFS, TIMEOUT_SECONDS, Home, wait_until
from tests.scripted_server import ScriptedServer, refusing_url, stall

pytestmark = pytest.mark.usefixtures("fuse")

SESSION = "labone/mouse.1/2021-03-04/001"
#: each command with arguments that it accepts; MNT and TABLES are replaced by folders
ARGUMENTS: dict[str, list[list[str]]] = {
    "mount": [["mount", "MNT"]],
    "umount": [["umount", "MNT"]],
    "refresh": [["refresh"]],
    "status": [["status"], ["status", "--json"]],
    "sync": [["sync", "--sizes"]],
    "tags": [["tags"], ["tags", "--json"]],
    "get": [["get", SMALL[0]]],
    "cache": [["cache", "info"], ["cache", "list"], ["cache", "verify"], ["cache", "pin", SMALL[0]],
              ["cache", "evict", SMALL[0]], ["cache", "clear"]],
    "search": [["search", "--limit", "1"]],
    "changes": [["changes", "--since", "2020-01-01"]],
    "list": [["list", SESSION], ["list", "--labs"]],
    "show": [["show", SMALL[0]]],
    "path": [["path", SESSION]],
    "setup": [["setup"]],
    "login": [["login"]],
    "logout": [["logout"]],
    "profile": [["profile", "list"], ["profile", "use", "nosuch"], ["profile", "remove", "nosuch"]],
    "log": [["log"], ["log", "--file"]],
    "demo": [["demo", "--help"]],
}  # fmt: skip
LINES = [line for lines in ARGUMENTS.values() for line in lines]
EXIT_CODES = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Condition:
    """A state in which commands are run."""

    #: around the command, which is ``"$@"``
    shell: str = 'exec "$@"'
    variables: dict[str, str] = field(default_factory=dict)
    #: whether commands get no answer from the server
    server_is_away: bool = False


CONDITIONS = {
    "output full": Condition('exec "$@" > /dev/full'),
    "output closed": Condition('exec "$@" >&-'),
    "all closed": Condition('exec "$@" <&- >&- 2>&-'),
    "no terminal": Condition(),
    "60 columns": Condition(variables={"COLUMNS": "60"}),
    "LC_ALL=C": Condition(variables={"LC_ALL": "C"}),
    "POSIX": Condition(
        variables={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "ISO-8859-1": Condition(variables={"PYTHONIOENCODING": "iso-8859-1"}),
    "no home": Condition(
        variables={"HOME": "/proc/nonexistent", "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": "",
                   "XDG_CACHE_HOME": ""}
    ),
    "folder deleted": Condition('mkdir d; cd d; rmdir ../d; exec "$@"'),
    "no network": Condition(server_is_away=True),
    "wrong scheme": Condition(server_is_away=True),
    "token revoked": Condition(variables={"ONEFS_PASSWORD": "", "ONEFS_TOKEN": "0123456789" * 4}),
}  # fmt: skip


def complete(line: list[str], home: Home) -> list[str]:
    return [str(home.root / "mnt") if word == "MNT" else word for word in line]


def run_in(
    condition: Condition, line: list[str], home: Home, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", condition.shell, "sh", str(ONEFS), *complete(line, home)],
        env={**home.environment, **condition.variables, **variables},
        cwd=home.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def check_outcome(
    done: subprocess.CompletedProcess[str], line: list[str], is_silent: bool = False
) -> None:
    """Check that there is no traceback, a documented exit code, and one error if it failed.

    With ``is_silent`` the error is not seen.
    """
    assert "Traceback" not in done.stderr + done.stdout, (line, done.stderr)
    assert "[errno" not in (done.stderr + done.stdout).lower(), (line, done.stderr)
    assert done.returncode in EXIT_CODES, (line, done.returncode, done.stderr)
    if done.returncode:
        sentences = [text for text in done.stderr.splitlines() if text.startswith("onefs: ")]
        told = [text for text in sentences if "cannot be saved" not in text]
        assert len(told) <= 1, (line, done.stderr)
        # click's own errors begin with "Error:"
        assert told or "\nError: " in done.stderr or is_silent, (line, done.stderr)


def test_each_command_is_in_the_table() -> None:
    assert set(ARGUMENTS) == set(COMMANDS)


@pytest.mark.long  # some 400 processes
@pytest.mark.parametrize("name", CONDITIONS)
def test_commands_end_with_a_sentence(user: Home, servers: Servers, name: str) -> None:
    condition = CONDITIONS[name]
    host = servers.alyx_url.partition("://")[2]
    with refusing_url() as nothing:
        urls = {"no network": nothing, "wrong scheme": f"https://{host}"}
        variables = {"ONEFS_URL": urls[name]} if name in urls else {}
        for line in LINES:
            done = run_in(condition, line, user, **variables)
            check_outcome(done, line, is_silent="2>" in condition.shell)
            asks_server = line[0] in ("search", "show", "get", "login", "setup", "mount")
            if condition.server_is_away and asks_server:
                assert done.returncode == 4, (line, done.stderr)
            if name == "output full" and done.returncode == 1 and line[0] != "umount":
                assert "cannot write to standard output" in done.stderr, line


@pytest.mark.long
@pytest.mark.parametrize("variable", ["ONEFS_CACHE_DIR", "ONEFS_STATE_DIR", "XDG_CONFIG_HOME"])
def test_a_folder_that_cannot_be_used_is_named_without_numbers(user: Home, variable: str) -> None:
    """Errors from the operating system are printed without numbers such as ``[Errno 20]``."""
    file = user.root / "file"
    file.write_text("no folder")
    codes = []
    for line in LINES:
        done = run_in(Condition(), line, user, **{variable: str(file / "folder")})
        check_outcome(done, line)
        codes.append(done.returncode)
    assert any(codes)


@pytest.mark.parametrize(
    "line", [line for line in LINES if line[0] in ("search", "list", "show", "get", "path", "login",
                                                   "mount", "sync", "setup", "changes")],
    ids=" ".join
)  # fmt: skip
def test_ctrl_c_ends_a_command_that_waits_for_a_server(user: Home, line: list[str]) -> None:
    with ScriptedServer(
        {path: stall() for path in ("/auth-token", "/labs", "/sessions")}
    ) as server:
        process = subprocess.Popen(
            [ONEFS, *complete(line, user)],
            env={**user.environment, "ONEFS_URL": server.url},
            cwd=user.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # pytest in the background of a shell has its children ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_until(lambda: bool(server.requests) or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
            process.wait(20)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err + out


def test_ctrl_c_at_a_question(user: Home) -> None:
    environment = {**user.environment, "ONEFS_PASSWORD": ""}
    with Terminal(["login"], environment) as terminal:
        terminal.expect("Password")
        terminal.interrupt()
        assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.shown

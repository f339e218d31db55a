"""Each line in the table of exit codes in docs/COMMANDS.md, with a command that causes it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.cli.test_commands_get import LICKS, LicksOnNoServer
from tests.laboratories import SMALL, account, small_folder
from tests.running import ONEFS, TIMEOUT_SECONDS, Home, clean_environment, run, wait_until
from tests.scripted_server import (
    ScriptedServer,
    answer_json,
    refusing_url,
    stall,
    unanswering_url,
)

pytestmark = pytest.mark.usefixtures("fuse")

FILE = SMALL[4]
COMMANDS = Path(__file__).parents[2] / "docs" / "COMMANDS.md"
Provoke = Callable[[Home, Servers], int]
PROVOKE: dict[str, Provoke] = {}


def lines() -> list[tuple[int, str]]:
    """Return the exit code and the words in each line of the table."""
    section = COMMANDS.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    return [(int(code), words) for code, words in re.findall(r"\| (\d+) \| (.+) \|", section)]


def code_of(home: Home, *arguments: object, shell: str = 'exec "$@"', **variables: str) -> int:
    """Return the exit code of a command."""
    done = run(
        ["/bin/sh", "-c", shell, "sh", ONEFS, *map(str, arguments)],
        environment=home.environment | variables,
        cwd=home.root,
        code=None,
    )
    assert "Traceback" not in done.stderr
    return done.returncode


def asked(server: ScriptedServer) -> bool:
    """Whether the servers got a request other than a login."""
    return any("/auth-token" not in each.target for each in server.requests)


def signalled(home: Home, number: int, *arguments: str) -> int:
    """Return the exit code of a command that gets a signal while it waits for the database."""
    scripts = {"/labs": stall(), "/sessions": stall()}
    token = answer_json({"token": "0" * 40})
    with ScriptedServer({"/auth-token": token, **scripts}) as server:
        process = subprocess.Popen(
            [ONEFS, *arguments],
            env={**home.environment, "ONEFS_URL": server.url},
            cwd=home.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # pytest in the background of a shell has its children ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_until(lambda: process.poll() is not None or asked(server))
            process.send_signal(number)
            process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
            process.wait(20)
        return process.returncode


def provokes(words: str) -> Callable[[Provoke], Provoke]:
    """Return a decorator that names the table line that a function causes."""

    def note(function: Provoke) -> Provoke:
        PROVOKE[words] = function
        return function

    return note


def simply(words: str, *arguments: object, shell: str = 'exec "$@"', **variables: str) -> None:
    """Add a command that causes the table line with these words."""
    PROVOKE[words] = lambda home, _: code_of(home, *arguments, shell=shell, **variables)


simply("the command has done what it says", "get", FILE)
simply("a search finds nothing", "search", "--tag", "nosuch")
simply("the database has no such session, file or dataset type", "get", f"{FILE}.nosuch")
simply("standard output cannot be written", "list", "--labs", shell='exec "$@" > /dev/full')
simply(
    "a cache folder cannot be used",
    "get",
    FILE,
    shell='touch file; ONEFS_CACHE_DIR="$PWD/file/folder" exec "$@"',
)
simply("a command, flag or argument makes no sense", "search", "--nosuch")
simply("there is no such profile", "profile", "use", "nosuch")
simply("`umount` of what is not mounted", "umount", "/proc")
simply("no credentials are known", "search", "--limit", "1", ONEFS_PASSWORD="", ONEFS_USERNAME="")
simply("a server refuses the credentials", "search", "--limit", "1", ONEFS_PASSWORD="wrong")
simply("`--offline`, and the catalogue does not have it", "get", FILE, "--offline")


@provokes("a file is registered, but on no server that can be reached")
def _on_no_server(home: Home, _: Servers) -> int:
    source = FolderLaboratory(small_folder(home.root / "other"))
    with Servers(LicksOnNoServer(source)) as servers:
        return code_of(home, "get", LICKS, **account(servers))


@provokes("`cache verify` finds a file that is wrong")
def _wrong(home: Home, _: Servers) -> int:
    file = Path(home.run("get", FILE).stdout.strip())
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    return code_of(home, "cache", "verify")


@provokes("a library that the command needs is not installed")
def _library(home: Home, _: Servers) -> int:
    blocker = home.root / "blocker"
    blocker.mkdir()
    (blocker / "flask.py").write_text("raise ModuleNotFoundError(name='flask')")
    return code_of(home, "demo", "serve", PYTHONPATH=str(blocker))


@provokes("no database is set up")
def _not_set_up(home: Home, _: Servers) -> int:
    home.environment = clean_environment(home.folder)
    return code_of(home, "search", "--limit", "1")


@provokes("the mount point is not empty")
def _not_empty(home: Home, _: Servers) -> int:
    return code_of(home, "mount", small_folder(home.root / "full"))


@provokes("the mount point is mounted already")
def _mounted(home: Home, _: Servers) -> int:
    return code_of(home, "mount", home.mount().path)


@provokes("a server cannot be reached")
def _refusing(home: Home, _: Servers) -> int:
    with refusing_url() as url:
        return code_of(home, "search", "--limit", "1", ONEFS_URL=url)


@provokes("a server speaks http where the URL says https")
def _scheme(home: Home, servers: Servers) -> int:
    return code_of(
        home, "search", "--limit", "1", ONEFS_URL=servers.alyx_url.replace("http:", "https:")
    )


@provokes("a server does not answer in time")
def _unanswering(home: Home, _: Servers) -> int:
    with unanswering_url() as url:
        return code_of(home, "search", "--limit", "1", ONEFS_URL=url, ONEFS_DEADLINE="1")


@provokes("a server asks to wait for longer than the command does")
def _throttled(home: Home, _: Servers) -> int:
    wait = answer_json({"detail": "throttled"}, 429, Retry_After=3600)
    with ScriptedServer(dict.fromkeys(("/labs", "/sessions", "/auth-token"), wait)) as server:
        return code_of(home, "search", "--limit", "1", ONEFS_URL=server.url, ONEFS_TOKEN="a" * 40)


@provokes("Ctrl-C")
def _interrupted(home: Home, _: Servers) -> int:
    return signalled(home, signal.SIGINT, "search", "--limit", "1")


@provokes("`mount --foreground` gets SIGHUP before it is mounted")
def _hung_up(home: Home, _: Servers) -> int:
    return signalled(home, signal.SIGHUP, "mount", "mnt", "--foreground")


@provokes("`mount --foreground` gets SIGTERM before it is mounted")
def _terminated(home: Home, _: Servers) -> int:
    return signalled(home, signal.SIGTERM, "mount", "mnt", "--foreground")


def test_each_line_of_the_table_has_a_test() -> None:
    assert sorted(words for _, words in lines()) == sorted(PROVOKE)


@row("exit codes")
@pytest.mark.parametrize(("code", "words"), lines())
def test_each_line_of_the_table_has_its_exit_code(
    user: Home, servers: Servers, code: int, words: str
) -> None:
    assert PROVOKE[words](user, servers) == code

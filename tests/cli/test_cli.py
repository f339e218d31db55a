"""The command ``onefs``: help that loads few modules, exit codes, one sentence for each error."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest

from onefs import __version__, errors
from onefs.cli import COMMANDS
from onefs.cli.output import exit_code
from onefs.errors import OnefsError
from tests import scripted_server
from tests.cli.terminal import ONEFS, Terminal, run

HEAVY = {"numpy", "requests", "urllib3", "mfusepy", "sqlite3", "flask", "keyring", "pandas"}


@pytest.mark.usefixtures("no_coverage")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_is_cheap(arguments: list[str], environ: dict[str, str]) -> None:
    code = f"""
import sys
from onefs.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environ
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(done.stdout) + len(done.stderr) > 10


@pytest.mark.usefixtures("no_coverage")
def test_importing_the_package_is_cheap() -> None:
    code = f"import sys, onefs; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"


def test_help_names_every_command(environ: dict[str, str]) -> None:
    shown = run(["--help"], environ).stdout
    for name, (_, summary) in COMMANDS.items():
        assert name in shown
        assert summary in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name


def test_version(environ: dict[str, str]) -> None:
    assert run(["--version"], environ).stdout.strip() == f"onefs, version {__version__}"


def test_an_unknown_command_exits_with_2(environ: dict[str, str]) -> None:
    done = run(["mout"], environ)
    assert (done.returncode, "did you mean mount?" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("UsageError", 2),
        ("NotConfigured", 2),
        ("AlyxCredentials", 3),
        ("DataServerCredentials", 3),
        ("Unreachable", 4),
        ("DeadlineExceeded", 4),
        ("Throttled", 4),
        ("ServerError", 1),
        ("MountError", 1),
        ("CacheFull", 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code(kind: str, code: int) -> None:
    error: OnefsError = getattr(errors, kind)("a sentence")
    assert exit_code(error) == code


def test_an_error_is_one_sentence(environ: dict[str, str]) -> None:
    done = run(["login"], environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("onefs: no database is set up: run `onefs setup`")
    assert done.stderr.count("\n") == 1


def test_an_unreachable_server_exits_with_4(environ: dict[str, str]) -> None:
    with scripted_server.refusing_url() as url:
        done = run(["login", "--url", url, "--username", "me"], environ, ONEFS_PASSWORD="pw-pw-pw")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "Connection refused" in done.stderr


def test_debug_shows_the_traceback_without_secrets(environ: dict[str, str]) -> None:
    with scripted_server.refusing_url() as url:
        done = run(
            ["login", "--url", url, "--username", "me"],
            environ,
            ONEFS_PASSWORD="pw-pw-pw",
            ONEFS_DEBUG="1",
        )
    assert "Traceback" in done.stderr
    assert "pw-pw-pw" not in done.stderr


def test_ctrl_c_is_quiet(environ: dict[str, str]) -> None:
    with Terminal(["login", "--url", "https://alyx.invalid"], environ) as terminal:
        terminal.expect("User name")
        terminal.interrupt()
        assert terminal.exit_code() == 130
        assert "Traceback" not in terminal.shown


def test_ctrl_c_while_modules_are_loading_is_quiet() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from onefs.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_broken_pipe_is_quiet(environ: dict[str, str]) -> None:
    with subprocess.Popen(
        [*ONEFS, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        shown = process.stderr.read()
        process.wait(60)
    assert shown == b""

"""``onefs logout`` reports what it deleted, and ``onefs login`` asks for what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.cli.terminal import Terminal, run
from tests.laboratories import account

#: variables for a keyring that is installed but cannot be asked, as in an SSH session
AWAY = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}


@pytest.fixture
def saved(environ: dict[str, str], laboratory: Servers) -> dict[str, str]:
    """The environment, without secrets, of a user with a saved database."""
    done = run(["setup"], {**environ, **account(laboratory)})
    assert done.returncode == 0, done.stderr
    return environ


@row("onefs logout after a login")
@pytest.mark.parametrize("keyring", [{}, AWAY])
def test_logout_reports_what_it_deleted(
    saved: dict[str, str], home: Path, keyring: dict[str, str]
) -> None:
    done = run(["logout"], saved, **keyring)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("deleted the token and the file server's password of http://")
    secrets = json.loads((home / ".config/onefs/credentials.json").read_text())
    assert secrets == {"secrets": {}}
    again = run(["logout"], saved, **keyring)
    assert (again.returncode, "deleted" in again.stdout) == (0, False)
    assert "holds no copy of the token or the file server's password" in again.stdout
    assert ("keyring cannot be used here" in again.stdout) == bool(keyring)


def test_logout_reports_which_secret_was_not_saved(
    environ: dict[str, str], laboratory: Servers
) -> None:
    user = {**environ, **account(laboratory)}
    del user["ONEFS_DATA_PASSWORD"]
    assert run(["login"], user).returncode == 0
    done = run(["logout"], user)
    deleted, absent, still = done.stdout.splitlines()
    assert deleted == f"deleted the token of {laboratory.alyx_url}"
    assert absent.endswith("holds no copy of the file server's password")
    assert still == (
        "the environment variable ONEFS_PASSWORD is still set, and onefs still uses it"
    )


def test_login_asks_for_the_file_servers_password_that_logout_deleted(
    saved: dict[str, str], home: Path, laboratory: Servers
) -> None:
    assert run(["logout"], saved).returncode == 0
    login = laboratory.login
    with Terminal(["login"], saved) as terminal:
        terminal.answer("Password (or token)", login.password)
        terminal.expect("logged in to")
        terminal.answer("File server's user name", login.data_username)
        terminal.answer("File server's password", login.data_password)
        assert terminal.exit_code() == 0
    assert login.data_password in (home / ".config/onefs/credentials.json").read_text()
    with Terminal(["login"], saved) as terminal:
        terminal.answer("Password (or token)", login.password)
        assert terminal.exit_code() == 0, "it asks for nothing that it has"

"""A URL with the wrong scheme, a setup that asks again, a token that was revoked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.cli.terminal import Terminal, run
from tests.laboratories import account

ALYX_PASSWORD = "TapetesBloc18"
REVOKED = "0123456789" * 4


@pytest.fixture
def user(environ: dict[str, str], laboratory: Servers) -> dict[str, str]:
    return {**environ, **account(laboratory)}


def secure(url: str) -> str:
    return url.replace("http://", "https://")


@row("ONEFS_URL=https://127.0.0.1:PORT of an http server")
@pytest.mark.parametrize(
    "command", [["search", "--limit", "1"], ["list", "--labs"], ["get", "a/b"], ["login"],
                ["setup"], ["mount", "mnt"]],
)  # fmt: skip
def test_https_to_an_http_server_is_reported(
    user: dict[str, str], laboratory: Servers, command: list[str], home: Path
) -> None:
    assert run(["setup"], user).returncode == 0  # a profile, and a catalogue of the same host
    assert run(["list", "--labs"], user).returncode == 0
    url = secure(laboratory.alyx_url)
    command = [str(home / word) if word == "mnt" else word for word in command]
    done = run(command, user, ONEFS_URL=url)
    host = url.removeprefix("https://")
    sentence = f"onefs: {host} does not answer in https: if the server uses http, write http://"
    assert (done.returncode, done.stdout, done.stderr) == (4, "", f"{sentence} in the URL\n")


@row("onefs setup, URL without scheme of an http server")
def test_setup_asks_again_for_a_url_without_a_server(
    environ: dict[str, str], laboratory: Servers
) -> None:
    host = laboratory.alyx_url.removeprefix("http://")
    with Terminal(["setup"], environ) as terminal:
        terminal.answer("URL of the Alyx server", host)
        terminal.expect(f"https://{host} cannot be used: {host} does not answer in https")
        terminal.expect("write http:// in the URL")
        terminal.answer("URL of the Alyx server", laboratory.alyx_url)
        terminal.expect("User name")
        assert terminal.shown.count("URL of the Alyx server") == 2


@row("onefs setup, Enter at the file server's user name")
def test_setup_asks_again_for_the_user_of_the_file_server(
    environ: dict[str, str], laboratory: Servers, home: Path
) -> None:
    with Terminal(["setup"], environ) as terminal:
        terminal.answer("URL of the Alyx server", laboratory.alyx_url)
        terminal.answer("User name", "test_user")
        terminal.answer("Password (or token)", ALYX_PASSWORD)
        terminal.answer("File server's user name", "")
        terminal.expect("the file server asks for a user name")
        terminal.answer("File server's user name", "iblmember")
        terminal.answer("File server's password", "flatiron-demo")
        terminal.answer("Cache folder", "flatiron-demo")
        terminal.expect("a cache folder begins with /, ~ or ./")
        terminal.answer("Cache folder", "~/here")
        assert terminal.exit_code() == 0
    settings = json.loads((home / ".config" / "onefs" / "settings.json").read_text())
    (profile,) = settings["profiles"].values()
    assert profile["cache_dir"] == str(home / "here")


@row("onefs setup, Enter at the file server's user name")
def test_a_file_server_can_be_left_out(environ: dict[str, str], laboratory: Servers) -> None:
    with Terminal(["setup"], environ) as terminal:
        terminal.answer("URL of the Alyx server", laboratory.alyx_url)
        terminal.answer("User name", "test_user")
        terminal.answer("Password (or token)", ALYX_PASSWORD)
        terminal.answer("File server's user name", "-")
        terminal.expect("warning: ")
        terminal.answer("Cache folder", "")
        assert terminal.exit_code() == 0


def revoke(home: Path) -> None:
    """Replace the saved token by an invalid token."""
    file = home / ".config" / "onefs" / "credentials.json"
    kept = json.loads(file.read_text())
    kept["secrets"] = {
        name: REVOKED if name.startswith("token ") else secret
        for name, secret in kept["secrets"].items()
    }
    file.write_text(json.dumps(kept))


@row("token revoked, right ONEFS_PASSWORD set")
@pytest.mark.parametrize("way", ["ONEFS_PASSWORD", "ONEFS_PASSWORD_FILE"])
@pytest.mark.parametrize(
    "command", [["search", "--limit", "1"], ["list", "--labs"], ["sync", "--sizes"]]
)
def test_a_revoked_token_is_replaced_with_the_password(
    user: dict[str, str], home: Path, command: list[str], way: str
) -> None:
    assert run(["login"], user).returncode == 0
    revoke(home)
    (home / "password").write_text(ALYX_PASSWORD + "\n")
    del user["ONEFS_PASSWORD"]
    secret = ALYX_PASSWORD if way == "ONEFS_PASSWORD" else str(home / "password")
    done = run(command, user, **{way: secret})
    assert done.returncode == 0, done.stderr
    kept = (home / ".config" / "onefs" / "credentials.json").read_text()
    assert REVOKED not in kept
    assert ALYX_PASSWORD not in kept
    assert run(["search", "--limit", "1"], user).returncode == 0  # the new token was saved


@row("token revoked, right ONEFS_PASSWORD set")
def test_a_revoked_token_is_replaced_in_python(user: dict[str, str], home: Path) -> None:
    assert run(["login"], user).returncode == 0
    revoke(home)
    script = "from onefs import ONE; print(len(ONE().list(None, 'labs')))"
    with Terminal(["-c", script], user, [sys.executable]) as terminal:
        assert terminal.exit_code() == 0
        assert terminal.shown.strip() == "4"


@row("token revoked, right ONEFS_PASSWORD set")
@pytest.mark.parametrize(("password", "said"), [("", "onefs login"), ("no", "password")])
def test_a_revoked_token_without_the_right_password_is_one_sentence(
    user: dict[str, str], home: Path, password: str, said: str
) -> None:
    assert run(["login"], user).returncode == 0
    revoke(home)
    done = run(["search", "--limit", "1"], user, ONEFS_PASSWORD=password)
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr

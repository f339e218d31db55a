"""setup, login and logout against the embedded laboratory, with and without a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from tests import scripted_server
from tests.cli.terminal import Terminal, run
from tests.scripted_server import ScriptedServer, answer_json

ALYX_PASSWORD = "TapetesBloc18"
DATA_PASSWORD = "flatiron-demo"
#: a keyring module for tests, which stores secrets in a file beside the module
_KEYRING = """
import json, pathlib
from keyring.backend import KeyringBackend
class Ring(KeyringBackend):
    priority = 1
    file = pathlib.Path(__file__).with_name("ring.json")
    def kept(self):
        return json.loads(self.file.read_text()) if self.file.exists() else {}
    def get_password(self, service, key):
        return self.kept().get(key)
    def set_password(self, service, key, secret):
        self.file.write_text(json.dumps({**self.kept(), key: secret}))
    def delete_password(self, service, key):
        self.file.write_text(json.dumps({k: v for k, v in self.kept().items() if k != key}))
"""


@pytest.fixture
def given(environ: dict[str, str], laboratory: Servers) -> dict[str, str]:
    """An environment whose variables contain all answers that setup needs."""
    return {
        **environ,
        "ONEFS_URL": laboratory.alyx_url,
        "ONEFS_USERNAME": "test_user",
        "ONEFS_PASSWORD": ALYX_PASSWORD,
        "ONEFS_DATA_USERNAME": "iblmember",
        "ONEFS_DATA_PASSWORD": DATA_PASSWORD,
    }


def config(home: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / ".config" / "onefs" / name).read_text())
    return found


def secrets(home: Path) -> str:
    return json.dumps(config(home, "credentials.json"))


def only_profile(home: Path) -> dict[str, Any]:
    (profile,) = config(home, "settings.json")["profiles"].values()
    assert isinstance(profile, dict)
    return profile


def save_for_one(home: Path, url: str, **more: object) -> None:
    """Save the settings that ONE-api would have for a database."""
    key = url.partition("://")[2].replace(":", "_")
    (home / ".one").mkdir()
    settings = {
        "ALYX_URL": url,
        "ALYX_LOGIN": "test_user",
        "HTTP_DATA_SERVER": "http://data.invalid",
        "HTTP_DATA_SERVER_LOGIN": "iblmember",
        "HTTP_DATA_SERVER_PWD": DATA_PASSWORD,
        **more,
    }
    (home / ".one" / f".{key}").write_text(json.dumps(settings))
    caches = {"CLIENT_MAP": {key: str(home / "one-cache")}, "DEFAULT": key}
    (home / ".one" / ".caches").write_text(json.dumps(caches))
    (home / ".one_params").write_text(json.dumps({**settings, "ALYX_PWD": "old"}))


def checksums(home: Path) -> dict[str, str]:
    files = [home / ".one_params", *(home / ".one").iterdir()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def alyx_with(*data_urls: str) -> ScriptedServer:
    """Return an Alyx that accepts each login and whose repositories name these file servers."""
    repositories = [
        {"name": f"r{number}", "data_url": f"{url}/public/", "globus_is_personal": False}
        for number, url in enumerate(data_urls)
    ]
    listing = {"count": len(repositories), "next": None, "previous": None, "results": repositories}
    return ScriptedServer(
        {
            "/auth-token": answer_json({"token": "0" * 40}),
            "/data-repository": answer_json(listing),
        }
    )


class TestWithoutTerminal:
    def test_setup_takes_all_answers_from_the_environment(
        self, given: dict[str, str], home: Path, laboratory: Servers
    ) -> None:
        done = run(["setup"], given)
        assert (done.returncode, done.stderr) == (0, "")
        assert only_profile(home) == {
            "url": laboratory.alyx_url,
            "username": "test_user",
            "data_username": "iblmember",
            "data_url": laboratory.data_url,
        }
        kept = secrets(home)
        assert DATA_PASSWORD in kept
        assert ALYX_PASSWORD not in kept
        file = home / ".config" / "onefs" / "credentials.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_setup_takes_all_answers_from_options_and_a_password_file(
        self, environ: dict[str, str], home: Path, laboratory: Servers, tmp_path: Path
    ) -> None:
        (tmp_path / "pw").write_text(ALYX_PASSWORD + "\n")
        options = ["--url", laboratory.alyx_url, "--username", "test_user", "--profile", "demo"]
        options += ["--cache-dir", str(tmp_path / "cache"), "--data-username", "iblmember"]
        more = {"ONEFS_PASSWORD_FILE": str(tmp_path / "pw"), "ONEFS_DATA_PASSWORD": DATA_PASSWORD}
        done = run(["setup", *options], environ, **more)
        assert (done.returncode, done.stderr) == (0, "")
        assert only_profile(home)["cache_dir"] == str(tmp_path / "cache")
        assert config(home, "settings.json")["default"] == "demo"

    @pytest.mark.parametrize(
        ("missing", "said"),
        [
            ("ONEFS_URL", "--url"),
            ("ONEFS_USERNAME", "--username"),
            ("ONEFS_PASSWORD", "ONEFS_PASSWORD_FILE"),
        ],
    )
    def test_what_is_missing_is_named(
        self, given: dict[str, str], home: Path, missing: str, said: str
    ) -> None:
        del given[missing]
        done = run(["setup"], given)
        assert done.returncode == 2
        assert "there is no terminal on which onefs can ask" in done.stderr
        assert said in done.stderr
        assert not (home / ".config" / "onefs" / "settings.json").exists()

    @pytest.mark.parametrize(
        ("variable", "code", "said"),
        [
            ("ONEFS_PASSWORD", 3, "refuses the password of user 'test_user'"),
            ("ONEFS_DATA_PASSWORD", 3, "refuses the user and password"),
        ],
    )
    def test_nothing_is_written_when_a_test_fails(
        self, given: dict[str, str], home: Path, variable: str, code: int, said: str
    ) -> None:
        done = run(["setup"], {**given, variable: "wrong-wrong"})
        assert (done.returncode, said in done.stderr) == (code, True)
        assert "wrong-wrong" not in done.stderr
        assert list(home.rglob("*.json")) == []

    def test_a_server_that_is_not_alyx_is_reported(
        self, given: dict[str, str], laboratory: Servers
    ) -> None:
        done = run(["setup", "--url", laboratory.data_url], given, ONEFS_URL="")
        assert (done.returncode, "is not an Alyx server" in done.stderr) == (1, True)

    def test_a_token_instead_of_a_password(self, given: dict[str, str], home: Path) -> None:
        assert run(["setup"], given).returncode == 0
        (token,) = (
            value
            for key, value in config(home, "credentials.json")["secrets"].items()
            if key.startswith("token ")
        )
        run(["logout"], given)
        assert token not in secrets(home)
        del given["ONEFS_PASSWORD"]
        assert run(["setup"], given, ONEFS_TOKEN=token).returncode == 0
        assert token in secrets(home)
        done = run(["setup"], given, ONEFS_TOKEN="0" * 40)
        assert (done.returncode, "refuses the token" in done.stderr) == (3, True)

    def test_no_file_server_password(self, given: dict[str, str], home: Path) -> None:
        del given["ONEFS_DATA_PASSWORD"]
        done = run(["setup"], given)
        assert done.returncode == 0
        assert "warning: the file server" in done.stderr
        assert "data_username" not in only_profile(home)

    def test_a_file_server_that_is_away(self, given: dict[str, str], home: Path) -> None:
        with scripted_server.refusing_url() as data_url, alyx_with(data_url) as alyx:
            done = run(["setup"], given, ONEFS_URL=alyx.url)
        assert (done.returncode, "Connection refused" in done.stderr) == (4, True)
        assert list(home.rglob("*.json")) == []

    def test_settings_of_one_fill_the_gaps(
        self, environ: dict[str, str], home: Path, laboratory: Servers
    ) -> None:
        save_for_one(home, laboratory.alyx_url)
        before = checksums(home)
        done = run(["setup", "--url", laboratory.alyx_url], environ, ONEFS_PASSWORD=ALYX_PASSWORD)
        assert (done.returncode, done.stderr) == (0, "")
        assert only_profile(home)["data_username"] == "iblmember"
        assert checksums(home) == before

    def test_a_second_setup_keeps_settings_that_it_is_not_given(
        self, given: dict[str, str], home: Path, tmp_path: Path
    ) -> None:
        run(["setup", "--profile", "demo", "--cache-dir", str(tmp_path / "c")], given)
        done = run(["setup", "--profile", "demo"], given)
        assert done.returncode == 0
        assert only_profile(home)["cache_dir"] == str(tmp_path / "c")


class TestAtTerminal:
    def test_setup_asks_tests_and_saves(
        self, environ: dict[str, str], home: Path, laboratory: Servers
    ) -> None:
        with Terminal(["setup"], environ) as terminal:
            terminal.answer("URL of the Alyx server", laboratory.alyx_url + "/")
            terminal.answer("User name", "test_user")
            terminal.answer("Password (or token)", "not-this-one")
            terminal.expect("refuses the password of user 'test_user'")
            terminal.answer("Password (or token)", ALYX_PASSWORD)
            terminal.answer("File server's user name", "iblmember")
            terminal.answer("File server's password", "nor-this-one")
            terminal.expect("refuses the user and password")
            terminal.answer("File server's user name", "iblmember")
            terminal.answer("File server's password", DATA_PASSWORD)
            terminal.answer("Cache folder", str(home / "files"))
            terminal.expect("saved profile")
            assert terminal.exit_code() == 0
            for typed in (ALYX_PASSWORD, DATA_PASSWORD, "not-this-one"):
                assert typed not in terminal.shown
        assert only_profile(home)["cache_dir"] == str(home / "files")
        assert DATA_PASSWORD in secrets(home)

    def test_setup_offers_what_one_has_saved(
        self, environ: dict[str, str], home: Path, laboratory: Servers
    ) -> None:
        save_for_one(home, laboratory.alyx_url)
        before = checksums(home)
        with Terminal(["setup"], environ) as terminal:
            terminal.answer(f"URL of the Alyx server [{laboratory.alyx_url}]", "")
            terminal.answer("User name at", "")
            terminal.answer("Password (or token)", ALYX_PASSWORD)
            terminal.answer("File server's user name (- for none) [iblmember]", "")
            terminal.answer("leave empty to use the saved password", "")
            terminal.answer(f"Cache folder [{home / 'one-cache'}]", "")
            assert terminal.exit_code() == 0
        assert only_profile(home)["cache_dir"] == str(home / "one-cache")
        assert checksums(home) == before

    def test_no_password_for_the_file_server(
        self, environ: dict[str, str], home: Path, laboratory: Servers
    ) -> None:
        options = ["--url", laboratory.alyx_url, "--username", "test_user"]
        with Terminal(["setup", *options], environ) as terminal:
            terminal.answer("Password (or token)", ALYX_PASSWORD)
            terminal.answer("File server's user name", "-")
            terminal.expect("asks for a user and password, and onefs has none")
            terminal.answer("Cache folder", "")
            assert terminal.exit_code() == 0
        assert set(only_profile(home)) == {"url", "username"}

    @pytest.mark.parametrize(("typed", "code"), [("y", 0), ("n", 4)])
    def test_a_file_server_that_is_away(
        self, environ: dict[str, str], home: Path, typed: str, code: int
    ) -> None:
        with scripted_server.refusing_url() as data_url, alyx_with(data_url) as alyx:
            options = ["--url", alyx.url, "--username", "me"]
            with Terminal(["setup", *options], environ) as terminal:
                terminal.answer("Password (or token)", "whatever-it-is")
                terminal.answer("File server's user name", "iblmember")
                terminal.answer("File server's password", DATA_PASSWORD)
                terminal.answer("Save it anyway?", typed)
                if not code:
                    terminal.answer("Cache folder", "")
                assert terminal.exit_code() == code
        assert len(list(home.rglob("settings.json"))) == (not code)

    def test_setup_ends_after_three_wrong_passwords(
        self, environ: dict[str, str], home: Path, laboratory: Servers
    ) -> None:
        options = ["--url", laboratory.alyx_url, "--username", "test_user"]
        with Terminal(["setup", *options], environ) as terminal:
            for _ in range(3):
                terminal.answer("Password (or token)", "wrong-wrong")
            assert terminal.exit_code() == 3
        assert list(home.rglob("*.json")) == []


class TestLogin:
    def test_login_and_logout(self, given: dict[str, str], home: Path) -> None:
        assert run(["setup"], given).returncode == 0
        assert run(["logout"], given).returncode == 0
        assert config(home, "credentials.json") == {"secrets": {}}
        assert only_profile(home)["username"] == "test_user"
        done = run(["login"], given)
        assert (done.returncode, done.stderr) == (0, "")
        assert "token test_user" in secrets(home)
        assert ALYX_PASSWORD not in secrets(home)

    def test_logout_reports_secrets_left_in_an_unreachable_keyring(
        self, given: dict[str, str], home: Path
    ) -> None:
        """The user logged in on the desktop, and logs out over SSH, without a keyring."""
        (home / "desk").mkdir()
        (home / "desk" / "desk_ring.py").write_text(_KEYRING)
        path = f"{home / 'desk'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        desktop = {"PYTHONPATH": path, "PYTHON_KEYRING_BACKEND": "desk_ring.Ring"}
        done = run(["setup"], given, **desktop)
        assert (done.returncode, "the system keyring" in done.stdout) == (0, True)
        ring = home / "desk" / "ring.json"
        names = sorted(json.loads(ring.read_text()))
        assert len(names) == 2
        done = run(["logout"], given)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        # no advice to run `keyring del`, after which `onefs logout` would report the secret forever
        assert "run `onefs logout` where the keyring works" in done.stderr
        assert "keyring del" not in done.stderr
        assert sorted(json.loads(ring.read_text())) == names
        done = run(["logout"], given, **desktop)
        assert (done.returncode, "deleted the token" in done.stdout) == (0, True)
        assert json.loads(ring.read_text()) == {}
        done = run(["logout"], given)
        assert (done.returncode, "deleted" in done.stdout) == (0, False)

    def test_logout_reports_that_a_keyring_could_not_be_asked(self, given: dict[str, str]) -> None:
        """Older versions did not record which secrets are in the keyring."""
        assert run(["setup"], given).returncode == 0
        ssh = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
        done = run(["logout"], given, **ssh)
        assert (done.returncode, done.stderr) == (0, "")
        assert "deleted the token and the file server's password" in done.stdout
        done = run(["logout"], given, **ssh)
        assert (done.returncode, done.stderr) == (0, "")
        assert "keyring cannot be used here" in done.stdout
        assert "deleted" not in done.stdout

    def test_at_a_terminal(self, environ: dict[str, str], home: Path, laboratory: Servers) -> None:
        with Terminal(["login", "--url", laboratory.alyx_url], environ) as terminal:
            terminal.answer("User name", "test_user")
            terminal.answer("Password (or token)", ALYX_PASSWORD)
            terminal.expect("logged in to")
            assert terminal.exit_code() == 0
        assert laboratory.alyx_url in secrets(home)

    def test_a_wrong_password(self, given: dict[str, str], home: Path) -> None:
        assert run(["setup"], given).returncode == 0
        before = secrets(home)
        done = run(["login"], given, ONEFS_PASSWORD="wrong-wrong")
        assert done.returncode == 3
        assert secrets(home) == before

    def test_a_password_is_not_sent_to_another_server(self, given: dict[str, str]) -> None:
        with ScriptedServer({"/auth-token": answer_json({"token": "0" * 40})}) as other:
            done = run(["login", "--url", other.url, "--username", "me"], given)
            assert other.requests == []
        assert (done.returncode, "ONEFS_PASSWORD" in done.stderr) == (2, True)

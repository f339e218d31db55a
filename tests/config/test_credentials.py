"""Secrets: where they are stored, which secret is used, and that no output shows a secret."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.config.credentials import (
    CredentialStore,
    DataCredentials,
    Removal,
    find_alyx_password,
    find_data_credentials,
    find_token,
)
from onefs.config.keyrings import Keyring
from onefs.config.secret import Secret, redact
from onefs.config.settings import Settings
from onefs.errors import UsageError

URL = "https://alyx.example.org"
OTHER = "https://other.example.org"
SETTINGS = Settings(URL, "olivier", "ibl", Path("/c"), Path("/s"), data_username="iblmember")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "onefs" / "credentials.json"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Turn off the keyring for a test, and restore the choice of the backend after the test."""
    keyring = pytest.importorskip("keyring")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    keyring.core.init_backend()
    yield monkeypatch
    monkeypatch.undo()
    keyring.core.init_backend()


@pytest.fixture
def store(path: Path, backend: pytest.MonkeyPatch) -> CredentialStore:
    return CredentialStore(path)


def use_backend(
    backend: pytest.MonkeyPatch, folder: Path, methods: str, name: str = "kept_rings"
) -> None:
    """Make the library ``keyring`` use a backend of this test."""
    import keyring

    source = "from keyring.backend import KeyringBackend\nimport json, os, threading\n"
    source += "class Ring(KeyringBackend):\n    priority = 1\n" + textwrap.indent(
        textwrap.dedent(methods), "    "
    )
    (folder / f"{name}.py").write_text(source)
    backend.syspath_prepend(str(folder))
    sys.modules.pop(name, None)
    backend.setenv("PYTHON_KEYRING_BACKEND", f"{name}.Ring")
    keyring.core.init_backend()


WORKING = """
kept = {}
def get_password(self, service, key): return self.kept.get((service, key))
def set_password(self, service, key, secret): self.kept[service, key] = secret
def delete_password(self, service, key): del self.kept[service, key]
"""
FAILING = """
def get_password(self, *_): raise RuntimeError("no bus")
set_password = delete_password = get_password
"""
LOCKED = """
def get_password(self, *_): threading.Event().wait(30)
set_password = delete_password = get_password
"""


class TestStore:
    def test_a_secret_is_stored_and_removed(self, store: CredentialStore, path: Path) -> None:
        store.set_token(URL, "olivier", "token-1")
        store.set_token(URL, "nate", "token-2")
        store.set_data_login(URL, "iblmember", "data-pw")
        again = CredentialStore(path)
        assert again.token(URL, "olivier") == "token-1"
        assert again.token(URL, "nate") == "token-2"
        assert again.token(OTHER, "olivier") is None
        assert again.data_login(URL) == ("iblmember", "data-pw")
        assert again.data_login(OTHER) is None
        again.delete_token(URL, "olivier")
        again.delete_data_login(URL)
        assert (store.token(URL, "olivier"), store.data_login(URL)) == (None, None)
        assert store.token(URL, "nate") == "token-2"

    def test_removing_a_missing_secret_reports_that(self, store: CredentialStore) -> None:
        store.delete_token(URL, "olivier")
        store.delete_data_login(URL)
        assert store.token(URL, "olivier") is None

    def test_the_file_is_private(self, store: CredentialStore, path: Path) -> None:
        store.set_token(URL, "olivier", "token-1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_modes_that_are_too_open_are_narrowed(
        self, store: CredentialStore, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.set_token(URL, "olivier", "token-1")
        path.chmod(0o644)
        path.parent.chmod(0o755)
        assert store.token(URL, "olivier") == "token-1"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "could be read by other users" in caplog.text
        store.set_token(URL, "olivier", "token-2")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_a_file_of_another_user_is_refused(self, store: CredentialStore, path: Path) -> None:
        store.set_token(URL, "olivier", "token-1")
        os.chown(path, 12345, -1)
        with pytest.raises(UsageError, match="belongs to another user"):
            store.token(URL, "olivier")

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"secrets": 3}'])
    def test_a_broken_file_is_named_and_kept(
        self, store: CredentialStore, path: Path, text: str
    ) -> None:
        store.set_token(URL, "olivier", "token-1")
        path.write_text(text)
        with pytest.raises(UsageError, match=str(path)):
            store.token(URL, "olivier")
        with pytest.raises(UsageError, match=str(path)):
            store.set_token(URL, "olivier", "token-2")
        assert path.read_text() == text

    def test_a_broken_entry_is_ignored(self, store: CredentialStore, path: Path) -> None:
        store.set_data_login(URL, "iblmember", "data-pw")
        entries = dict.fromkeys(json.loads(path.read_text())["secrets"], "[1]")
        path.write_text(json.dumps({"secrets": entries}))
        assert store.data_login(URL) is None

    def test_the_stamp_changes_with_each_write(self, store: CredentialStore, path: Path) -> None:
        stamps = [store.stamp()]
        for token in ("a", "b", "b"):
            CredentialStore(path).set_token(URL, "olivier", token)
            stamps.append(store.stamp())
        CredentialStore(path).delete_token(URL, "olivier")
        stamps.append(store.stamp())
        assert len(set(stamps)) == len(stamps)
        assert store.stamp() == stamps[-1]

    def test_processes_do_not_lose_each_other_s_secrets(
        self, store: CredentialStore, path: Path
    ) -> None:
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=write_tokens, args=(path, n)) for n in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        kept = [store.token(URL, f"u{n}-{k}") for n in range(3) for k in range(10)]
        assert kept == [f"token-{n}-{k}" for n in range(3) for k in range(10)]


def write_tokens(path: Path, number: int) -> None:
    store = CredentialStore(path)
    for each in range(10):
        store.set_token(URL, f"u{number}-{each}", f"token-{number}-{each}")


class TestKeyring:
    def test_secrets_go_there_and_not_into_the_file(
        self, store: CredentialStore, path: Path, backend: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        store.set_token(URL, "olivier", "token-in-file")
        use_backend(backend, tmp_path, WORKING)
        store = CredentialStore(path)
        assert store.token(URL, "olivier") == "token-in-file"
        before = store.stamp()
        store.set_token(URL, "olivier", "token-in-ring")
        assert store.stamp() != before
        assert "token-in" not in path.read_text()
        assert CredentialStore(path).token(URL, "olivier") == "token-in-ring"
        assert store.describe_location() == "the system keyring"
        store.delete_token(URL, "olivier")
        assert CredentialStore(path).token(URL, "olivier") is None

    def test_secrets_left_in_an_unreachable_keyring_are_reported(
        self, path: Path, backend: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A token that was stored on the desktop and deleted over SSH is still in the keyring."""
        import keyring

        use_backend(backend, tmp_path, WORKING)
        CredentialStore(path).set_token(URL, "olivier", "token-in-ring")
        backend.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        keyring.core.init_backend()
        away = CredentialStore(path)
        away.set_token(URL, "olivier", "token-in-file")
        assert away.delete_token(URL, "olivier") == Removal(True, is_left_in_keyring=True)
        assert away.delete_token(URL, "olivier") == Removal(False, is_left_in_keyring=True), (
            "it is still there"
        )
        assert away.delete_token(URL, "nate") == away.delete_data_login(URL) == Removal(False)
        assert away.is_keyring_unavailable()
        assert away.token(URL, "olivier") is None
        backend.setenv("PYTHON_KEYRING_BACKEND", "kept_rings.Ring")
        keyring.core.init_backend()
        again = CredentialStore(path)
        assert not again.is_keyring_unavailable()
        assert again.token(URL, "olivier") == "token-in-ring"
        assert again.delete_token(URL, "olivier") == Removal(True)
        assert json.loads(path.read_text()) == {"secrets": {}}
        assert again.token(URL, "olivier") is None

    @pytest.mark.parametrize("name", ["null", "fail"])
    def test_backends_that_store_nothing_are_not_used(
        self, path: Path, backend: pytest.MonkeyPatch, name: str
    ) -> None:
        import keyring

        backend.setenv("PYTHON_KEYRING_BACKEND", f"keyring.backends.{name}.Keyring")
        keyring.core.init_backend()
        store = CredentialStore(path)
        store.set_token(URL, "olivier", "token-1")
        assert "token-1" in path.read_text()
        assert store.describe_location() == str(path)
        assert store.is_keyring_unavailable() == (name == "fail"), (
            "null is none at all: somebody has chosen it"
        )

    def test_a_keyring_that_fails_is_not_used_again(
        self,
        path: Path,
        backend: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        use_backend(backend, tmp_path, FAILING, "failing_rings")
        store = CredentialStore(path)
        store.set_token(URL, "olivier", "token-1")
        assert store.token(URL, "olivier") == "token-1"
        assert caplog.text.count("the keyring fails (RuntimeError)") == 1

    def test_a_locked_keyring_is_given_up_after_its_timeout(
        self,
        path: Path,
        backend: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        use_backend(backend, tmp_path, LOCKED, "locked_rings")
        store = CredentialStore(path, Keyring(timeout=0.3))
        store.set_token(URL, "olivier", "token-1")
        assert store.token(URL, "olivier") == "token-1"
        assert "did not answer within 0.3 s" in caplog.text


class TestAlyx:
    def test_the_order(self, store: CredentialStore) -> None:
        assert find_token(SETTINGS, store, {}) is None
        store.set_token(URL, "olivier", "kept")
        assert find_token(SETTINGS, store, {}) == "kept"
        assert find_token(SETTINGS, store, {"ONEFS_TOKEN": "given"}) == "given"

    def test_a_token_of_another_server_is_not_used(self, store: CredentialStore) -> None:
        environ = {"ONEFS_TOKEN": "given", "ONEFS_PASSWORD": "pw", "ONEFS_URL": OTHER}
        assert find_token(SETTINGS, store, environ) is None
        assert find_alyx_password(SETTINGS, environ) is None
        assert find_token(SETTINGS, store, {**environ, "ONEFS_URL": URL + "/"}) == "given"

    def test_the_password_comes_from_the_environment_a_file_or_the_prompt(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "pw"
        file.write_text(" from file \n\n")
        environ = {"ONEFS_PASSWORD_FILE": str(file)}
        assert find_alyx_password(SETTINGS, environ) == " from file \n"
        assert find_alyx_password(SETTINGS, {**environ, "ONEFS_PASSWORD": "pw"}) == "pw"
        assert find_alyx_password(SETTINGS, {}) is None
        assert find_alyx_password(SETTINGS, {}, lambda _: "typed") == "typed"

    def test_a_missing_password_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"ONEFS_PASSWORD_FILE .*: No such file"):
            find_alyx_password(SETTINGS, {"ONEFS_PASSWORD_FILE": str(tmp_path / "none")})


class TestDataServer:
    def find(
        self, store: CredentialStore, home: Path, environ: dict[str, str], **arguments: str
    ) -> tuple[str, str, str] | None:
        found = find_data_credentials(SETTINGS, store, environ, home=home, **arguments)
        return None if found is None else (found.username, found.password, found.source)

    def test_the_order(self, store: CredentialStore, tmp_path: Path) -> None:
        assert self.find(store, tmp_path, {}) is None
        saved = {
            "ALYX_URL": URL,
            "HTTP_DATA_SERVER_LOGIN": "one-user",
            "HTTP_DATA_SERVER_PWD": "one-pw",
        }
        (tmp_path / ".one_params").write_text(json.dumps(saved))
        assert self.find(store, tmp_path, {}) == (
            "one-user",
            "one-pw",
            str(tmp_path / ".one_params"),
        )
        store.set_data_login(URL, "kept-user", "kept-pw")
        assert self.find(store, tmp_path, {}) == ("kept-user", "kept-pw", "profile ibl")
        environ = {"ONEFS_DATA_PASSWORD": "env-pw"}
        assert self.find(store, tmp_path, environ) == ("iblmember", "env-pw", "environment")
        found = self.find(store, tmp_path, environ, username="me", password="arg-pw")
        assert found == ("me", "arg-pw", "arguments")

    def test_credentials_of_another_database_are_not_used(
        self, store: CredentialStore, tmp_path: Path
    ) -> None:
        saved = {
            "ALYX_URL": OTHER,
            "HTTP_DATA_SERVER_LOGIN": "one-user",
            "HTTP_DATA_SERVER_PWD": "one-pw",
        }
        (tmp_path / ".one_params").write_text(json.dumps(saved))
        store.set_data_login(OTHER, "kept-user", "kept-pw")
        environ = {"ONEFS_URL": OTHER, "ONEFS_DATA_PASSWORD": "env-pw"}
        assert self.find(store, tmp_path, environ) is None

    def test_the_alyx_password_is_never_tried(self, store: CredentialStore, tmp_path: Path) -> None:
        store.set_token(URL, "olivier", "kept")
        environ = {"ONEFS_PASSWORD": "alyx-pw", "ONEFS_TOKEN": "t", "ONEFS_USERNAME": "olivier"}
        assert self.find(store, tmp_path, environ) is None


class TestSecret:
    def test_a_secret_has_no_readable_repr(self) -> None:
        secret = Secret("hunter2-hunter2")
        shown = repr(secret) + repr([secret]) + repr(DataCredentials("me", secret, "test"))
        assert "hunter2" not in shown
        assert f"Token {secret}" == "Token hunter2-hunter2"

    @pytest.mark.parametrize(
        "text",
        [
            "GET with Authorization: Token abcdef0123456789",
            "{'Authorization': 'Basic YWJjZGVmMDEyMzQ1Njc4OQ=='}",
            "sent Token abcdef0123456789 to it",
            "http://me:abcdef0123456789@host/x",
            "the password was s3cret-known",
        ],
    )
    def test_a_secret_is_removed_from_texts(self, text: str) -> None:
        Secret("s3cret-known")
        cleaned = redact(text)
        for hidden in ("abcdef0123456789", "YWJjZGVm", "s3cret-known"):
            assert hidden not in cleaned
        assert "***" in cleaned

    def test_texts_without_secrets_stay_as_they_are(self) -> None:
        text = "https://alyx.example.org/sessions?limit=1: Token refused"
        assert redact(text) == text

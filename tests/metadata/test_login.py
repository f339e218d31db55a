"""Which token is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.credentials import CredentialStore
from onefs.demo.serve import Servers
from onefs.errors import AlyxCredentials
from onefs.http import Transport
from onefs.metadata.login import GivenToken, KeptToken, log_in
from onefs.settings import Settings

URL = "https://alyx.example.org"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(URL, "ada", "", tmp_path / "cache", tmp_path / "state")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CredentialStore]:
    return CredentialStore(tmp_path / "config" / "credentials.json")


def test_a_given_token_stays() -> None:
    assert GivenToken("t").current() == "t"
    assert GivenToken("t").renewed("t") is None


def test_a_new_login_is_taken_up(settings: Settings, store: CredentialStore) -> None:
    store.set_token(URL, "ada", "old")
    token = KeptToken(settings, store, {})
    assert token.current() == "old"
    assert token.renewed("old") is None
    store.set_token(URL, "ada", "new")
    assert token.renewed("old") == "new"
    assert token.current() == "new"


def test_nobody_is_logged_in(settings: Settings, store: CredentialStore) -> None:
    token = KeptToken(settings, store, {})
    with pytest.raises(AlyxCredentials, match="onefs login"):
        token.current()
    store.set_token(URL, "ada", "new")
    assert token.current() == "new"


def test_a_kept_token_stands_in_for_a_refused_variable(
    settings: Settings, store: CredentialStore
) -> None:
    store.set_token(URL, "ada", "kept")
    token = KeptToken(settings, store, {"ONEFS_TOKEN": "variable"})
    assert token.current() == "variable"
    assert token.renewed("variable") == "kept"


def test_log_in_keeps_the_token_and_not_the_password(
    servers: Servers, store: CredentialStore, transport: Transport, tmp_path: Path
) -> None:
    url, login = servers.alyx_url, servers.login
    settings = Settings(url, login.username, "", tmp_path, tmp_path)
    environ = {"ONEFS_PASSWORD": login.password}
    token = log_in(transport, settings, store, environ)
    assert store.token(url, login.username) == token
    assert login.password not in (tmp_path / "config" / "credentials.json").read_text()
    servers.clear_requests()
    assert log_in(transport, settings, store, {}) == token
    assert servers.requests == []


def test_log_in_asks_when_nothing_is_known(
    servers: Servers, store: CredentialStore, transport: Transport, tmp_path: Path
) -> None:
    settings = Settings(servers.alyx_url, servers.login.username, "", tmp_path, tmp_path)
    with pytest.raises(AlyxCredentials, match="ONEFS_PASSWORD"):
        log_in(transport, settings, store, {})
    with pytest.raises(AlyxCredentials):
        log_in(transport, settings, store, {}, ask=lambda question: "wrong")
    token = log_in(transport, settings, store, {}, ask=lambda question: servers.login.password)
    assert len(token) == 40

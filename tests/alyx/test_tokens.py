"""The token that is sent, and its renewal."""

from __future__ import annotations

from pathlib import Path

import pytest

from onefs.alyx.tokens import FixedToken, StoredToken
from onefs.config.credentials import CredentialStore
from onefs.config.settings import Settings
from onefs.errors import AlyxCredentials

URL = "https://alyx.example.org"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(URL, "ada", "", tmp_path / "cache", tmp_path / "state")


@pytest.fixture
def store(tmp_path: Path) -> CredentialStore:
    return CredentialStore(tmp_path / "config" / "credentials.json")


def test_a_fixed_token_is_never_renewed() -> None:
    assert FixedToken("t").current_token() == "t"
    assert FixedToken("t").renew("t") is None


def test_the_token_of_a_new_login_is_used(settings: Settings, store: CredentialStore) -> None:
    store.set_token(URL, "ada", "old")
    token = StoredToken(settings, store, {})
    assert token.current_token() == "old"
    assert token.renew("old") is None
    store.set_token(URL, "ada", "new")
    assert token.renew("old") == "new"
    assert token.current_token() == "new"


def test_without_a_login_there_is_no_token(settings: Settings, store: CredentialStore) -> None:
    token = StoredToken(settings, store, {})
    with pytest.raises(AlyxCredentials, match="onefs login"):
        token.current_token()
    store.set_token(URL, "ada", "new")
    assert token.current_token() == "new"


def test_a_stored_token_replaces_a_refused_variable(
    settings: Settings, store: CredentialStore
) -> None:
    store.set_token(URL, "ada", "kept")
    token = StoredToken(settings, store, {"ONEFS_TOKEN": "variable"})
    assert token.current_token() == "variable"
    assert token.renew("variable") == "kept"

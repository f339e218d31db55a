"""Which token is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.credentials import CredentialStore
from onefs.errors import AlyxCredentials
from onefs.metadata.auth import GivenToken, KeptToken
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

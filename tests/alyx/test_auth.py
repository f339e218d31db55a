"""Tokens are obtained, checked and stored. The user is not asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.alyx import tokens
from onefs.alyx.auth import (
    check_token,
    fetch_token,
    is_token_like,
    log_in,
)
from onefs.alyx.tokens import PasswordToken
from onefs.config.credentials import CredentialStore
from onefs.config.settings import Settings
from onefs.errors import AlyxCredentials, ServerError
from onefs.http import Transport
from tests.recordings import record
from tests.scripted_server import (
    Script,
    ScriptedConnection,
    ScriptedServer,
    answer,
    answer_json,
)

TOKEN = "e160d509fe59b3841dda7d51e44d11647b49392f"
PAGE = answer(b"<!doctype html><h1>Not Found</h1>", 404, Content_Type="text/html")


@pytest.fixture
def client() -> Iterator[Transport]:
    with Transport(sleep=lambda _: None) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialStore:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return CredentialStore(tmp_path / "onefs" / "credentials.json")


def alyx(valid: str = TOKEN) -> ScriptedServer:
    """Return an Alyx with one user (``test_user``, password ``right``) and one valid token."""

    def auth_token(talk: ScriptedConnection) -> None:
        right = b'"password": "right"' in talk.request.body
        wrong = answer_json({"non_field_errors": ["Unable to log in."], "status_code": 400}, 400)
        (answer_json({"token": valid}) if right else wrong)(talk)

    def labs(talk: ScriptedConnection) -> None:
        known = talk.request.headers.get("authorization") == f"Token {valid}"
        bad = answer_json({"detail": "Invalid token.", "status_code": 403}, 403)
        (answer_json({"count": 0, "results": []}) if known else bad)(talk)

    return ScriptedServer({"/auth-token": auth_token, "/labs": labs})


def settings_of(server: ScriptedServer, username: str = "test_user") -> Settings:
    return Settings(server.url, username, "", Path("/c"), Path("/s"))


def test_a_password_gives_another_token_when_the_first_is_refused(client: Transport) -> None:
    """Otherwise one invalid token would be used until the process ends."""
    wrong, right = answer_json({"token": "http"}), answer_json({"token": TOKEN})
    with ScriptedServer({"/auth-token": [wrong, right]}) as server:
        token = PasswordToken(lambda: client, server.url, "test_user", "right")
        first = token.current_token()
        assert token.renew(first) is None  # Alyx would send the same token again
        token._fetched_at -= tokens.LOGIN_PAUSE_SECONDS
        assert token.renew(first) == TOKEN
        assert token.current_token() == TOKEN
        assert token.renew(first) == TOKEN
        token._fetched_at -= tokens.LOGIN_PAUSE_SECONDS
        assert token.renew(TOKEN) is None


@pytest.mark.parametrize("odd", ["", "a\nb", "\x00", "é", "a" * 5000, "\ud800", 3, None, ["a"]])
def test_a_token_that_cannot_be_sent_is_refused(client: Transport, odd: object) -> None:
    with (
        ScriptedServer({"/auth-token": answer_json({"token": odd})}) as server,
        pytest.raises(ServerError),
    ):
        fetch_token(client, server.url, "test_user", "right")


@pytest.mark.parametrize(
    "name", ["token_wrong_password", "token_unknown_user", "token_inactive_user"]
)
def test_a_refused_password_is_an_error(client: Transport, name: str) -> None:
    script = replayed(f"auth/{name}.json")
    with (
        ScriptedServer({"/auth-token": script}) as server,
        pytest.raises(AlyxCredentials, match="refuses the password of user 'me': Unable to log in"),
    ):
        fetch_token(client, server.url, "me", "pw")


def test_a_recorded_token_is_accepted(client: Transport) -> None:
    with ScriptedServer({"/auth-token": replayed("auth/token_ok_json.json")}) as server:
        assert fetch_token(client, server.url, "test_user", "pw") == TOKEN


@pytest.mark.parametrize("script", [PAGE, answer_json({}), answer_json([]), answer_json(3)])
def test_a_server_that_is_no_alyx_is_an_error(client: Transport, script: Script) -> None:
    with ScriptedServer({"/auth-token": script, "/labs": script}) as server:
        with pytest.raises(ServerError, match="not an Alyx server"):
            fetch_token(client, server.url, "me", "pw")
        if script is PAGE:
            with pytest.raises(ServerError, match="not an Alyx server"):
                check_token(client, server.url, TOKEN)


def test_a_token_is_checked(client: Transport) -> None:
    with alyx() as server:
        check_token(client, server.url, TOKEN)
        with pytest.raises(AlyxCredentials, match="Invalid token"):
            check_token(client, server.url, "0" * 40)


def test_log_in_obtains_a_token_and_stores_it(client: Transport, store: CredentialStore) -> None:
    with alyx() as server:
        known = settings_of(server)
        assert log_in(client, known, store, {"ONEFS_PASSWORD": "right"}) == TOKEN
        assert log_in(client, known, store, {}) == TOKEN
        assert [request.target for request in server.requests].count("/auth-token") == 1


def test_log_in_replaces_a_token_that_is_refused(client: Transport, store: CredentialStore) -> None:
    with alyx() as server:
        known = settings_of(server)
        store.set_token(known.url, known.username, "0" * 40)
        with pytest.raises(AlyxCredentials, match="Invalid token"):
            log_in(client, known, store, {})
        assert log_in(client, known, store, {}, ask=lambda _: "right") == TOKEN
        assert store.token(known.url, known.username) == TOKEN


def test_log_in_without_token_and_password_is_refused(
    client: Transport, store: CredentialStore
) -> None:
    with alyx() as server:
        with pytest.raises(AlyxCredentials, match="run `onefs login`"):
            log_in(client, settings_of(server), store, {})
        with pytest.raises(AlyxCredentials, match="--username"):
            log_in(client, settings_of(server, ""), store, {"ONEFS_PASSWORD": "right"})
        assert server.requests == []


@pytest.mark.parametrize(("text", "is_one"), [(TOKEN, True), (TOKEN.upper(), False), ("pw", False)])
def test_a_token_is_told_from_a_password(text: str, is_one: bool) -> None:
    assert is_token_like(text) is is_one


def replayed(name: str) -> Script:
    found = record(name)
    return answer_json(found["body"], found["status"])

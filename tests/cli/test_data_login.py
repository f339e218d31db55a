"""The login for the file server: which hosts get the login, and which hosts the user confirms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.terminal import Terminal, run
from tests.cli.test_setup import DATA_PASSWORD, alyx_with, only_profile
from tests.scripted_server import (
    ScriptedServer,
    answer,
    basic,
)

FILE_SERVER_LOGIN = basic("iblmember", DATA_PASSWORD, answer(b"files"))
LOGIN = {
    "ONEFS_USERNAME": "me",
    "ONEFS_PASSWORD": "whatever-it-is",
    "ONEFS_DATA_USERNAME": "iblmember",
    "ONEFS_DATA_PASSWORD": DATA_PASSWORD,
}


def was_sent_login(server: ScriptedServer) -> bool:
    return any("authorization" in request.headers for request in server.requests)


class TestHostsThatGetTheLogin:
    """Repositories name hosts. Only the hosts that the user confirms get the login."""

    def test_no_other_host_without_a_terminal(self, environ: dict[str, str], home: Path) -> None:
        with (
            ScriptedServer({"/public/": FILE_SERVER_LOGIN}) as own,
            ScriptedServer({"/public/": answer(b"open")}) as other,
            alyx_with(own.url, other.url) as alyx,
        ):
            done = run(["setup"], environ, **LOGIN, ONEFS_URL=alyx.url)
            assert (done.returncode, done.stderr) == (0, "")
            assert f"goes to {own.url}, and to no other host" in done.stdout
            assert not was_sent_login(other)
        assert only_profile(home)["data_url"] == own.url
        assert "data_hosts" not in only_profile(home)

    def test_the_user_chooses_among_several_hosts_that_ask(
        self, environ: dict[str, str], home: Path
    ) -> None:
        with (
            ScriptedServer({"/public/": FILE_SERVER_LOGIN}) as own,
            ScriptedServer({"/public/": FILE_SERVER_LOGIN}) as other,
            alyx_with(other.url, own.url) as alyx,
        ):
            done = run(["setup"], environ, **LOGIN, ONEFS_URL=alyx.url)
            assert (done.returncode, "ONEFS_DATA_HOSTS" in done.stderr) == (2, True)
            assert not any(map(was_sent_login, (own, other)))
            assert list(home.rglob("*.json")) == []

            done = run(["setup"], environ, **LOGIN, ONEFS_URL=alyx.url, ONEFS_DATA_HOSTS=own.url)
            assert (done.returncode, done.stderr) == (0, "")
            assert only_profile(home)["data_url"] == own.url
            # known from now on
            done = run(["setup"], environ, **LOGIN, ONEFS_URL=alyx.url)
            assert (done.returncode, done.stderr) == (0, "")
            assert not was_sent_login(other)

    @pytest.mark.parametrize("yes", [True, False])
    def test_a_terminal_is_asked(self, environ: dict[str, str], home: Path, yes: bool) -> None:
        with (
            ScriptedServer({"/public/": FILE_SERVER_LOGIN}) as own,
            ScriptedServer({"/public/": FILE_SERVER_LOGIN}) as other,
            alyx_with(other.url, own.url) as alyx,
        ):
            with Terminal(["setup", "--url", alyx.url], {**environ, **LOGIN}) as terminal:
                terminal.answer("User name", "")
                terminal.answer("Which of these servers is your login for", "http://nobody.invalid")
                terminal.expect("type one or more of")
                terminal.answer("Which of these servers is your login for", own.url)
                terminal.expect(f"other file servers of this database: {other.url}")
                host = other.url.partition("://")[2]
                terminal.answer(
                    "Which of these servers may get your login, too", host if yes else ""
                )
                terminal.answer("Cache folder", "")
                assert terminal.exit_code() == 0
            assert not was_sent_login(other)
        assert only_profile(home)["data_url"] == own.url
        assert only_profile(home).get("data_hosts", "") == (other.url if yes else "")

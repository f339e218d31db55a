"""The origins that get the user name and password for file servers."""

from __future__ import annotations

import base64
import ssl
import threading
from pathlib import Path

import pytest

from onefs.config.credentials import DataCredentials
from onefs.config.secret import Secret
from onefs.errors import (
    DataServerCredentials,
    ServerError,
    UsageError,
)
from onefs.http import HostAuth, Transport
from tests import scripted_server
from tests.http.calls import read
from tests.scripted_server import Script, ScriptedServer, answer

TLS = Path(__file__).parent.parent / "data" / "tls"
CERTIFICATE = TLS / "cert.pem"
LOGIN = DataCredentials("iblmember", Secret("s3cr3t-pass"), "test")


class TestHostAuth:
    def secret(self, body: bytes = b"data") -> Script:
        return scripted_server.basic(LOGIN.username, LOGIN.password, answer(body))

    def sent(self, server: ScriptedServer) -> list[bool]:
        return ["authorization" in request.headers for request in server.requests]

    def test_a_challenge_gets_the_pair_and_later_requests_send_it_at_once(
        self, client: Transport
    ) -> None:
        with ScriptedServer({"/f": self.secret()}) as server:
            auth = HostAuth(LOGIN, confirmed=[server.url])
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
            assert self.sent(server) == [False, True, True]

    def test_a_preemptive_origin_gets_the_pair_at_once(self, client: Transport) -> None:
        with ScriptedServer({"/f": self.secret()}) as server:
            auth = HostAuth(LOGIN, [f"{server.url}/public"])
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
            assert self.sent(server) == [True]

    def test_without_a_challenge_the_pair_is_not_sent(self, client: Transport) -> None:
        with ScriptedServer({"/f": answer(b"open")}) as server:
            auth = HostAuth(LOGIN, confirmed=[server.url])
            read(client.stream(f"{server.url}/f", auth=auth))
            assert self.sent(server) == [False]

    @pytest.mark.parametrize("challenge", ["Bearer", "Digest realm=x", ""])
    def test_a_challenge_of_another_kind_does_not_get_the_pair(
        self, client: Transport, challenge: str
    ) -> None:
        with ScriptedServer({"/f": scripted_server.unauthorized(challenge)}) as server:
            auth = HostAuth(LOGIN, confirmed=[server.url])
            with pytest.raises(
                DataServerCredentials, match="a kind of login that onefs does not have"
            ):
                read(client.stream(f"{server.url}/f", auth=auth))
            assert self.sent(server) == [False]

    def test_the_target_of_a_redirect_does_not_get_the_pair(self, client: Transport) -> None:
        with ScriptedServer({"/f": self.secret()}) as other:
            script = scripted_server.basic(
                LOGIN.username, LOGIN.password, scripted_server.redirect(f"{other.url}/f")
            )
            with ScriptedServer({"/f": script}) as server:
                auth = HostAuth(LOGIN, confirmed=[server.url])
                with pytest.raises(DataServerCredentials, match="may not send yours"):
                    read(client.stream(f"{server.url}/f", auth=auth))
                assert self.sent(server) == [False, True]
            assert self.sent(other) == [False]

    def test_a_refused_pair_is_an_error(self, client: Transport) -> None:
        with ScriptedServer({"/f": scripted_server.unauthorized()}) as server:
            auth = HostAuth(LOGIN, confirmed=[server.url])
            with pytest.raises(DataServerCredentials, match="refuses the user") as caught:
                read(client.stream(f"{server.url}/f", auth=auth))
            assert len(server.requests) == 2
        assert LOGIN.password not in str(caught.value)

    def test_a_challenge_without_a_known_pair_is_an_error(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": scripted_server.unauthorized()}) as server,
            pytest.raises(DataServerCredentials, match="onefs setup"),
        ):
            read(client.stream(f"{server.url}/f", auth=HostAuth(None)))

    def test_replaced_credentials_are_used(self, client: Transport) -> None:
        wrong = DataCredentials("iblmember", Secret("wrong-one"), "test")
        with ScriptedServer({"/f": self.secret()}) as server:
            auth = HostAuth(wrong, confirmed=[server.url])
            with pytest.raises(DataServerCredentials):
                read(client.stream(f"{server.url}/f", auth=auth))
            auth.replace_credentials(LOGIN)
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"

    def test_eight_concurrent_requests_are_all_authorized(self, client: Transport) -> None:
        bodies: list[bytes] = []
        with ScriptedServer({"/f": self.secret()}) as server:
            auth = HostAuth(LOGIN, confirmed=[server.url])
            threads = [
                threading.Thread(
                    target=lambda: bodies.append(read(client.stream(f"{server.url}/f", auth=auth)))
                )
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert bodies == [b"data"] * 8


@pytest.fixture
def tls() -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(CERTIFICATE, TLS / "key.pem")
    return found


class TestOrigins:
    """Scheme, host and port decide. Credentials for an https host are never sent over http."""

    def secret(self) -> Script:
        return scripted_server.basic(LOGIN.username, LOGIN.password, answer(b"data"))

    def sent(self, server: ScriptedServer) -> list[bool]:
        return ["authorization" in request.headers for request in server.requests]

    def test_a_host_that_is_not_confirmed_does_not_get_the_pair(self, client: Transport) -> None:
        with ScriptedServer({"/f": self.secret()}) as server, ScriptedServer({}) as own:
            auth = HostAuth(LOGIN, [own.url])
            for _ in range(2):
                with pytest.raises(DataServerCredentials) as caught:
                    read(client.stream(f"{server.url}/f", auth=auth))
                assert f"add {server.url} to ONEFS_DATA_HOSTS" in str(caught.value)
                assert "onefs setup" in str(caught.value)
            assert self.sent(server) == [False, False]

    def test_another_port_or_name_of_a_host_is_another_origin(self, client: Transport) -> None:
        with ScriptedServer({"/f": self.secret()}) as server:
            _, _, port = server.url.rpartition(":")
            for url in (f"http://localhost:{port}/f", f"http://own@127.0.0.1:{port}/f"):
                auth = HostAuth(LOGIN, ["http://127.0.0.1:1", "http://own"], ["http://127.0.0.1"])
                with pytest.raises(DataServerCredentials):
                    read(client.stream(url, auth=auth))
            own = f"Basic {base64.b64encode(b'own:').decode()}"
            assert {each.headers.get("authorization", own) for each in server.requests} == {own}

    @pytest.mark.parametrize("how", [0, 1], ids=["data server", "confirmed"])
    def test_an_http_record_of_an_https_host_is_asked_by_https(
        self, client: Transport, tls: ssl.SSLContext, how: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        with ScriptedServer({"/f%20g": self.secret()}, tls) as server:
            named: list[list[str]] = [[], []]
            named[how] = [server.url]
            url = f"http{server.url.removeprefix('https')}/f%20g?x=1"
            with client.stream(url, auth=HostAuth(LOGIN, *named)) as stream:
                assert b"".join(stream.iter_chunks()) == b"data"
                assert stream.url == f"{server.url}/f%20g?x=1"

    def test_a_redirect_from_https_to_http_does_not_send_the_pair(
        self, client: Transport, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        with ScriptedServer({"/f": self.secret(), "/g": answer(b"open")}) as plain:
            scripts = {f"/{name}": scripted_server.redirect(f"{plain.url}/{name}") for name in "fg"}
            with ScriptedServer(scripts, tls) as server:
                auth = HostAuth(LOGIN, [server.url, plain.url])
                with pytest.raises(DataServerCredentials, match="redirect from https to http"):
                    read(client.stream(f"{server.url}/f", auth=auth))
                assert read(client.stream(f"{server.url}/g", auth=auth)) == b"open"
                assert self.sent(server) == [True, True]
            assert self.sent(plain) == [False, False]
            assert read(client.stream(f"{plain.url}/f", auth=auth)) == b"data"

    def test_a_redirect_to_http_of_the_same_host_stays_on_https(
        self, client: Transport, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        scripts: dict[str, Script] = {"/f": self.secret()}
        with ScriptedServer(scripts, tls) as server:
            away = f"http{server.url.removeprefix('https')}/f"
            with ScriptedServer({"/old": scripted_server.redirect(away)}) as old:
                auth = HostAuth(LOGIN, [server.url])
                assert read(client.stream(f"{old.url}/old", auth=auth)) == b"data"
            assert self.sent(old) == [False]

    def test_a_redirect_to_a_confirmed_host_gets_the_pair_there(self, client: Transport) -> None:
        with (
            ScriptedServer({"/f": self.secret()}) as mirror,
            ScriptedServer({"/f": scripted_server.redirect(f"{mirror.url}/f")}) as server,
        ):
            auth = HostAuth(LOGIN, confirmed=[mirror.url])
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
            assert self.sent(server) == [False]

    @pytest.mark.parametrize(
        "url",
        [
            r"http://evil.invalid\@127.0.0.1:1/f",
            r"http://evil.invalid:1\@127.0.0.1:1/f",
            "http://evil.invalid\t@127.0.0.1:1/f",
            "http://evil.invalid @127.0.0.1:1/f",
            "http://127.0.0.1:1\n.evil.invalid/f",
        ],
    )
    def test_an_address_that_parsers_read_in_two_ways_is_refused(
        self, client: Transport, url: str
    ) -> None:
        """The host ends at the backslash for urllib3, but starts after the @ for urllib.parse."""
        with pytest.raises(UsageError, match="is not a URL"):
            read(client.stream(url, auth=HostAuth(LOGIN, ["http://127.0.0.1:1"])))

    def test_every_loopback_port_is_confirmed_for_an_embedded_laboratory(
        self, client: Transport
    ) -> None:
        with ScriptedServer({"/f": self.secret()}) as server:
            auth = HostAuth(LOGIN, loopback=True)
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
        assert auth.header_for_challenge("http://lab.org/f", "Basic", None) is None

    def test_a_withdrawn_origin_does_not_get_the_pair_any_more(self) -> None:
        auth = HostAuth(LOGIN, confirmed=["https://a.org"])
        assert auth.header_for_challenge("https://a.org/f", "Basic realm=x", None) is not None
        assert auth.authorization_header("https://a.org/g") is not None
        auth.set_trusted_origins([], ["https://b.org"])
        assert auth.authorization_header("https://a.org/g") is None
        assert auth.header_for_challenge("https://a.org/f", "Basic realm=x", None) is None

    @pytest.mark.parametrize(
        "location", ["http://h:99999/", "http://[::1/", r"http://a\@b/", "ftp://h/"]
    )
    def test_a_redirect_to_an_invalid_address_is_a_server_error(
        self, client: Transport, location: str
    ) -> None:
        with ScriptedServer({"/f": scripted_server.redirect(location)}) as server:
            for auth in (None, HostAuth(LOGIN, [server.url])):
                with pytest.raises(ServerError, match=r"which is not an http|contains a user name"):
                    read(client.stream(f"{server.url}/f", auth=auth))

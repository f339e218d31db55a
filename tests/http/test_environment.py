"""TLS, proxies and other settings of the environment."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    Unreachable,
)
from onefs.http import Transport
from tests import scripted_server
from tests.http.calls import SLACK, get, timed
from tests.scripted_server import ScriptedServer, answer_json

TLS = Path(__file__).parent.parent / "data" / "tls"


class TestTLS:
    @pytest.fixture
    def server(self) -> Iterator[ScriptedServer]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
        with ScriptedServer(
            {"/x": answer_json([1]), "/s": scripted_server.stall()}, context
        ) as made:
            yield made

    def test_an_untrusted_certificate_is_an_error(
        self, hasty: Transport, server: ScriptedServer
    ) -> None:
        with pytest.raises(Unreachable, match=r"certificate of 127\.0\.0\.1:\d+ is not accepted"):
            hasty.get_json(f"{server.url}/x")
        assert server.connections == 1  # a bad certificate stays bad

    def test_a_certificate_that_the_environment_names_is_trusted(
        self, client: Transport, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(TLS / "cert.pem"))
        for _ in range(3):
            assert client.get_json(f"{server.url}/x").body == [1]
        assert server.connections == 1
        took, _ = timed(lambda: client.get_json(f"{server.url}/s", deadline=0.4), DeadlineExceeded)
        assert took < 0.4 + SLACK

    def test_a_server_without_tls_is_an_error(self, client: Transport) -> None:
        with ScriptedServer({"/x": answer_json([1])}) as plain:
            url = plain.url.replace("http:", "https:")
            timed(lambda: client.get_json(f"{url}/x", deadline=0.5), OnefsError)


class TestEnvironment:
    def test_a_proxy_is_used_but_not_for_loopback(
        self, client: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ScriptedServer({"/x": answer_json(["proxy"])}) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.delenv("no_proxy", raising=False)
            assert client.get_json("http://alyx.invalid/x").body == ["proxy"]
            assert proxy.requests[0].target == "http://alyx.invalid/x"
            assert get(client, answer_json(["direct"])).body == ["direct"]

    def test_netrc_is_not_read(
        self, client: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        with ScriptedServer({"/x": answer_json([])}) as server:
            client.get_json(f"{server.url}/x")
            assert "authorization" not in server.requests[0].headers

    def test_cookies_are_not_kept(self, client: Transport) -> None:
        with ScriptedServer({"/x": answer_json([], Set_Cookie="sessionid=1")}) as server:
            client.get_json(f"{server.url}/x")
            client.get_json(f"{server.url}/x")
            assert "cookie" not in server.requests[1].headers

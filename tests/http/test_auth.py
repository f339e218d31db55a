"""Who gets the file server's user and password, and who does not."""

from __future__ import annotations

import threading

import pytest

from onefs.credentials import DataCredentials
from onefs.errors import (
    DataServerCredentials,
)
from onefs.http import HostAuth, Transport
from onefs.secret import Secret
from tests import scripted
from tests.http.asking import read
from tests.scripted import Script, Scripted, answer

PAIR = DataCredentials("iblmember", Secret("s3cr3t-pass"), "test")


class TestHostAuth:
    def secret(self, body: bytes = b"data") -> Script:
        return scripted.basic(PAIR.username, PAIR.password, answer(body))

    def sent(self, server: Scripted) -> list[bool]:
        return ["authorization" in request.headers for request in server.requests]

    def test_sent_after_a_challenge_and_then_at_once(self, client: Transport) -> None:
        auth = HostAuth(PAIR)
        with Scripted({"/f": self.secret()}) as server:
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
            assert self.sent(server) == [False, True, True]

    def test_sent_at_once_to_a_host_named_beforehand(self, client: Transport) -> None:
        with Scripted({"/f": self.secret()}) as server:
            auth = HostAuth(PAIR, [f"{server.url}/public"])
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"
            assert self.sent(server) == [True]

    def test_never_sent_where_nobody_asks(self, client: Transport) -> None:
        with Scripted({"/f": answer(b"open")}) as server:
            read(client.stream(f"{server.url}/f", auth=HostAuth(PAIR)))
            assert self.sent(server) == [False]

    @pytest.mark.parametrize("challenge", ["Bearer", "Digest realm=x", ""])
    def test_never_sent_for_another_challenge(self, client: Transport, challenge: str) -> None:
        with Scripted({"/f": scripted.unauthorized(challenge)}) as server:
            with pytest.raises(DataServerCredentials):
                read(client.stream(f"{server.url}/f", auth=HostAuth(PAIR)))
            assert self.sent(server) == [False]

    def test_never_sent_to_where_a_redirect_leads(self, client: Transport) -> None:
        with Scripted({"/f": self.secret()}) as other:
            script = scripted.basic(
                PAIR.username, PAIR.password, scripted.redirect(f"{other.url}/f")
            )
            with Scripted({"/f": script}) as server:
                with pytest.raises(DataServerCredentials):
                    read(client.stream(f"{server.url}/f", auth=HostAuth(PAIR)))
                assert self.sent(server) == [False, True]
            assert self.sent(other) == [False]

    def test_refused(self, client: Transport) -> None:
        with Scripted({"/f": scripted.unauthorized()}) as server:
            with pytest.raises(DataServerCredentials, match="refuses its user") as caught:
                read(client.stream(f"{server.url}/f", auth=HostAuth(PAIR)))
            assert len(server.requests) == 2
        assert PAIR.password not in str(caught.value)

    def test_none_known(self, client: Transport) -> None:
        with (
            Scripted({"/f": scripted.unauthorized()}) as server,
            pytest.raises(DataServerCredentials, match="onefs setup"),
        ):
            read(client.stream(f"{server.url}/f", auth=HostAuth(None)))

    def test_new_credentials_are_taken_up(self, client: Transport) -> None:
        auth = HostAuth(DataCredentials("iblmember", Secret("wrong-one"), "test"))
        with Scripted({"/f": self.secret()}) as server:
            with pytest.raises(DataServerCredentials):
                read(client.stream(f"{server.url}/f", auth=auth))
            auth.replace(PAIR)
            assert read(client.stream(f"{server.url}/f", auth=auth)) == b"data"

    def test_eight_at_once_all_get_in(self, client: Transport) -> None:
        auth = HostAuth(PAIR)
        bodies: list[bytes] = []
        with Scripted({"/f": self.secret()}) as server:
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

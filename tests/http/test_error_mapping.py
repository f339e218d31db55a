"""Every exception is converted to an OnefsError whose message contains no secrets."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
import requests
import urllib3.exceptions

from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Unreachable,
    UsageError,
)
from onefs.http import Transport
from onefs.http.error_mapping import to_onefs_error
from tests.http.calls import get
from tests.scripted_server import (
    ScriptedServer,
    answer,
    answer_json,
    raw,
)


def test_invalid_headers_are_one_short_line_in_the_log(
    client: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a filter, urllib3 logs the server's text (of any length) and a traceback."""
    body = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"odd \x1b[2J " * 3000 + b"\r\nA: b\r\n\r\n{}"
    )
    with suppress(ServerError):
        get(client, raw(body))
    assert [record.getMessage() for record in caplog.records] == [
        "a response has header lines that are invalid"
    ]
    assert not any(record.exc_info for record in caplog.records)


class TestMessages:
    def test_a_name_that_does_not_exist_is_unreachable(self, hasty: Transport) -> None:
        with pytest.raises(Unreachable, match=r"the name of nowhere\.invalid cannot be looked up"):
            hasty.get_json("http://nowhere.invalid/x", deadline=10)

    def test_secrets_in_a_url_are_not_repeated(self, client: Transport) -> None:
        with ScriptedServer({"/x": answer(b"no json")}) as server:
            url = server.url.replace("//", "//me:hunter2@")
            with pytest.raises(ServerError) as caught:
                client.get_json(f"{url}/x", params={"token": "t0k3n", "limit": "1"})
        assert "hunter2" not in str(caught.value)
        assert "t0k3n" not in str(caught.value)
        assert "limit=1" in str(caught.value)

    @pytest.mark.parametrize("url", ["ftp://a/x", "http://", "nothing", "http://a:x/"])
    def test_an_invalid_address_is_a_usage_error(self, client: Transport, url: str) -> None:
        with pytest.raises(UsageError):
            client.get_json(url)

    def test_a_header_that_cannot_be_sent_is_a_usage_error(self, client: Transport) -> None:
        with pytest.raises(OnefsError) as caught:
            get(client, answer_json([]), headers={"Authorization": "Token gehe\u2028im"})
        assert "gehe" not in str(caught.value)


def _exceptions(module: object) -> list[type[BaseException]]:
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, Exception)
        and not issubclass(found, Warning)
        and found.__module__ == getattr(module, "__name__", "")
    ]


#: the expected error for each exception with a single meaning
EXPECTED: dict[str, type[OnefsError]] = {
    "requests.exceptions.ConnectionError": Unreachable,
    "requests.exceptions.ConnectTimeout": Unreachable,
    "requests.exceptions.ReadTimeout": DeadlineExceeded,
    "requests.exceptions.SSLError": Unreachable,
    "requests.exceptions.ProxyError": Unreachable,
    "requests.exceptions.InvalidURL": UsageError,
    "requests.exceptions.InvalidSchema": UsageError,
    "requests.exceptions.MissingSchema": UsageError,
    "requests.exceptions.ChunkedEncodingError": ServerError,
    "requests.exceptions.ContentDecodingError": ServerError,
    "requests.exceptions.InvalidJSONError": ServerError,
    "requests.exceptions.TooManyRedirects": ServerError,
    "urllib3.exceptions.ConnectTimeoutError": Unreachable,
    "urllib3.exceptions.NewConnectionError": Unreachable,
    "urllib3.exceptions.NameResolutionError": Unreachable,
    "urllib3.exceptions.ReadTimeoutError": DeadlineExceeded,
    "urllib3.exceptions.ProxyError": Unreachable,
    "urllib3.exceptions.SSLError": Unreachable,
    "urllib3.exceptions.IncompleteRead": ServerError,
    "urllib3.exceptions.InvalidChunkLength": ServerError,
    "urllib3.exceptions.ProtocolError": Unreachable,
    "urllib3.exceptions.DecodeError": ServerError,
    "urllib3.exceptions.InvalidHeader": ServerError,
    "urllib3.exceptions.LocationParseError": UsageError,
}


@pytest.mark.parametrize(
    "kind",
    _exceptions(requests.exceptions) + _exceptions(urllib3.exceptions),
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_every_exception_becomes_an_onefs_error(kind: type[BaseException]) -> None:
    error = kind.__new__(kind)  # no constructor is called, as constructors differ
    found = to_onefs_error(error, "host")
    wanted = EXPECTED.get(f"{kind.__module__}.{kind.__name__}", OnefsError)
    assert isinstance(found, wanted)
    assert "host" in str(found)


def test_an_unrelated_error_that_is_being_handled_is_no_cause() -> None:
    try:
        raise socket.gaierror(socket.EAI_NONAME, "x")
    except OSError:
        found = to_onefs_error(ConnectionResetError(104, "x"), "host")
    assert "Connection reset" in str(found)

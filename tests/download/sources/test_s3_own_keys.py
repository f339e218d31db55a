"""The user's own AWS configuration: when it is read, and what happens if it does not answer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.config.bucket import Bucket
from onefs.download.sources import s3_own_keys
from onefs.download.sources.interface import KeysRefused
from onefs.download.sources.s3_client import S3Client
from onefs.http import Transport
from tests.content.conftest import in_threads
from tests.running import wait_until
from tests.s3_servers import PRIVATE
from tests.scripted_server import ScriptedConnection, ScriptedServer, answer

UNKEYED = Bucket(PRIVATE)
REFUSED = answer(b"<Error><Code>ExpiredToken</Code></Error>", 400)


@pytest.fixture
def run_by_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a shell script the ``credential_process`` of the user."""

    def configure(script: str) -> None:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\ncd '{tmp_path}'\n{script}\n")
        program.chmod(0o700)
        config = tmp_path / "config"
        config.write_text(f"[default]\ncredential_process = {program}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    return configure


def get(client: S3Client, stall: float = 60.0) -> bytes | Exception:
    try:
        stream = client.get(UNKEYED, "x.npy", stall)
    except KeysRefused as error:
        return error
    try:
        return b"".join(stream.iter_chunks())
    finally:
        stream.__exit__()


@pytest.mark.parametrize("outcome", ["fails", "has no keys"])
def test_the_lack_of_keys_is_remembered(
    transport: Transport, tmp_path: Path, run_by_aws: Callable[[str], None], outcome: str
) -> None:
    """Else each file would run the program again, or ask servers of Amazon's for seconds."""
    run_by_aws(f"echo >> runs; echo '{{}}'; exit {int(outcome == 'fails')}")
    with ScriptedServer({f"/{PRIVATE}/x.npy": answer(b"bytes")}) as server:
        client = S3Client(transport, server.url, {})
        found = [*in_threads(4, lambda: get(client)), get(client), get(client)]
        assert [type(each) for each in found] == [KeysRefused] * 6
        assert "run `aws configure`" in str(found[-1])
        assert server.requests == []
    assert (tmp_path / "runs").read_text() == "\n"


def test_keys_of_a_program_are_used_again(
    transport: Transport, tmp_path: Path, run_by_aws: Callable[[str], None]
) -> None:
    keys = '{"Version": 1, "AccessKeyId": "AKIAONE", "SecretAccessKey": "a secret of a program"}'
    run_by_aws(f"echo >> runs; echo '{keys}'")
    with ScriptedServer({f"/{PRIVATE}/x.npy": answer(b"bytes")}) as server:
        client = S3Client(transport, server.url, {})
        assert [*in_threads(4, lambda: get(client)), get(client)] == [b"bytes"] * 5
        assert all("AKIAONE" in each.headers["authorization"] for each in server.requests)
    assert (tmp_path / "runs").read_text() == "\n"


def test_a_program_that_does_not_end_holds_no_download(
    transport: Transport, tmp_path: Path, run_by_aws: Callable[[str], None]
) -> None:
    run_by_aws("echo $$ > pid.new; mv pid.new pid; exec sleep 600")
    with ScriptedServer({f"/{PRIVATE}/x.npy": answer(b"bytes")}) as server:
        client = S3Client(transport, server.url, {})
        try:
            for _ in range(2):
                found = get(client, stall=0.5)
                assert isinstance(found, KeysRefused)
                assert "in time" in str(found)
        finally:
            wait_until((tmp_path / "pid").exists)
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        assert server.requests == []


def test_a_search_that_does_not_end_is_given_up(
    transport: Transport,
    tmp_path: Path,
    run_by_aws: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = '{"Version": 1, "AccessKeyId": "AKIAONE", "SecretAccessKey": "a secret of a program"}'
    run_by_aws(
        f"if [ -e pid ]; then echo '{keys}'; exit; fi\n"
        "echo $$ > pid.new; mv pid.new pid; exec sleep 600"
    )
    with ScriptedServer({f"/{PRIVATE}/x.npy": answer(b"bytes")}) as server:
        client = S3Client(transport, server.url, {})
        assert isinstance(get(client, stall=0.1), KeysRefused)
        wait_until((tmp_path / "pid").exists)
        try:
            assert isinstance(get(client, stall=0.1), KeysRefused)
            monkeypatch.setattr(s3_own_keys, "SEARCH_SECONDS", 0.0)
            assert get(client) == b"bytes"
        finally:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        assert get(client) == b"bytes"


def test_the_keys_count_as_missing_if_no_thread_can_search_them(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert "no more threads" in str(get(S3Client(transport, "http://127.0.0.1:9", {})))


def test_keys_that_s3_refuses_are_read_again(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs of the user renew them in this file."""
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def renew(name: str) -> None:
        file.write_text(
            f"[default]\naws_access_key_id = {name}\n"
            f"aws_secret_access_key = secret of {name}\naws_session_token = token of {name}\n"
        )

    def check(talk: ScriptedConnection) -> None:
        is_new = "AKIANEW" in talk.request.headers["authorization"]
        (answer(b"bytes") if is_new else REFUSED)(talk)

    renew("AKIAOLD")
    with ScriptedServer({f"/{PRIVATE}/x.npy": check}) as server:
        client = S3Client(transport, server.url, {})
        assert isinstance(get(client), KeysRefused)
        renew("AKIANEW")
        assert isinstance(get(client), KeysRefused)  # the file was read a moment ago
        monkeypatch.setattr(s3_own_keys, "REREAD_SECONDS", 0.0)
        assert isinstance(get(client), KeysRefused)
        assert get(client) == b"bytes"


def test_the_older_name_of_the_token_is_used(transport: Transport) -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "AKIAONE",
        "AWS_SECRET_ACCESS_KEY": "the secret of a session",
        "AWS_SECURITY_TOKEN": "the token of a session",
    }
    with ScriptedServer({f"/{PRIVATE}/x.npy": answer(b"bytes")}) as server:
        assert get(S3Client(transport, server.url, environ)) == b"bytes"
        assert server.requests[0].headers["x-amz-security-token"] == "the token of a session"

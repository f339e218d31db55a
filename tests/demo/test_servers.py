"""The two servers together, in the process of the test and in a separate process."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from onefs.demo import demo_identity
from onefs.demo.alyx_rows import public_path, with_uuid
from onefs.demo.logins import saved_login
from onefs.demo.records import Login
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.demo.synthetic.plan import TUTORIAL_EID
from onefs.errors import OnefsError
from tests.demo.laboratory_folder import SESSION, put, slow_disk
from tests.running import wait_until, within

ROOT = Path(__file__).parents[2]
LOGIN = Login()
AUTH = (LOGIN.data_username, LOGIN.data_password)
#: the time in seconds that a process has to end. A test fails after it
TIMEOUT_SECONDS = 30


@pytest.fixture(scope="module")
def source() -> SyntheticLaboratory:
    return SyntheticLaboratory()


@pytest.fixture
def servers(source: SyntheticLaboratory) -> Iterator[Servers]:
    with Servers(source) as running:
        yield running


def spikes(source: SyntheticLaboratory) -> str:
    row = next(r for r in source.datasets(TUTORIAL_EID) if r.name == "spikes.times.npy")
    return public_path("mainenlab") + with_uuid(row.file_records[0].relative_path, row.id)


def token(servers: Servers) -> dict[str, str]:
    login = {"username": LOGIN.username, "password": LOGIN.password}
    answer = requests.post(f"{servers.alyx_url}/auth-token", data=login, timeout=60)
    return {"Authorization": f"Token {answer.json()['token']}"}


def test_a_client_finds_and_loads_a_dataset(servers: Servers) -> None:
    detail = requests.get(
        f"{servers.alyx_url}/sessions/{TUTORIAL_EID}", headers=token(servers), timeout=10
    ).json()
    rows = detail["data_dataset_session_related"]
    assert len(rows) == 29
    for row in rows:
        assert row["data_url"].startswith(servers.data_url)
        answer = requests.get(row["data_url"], auth=AUTH, timeout=60)
        assert len(answer.content) == row["file_size"]


def test_each_request_is_recorded_before_its_answer_ends(
    servers: Servers, source: SyntheticLaboratory
) -> None:
    url = servers.data_url + spikes(source)
    agent = {"User-Agent": "reader/1"}
    size = int(requests.head(url, auth=AUTH, headers=agent, timeout=60).headers["Content-Length"])
    for _ in range(20):
        servers.clear_requests()
        requests.get(url, auth=AUTH, headers={"Range": "bytes=10-19", **agent}, timeout=60)
        (one,) = servers.requests
        assert (one.server, one.method, one.range, one.status) == (
            "data",
            "GET",
            "bytes=10-19",
            206,
        )
        assert (one.path, one.bytes, one.agent) == (spikes(source), 10, "reader/1")
    servers.clear_requests()
    requests.head(url, auth=AUTH, timeout=60)
    requests.get(url, auth=AUTH, timeout=60)
    requests.get(f"{servers.alyx_url}/labs?limit=1", timeout=60)
    assert [(r.method, r.bytes) for r in servers.requests[:2]] == [("HEAD", 0), ("GET", size)]
    assert (servers.requests[2].path, servers.requests[2].status) == ("/labs?limit=1", 403)


def test_a_connection_is_kept(servers: Servers, source: SyntheticLaboratory) -> None:
    connection = http.client.HTTPConnection(servers.data_url.removeprefix("http://"), timeout=60)
    answer = requests.Request("GET", servers.data_url, auth=AUTH).prepare()
    headers = {"Authorization": answer.headers["Authorization"]}
    connection.connect()
    port = connection.sock.getsockname()[1]
    # requests with and without bodies, refused and served. An unread body is no new request
    for method, body in (("GET", None), ("HEAD", None), ("POST", b"x" * 70_000), ("GET", None)):
        connection.request(method, spikes(source), body, headers)
        response = connection.getresponse()
        assert response.status == (405 if method == "POST" else 200)
        response.read()
        assert connection.sock is not None
        assert connection.sock.getsockname()[1] == port
    connection.close()


def test_a_stopped_server_refuses_and_breaks_connections(
    servers: Servers, source: SyntheticLaboratory
) -> None:
    with requests.Session() as session:
        session.auth = AUTH
        url = servers.data_url + spikes(source)
        assert session.get(url, timeout=60).status_code == 200
        servers.data.stop()
        with pytest.raises(requests.ConnectionError):
            session.get(url, timeout=60)
        assert requests.get(f"{servers.alyx_url}/labs", timeout=60).status_code == 403
        servers.data.start()
        assert session.get(url, timeout=60).status_code == 200


def test_a_stop_ends_transfers(source: SyntheticLaboratory) -> None:
    with Servers(source, rate=1000) as servers:
        url = servers.data_url + spikes(source)
        answer = requests.get(url, auth=AUTH, stream=True, timeout=60)
        size = int(answer.headers["Content-Length"])
        assert size > 100_000
        with within():  # the whole transfer would take minutes
            servers.stop()
            with pytest.raises(requests.RequestException):
                _ = answer.content
        wait_until(lambda: servers.requests)
        (one,) = servers.requests
        assert one.bytes < size


def test_many_connections_at_once(servers: Servers, source: SyntheticLaboratory) -> None:
    statuses: list[int] = []

    def read() -> None:
        url = servers.data_url + spikes(source)
        headers = {"Range": "bytes=0-9"}
        statuses.append(requests.get(url, auth=AUTH, headers=headers, timeout=30).status_code)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [206] * 150


def test_latency_is_for_each_request_of_both(source: SyntheticLaboratory) -> None:
    with Servers(source, latency_ms=100) as servers:
        for url in (servers.alyx_url, servers.data_url):
            start = time.monotonic()
            requests.get(url, timeout=60)
            assert time.monotonic() - start >= 0.1


def test_the_access_log_has_a_line_for_each_request(
    source: SyntheticLaboratory, tmp_path: Path
) -> None:
    log = tmp_path / "access.jsonl"
    with Servers(source, access_log=log) as servers:
        url = servers.data_url + spikes(source)
        requests.get(url, auth=AUTH, headers={"Range": "bytes=-5"}, timeout=60)
        (line,) = log.read_text().splitlines()
        requests.get(f"{servers.alyx_url}/labs", timeout=60)
        assert len(log.read_text().splitlines()) == 2
    record = json.loads(line)
    assert record.pop("agent").startswith("python-requests")
    assert record == {
        "server": "data",
        "method": "GET",
        "path": spikes(source),
        "range": "bytes=-5",
        "status": 206,
        "bytes": 5,
    }


def test_a_port_in_use_is_one_sentence(source: SyntheticLaboratory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OnefsError, match=f"port {port} is in use"):
            Servers(source, data_port=port)


def test_ports_are_kept_over_a_restart(servers: Servers) -> None:
    before = servers.connection_info()
    servers.stop()
    servers.start()
    assert servers.connection_info() == before
    assert requests.get(f"{before['alyx_url']}/labs", timeout=60).status_code == 403


# -- as a process ------------------------------------------------------------------------------


def start(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "onefs.demo", *arguments],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=ROOT,
        env={**os.environ, **variables},
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """Return the exit code and stderr. Kill the process if it does not end."""
    try:
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.kill()
        process.wait()
    return process.returncode, errors


def ready(process: subprocess.Popen[bytes]) -> dict[str, str]:
    assert process.stdout is not None
    info: dict[str, str] = json.loads(process.stdout.readline())
    return info


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_quietly(number: signal.Signals) -> None:
    process = start()
    output = ready(process)
    assert sorted(output) == [
        "alyx_url",
        "data_password",
        "data_url",
        "data_username",
        "password",
        "username",
    ]
    assert requests.get(f"{output['alyx_url']}/labs", timeout=60).status_code == 403
    process.send_signal(number)
    assert finish(process) == (0, b"")


def passwords(*arguments: str) -> tuple[str, str]:
    """Return the passwords that servers with these arguments print."""
    process = start(*arguments, "--until-stdin-closes")
    output = ready(process)
    finish(process)
    return output["password"], output["data_password"]


def test_a_folders_passwords_are_its_own(tmp_path: Path) -> None:
    """A folder may be private, and every user of this machine can connect to its servers."""
    put(tmp_path / "data", f"{SESSION}/a.b.npy")
    folder, state = f"--data={tmp_path / 'data'}", tmp_path / "state"
    published = (LOGIN.password, LOGIN.data_password)
    assert passwords() == published
    first, second = passwords(folder), passwords(folder)
    assert len({*published, *first, *second}) == 6
    stored = passwords(folder, f"--state-dir={state}")
    assert stored == passwords(folder, f"--state-dir={state}")
    assert not {*stored} & {*published, *first, *second}
    assert saved_login(demo_identity(tmp_path / "data"), state).password == stored[0]


def test_it_ends_with_its_stdin() -> None:
    process = start("--until-stdin-closes")
    ready(process)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(TIMEOUT_SECONDS)
    process.stdin = None
    assert finish(process) == (0, b"")


@pytest.mark.parametrize("end", ["stdin", "SIGINT", "SIGTERM"])
def test_it_ends_while_a_slow_folder_is_scanned(tmp_path: Path, end: str) -> None:
    put(tmp_path / "data", f"{SESSION}/a.b.npy")
    slow = slow_disk(tmp_path / "site", tmp_path / "data" / "lab", 60)
    process = start(f"--data={tmp_path / 'data'}", "--until-stdin-closes", **slow)
    try:
        wait_until((tmp_path / "site" / "waits").exists)
        assert process.stdin is not None
        if end == "stdin":
            process.stdin.close()
            process.stdin = None
        else:
            process.send_signal(signal.Signals[end])
        assert process.wait(TIMEOUT_SECONDS) == 130
    finally:
        assert finish(process)[1] == b""


def start_on_a_port() -> tuple[int, subprocess.Popen[bytes], dict[str, str]]:
    """Start a server on a chosen port. Return the port, the process and the process's output.

    A port cannot be reserved for another process. Another program may take the port or the next
    port before the server starts. Only then are two other ports tried.
    """
    for _ in range(20):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        if port == 65535:  # there is no next port
            continue
        process = start(f"--port={port}")
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            return port, process, json.loads(line)
        code, output = finish(process)
        assert code == 1, output
        assert re.match(rf"port ({port}|{port + 1}) is in use", output.decode()), output
    pytest.fail("of 20 pairs of ports none was free")


def test_the_data_server_is_on_the_next_port() -> None:
    port, process, output = start_on_a_port()
    assert output["alyx_url"] == f"http://127.0.0.1:{port}"
    assert output["data_url"] == f"http://127.0.0.1:{port + 1}"
    other = start(f"--port={port}")
    code, sentence = finish(other)
    assert code == 1
    assert sentence.decode().splitlines() == [
        f"port {port} is in use by another program: stop it or choose another port"
    ]
    process.terminate()
    assert finish(process)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data=/nowhere/at/all"], "there is no folder /nowhere/at/all"),
        (["--data=.", "--sessions=100"], "--sessions and --datasets do not work with --data"),
        (["--sessions=-1"], "--sessions is -1"),
    ],
)
def test_contradicting_options_give_one_sentence(arguments: list[str], words: str) -> None:
    code, output = finish(start(*arguments))
    assert code == 2
    assert output.decode().startswith(words)
    assert len(output.splitlines()) == 1


def test_without_flask_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['flask'] = None; "
        "from onefs.demo.__main__ import main; sys.exit(main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ['the demo needs Flask: pip install "onefs[demo]"']

"""The file server in cases that are not recorded: names, rates, and files that change."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from onefs.demo.alyx_rows import public_path, with_uuid
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import Login, Source
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.demo.synthetic.plan import TUTORIAL_EID
from tests.demo.laboratory_folder import SESSION, put
from tests.running import wait_until, within

LOGIN = Login()
AUTH = (LOGIN.data_username, LOGIN.data_password)


def address(servers: Servers, source: Source, name: str) -> str:
    """Return the escaped address of the only dataset with that name."""
    rows = [row for s in source.sessions() for row in source.datasets(s.eid) if row.name == name]
    assert len(rows) == 1
    path = public_path("lab") + with_uuid(rows[0].file_records[0].relative_path, rows[0].id)
    return servers.data_url + quote(os.fsencode(path))


@pytest.mark.parametrize(
    "inside",
    [
        "alf/#2020-08-31#/spikes.times.npy",
        "alf/100%25 sure?.txt",
        "alf/näme with blanks.npy",
        "alf/two\nlines.txt",
        ".hidden",
        "README",
        "alf/ends.with.dot.",
        "alf/a.6f2a1c34-9a0e-5d53-8a44-0c1d6b8e7f21.npy",
        os.fsdecode(b"alf/not-utf8-\xff\xfe.npy"),
    ],
)
def test_any_name_is_served(tmp_path: Path, inside: str) -> None:
    put(tmp_path, f"{SESSION}/{inside}", b"content")
    source = FolderLaboratory(tmp_path)
    with Servers(source) as servers:
        answer = requests.get(
            address(servers, source, inside.rpartition("/")[2]), auth=AUTH, timeout=10
        )
    assert (answer.status_code, answer.content) == (200, b"content")


def test_an_unescaped_revision_gets_a_listing(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/alf/#2020-08-31#/spikes.times.npy")
    source = FolderLaboratory(tmp_path)
    with Servers(source) as servers:
        escaped = address(servers, source, "spikes.times.npy")
        answer = requests.get(escaped.replace("%23", "#"), auth=AUTH, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html"
    assert "%232020-08-31%23/" in answer.text


def test_several_ranges_are_sent_as_parts(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/a.b.bin")
    source = FolderLaboratory(tmp_path)
    with Servers(source) as servers:
        answer = requests.get(
            address(servers, source, "a.b.bin"),
            auth=AUTH,
            headers={"Range": "bytes=0-1,8-20"},
            timeout=60,
        )
    assert answer.status_code == 206
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].encode()
    parts = answer.content.split(b"--" + boundary)[1:]
    assert parts[0].endswith(b"Content-Range: bytes 0-1/10\r\n\r\n01\r\n")
    assert parts[1].endswith(b"Content-Range: bytes 8-9/10\r\n\r\n89\r\n")
    assert parts[2] == b"--\r\n"


def test_a_changed_file_has_another_etag(tmp_path: Path) -> None:
    file = put(tmp_path, f"{SESSION}/a.b.bin")
    source = FolderLaboratory(tmp_path)
    with Servers(source) as servers:
        url = address(servers, source, "a.b.bin")
        first = requests.get(url, auth=AUTH, timeout=60)
        file.write_bytes(b"abcdefghij")
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
        resumed = {"Range": "bytes=5-", "If-Range": first.headers["ETag"]}
        second = requests.get(url, auth=AUTH, headers=resumed, timeout=60)
    assert (second.status_code, second.content) == (200, b"abcdefghij")


def test_a_file_that_shrinks_ends_the_connection(tmp_path: Path) -> None:
    """On an open connection, a client would wait forever for the rest of the body."""
    size = 40 * 2**20
    file = put(tmp_path, f"{SESSION}/a.b.bin")
    os.truncate(file, size)
    source = FolderLaboratory(tmp_path)
    with Servers(source) as servers:
        url = address(servers, source, "a.b.bin")
        answer = requests.get(url, auth=AUTH, stream=True, timeout=60)
        os.truncate(file, 2**20)
        with pytest.raises(requests.RequestException):
            _ = answer.content


def test_descriptors_are_closed(tmp_path: Path) -> None:
    # more than the buffers of a connection hold
    os.truncate(put(tmp_path, f"{SESSION}/a.b.bin"), 40 * 2**20)
    source = FolderLaboratory(tmp_path)
    conditions: list[dict[str, str]] = [{}, {"If-None-Match": "*"}, {"If-Match": '"x"'}]
    conditions += [{"Range": f"bytes={text}"} for text in ("0-1", "0-1,3-4", "x")]

    def descriptors_of_the_file() -> int:
        links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        return sum(os.path.realpath(link).endswith("a.b.bin") for link in links)

    with Servers(source) as servers:
        url = address(servers, source, "a.b.bin")
        with requests.get(url, auth=AUTH, stream=True, timeout=60):
            wait_until(lambda: descriptors_of_the_file() == 1)
        codes = []
        for headers in conditions:
            for method in ("GET", "HEAD"):
                answer = requests.request(method, url, auth=AUTH, headers=headers, timeout=60)
                codes.append(answer.status_code)
            requests.get(url, auth=AUTH, headers=headers, stream=True, timeout=60).close()
        assert codes == [200, 200, 304, 304, 412, 412, 206, 206, 206, 206, 416, 416]
        wait_until(lambda: descriptors_of_the_file() == 0)


def test_the_rate_holds_for_each_connection(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/a.b.bin", bytes(50_000))
    source = FolderLaboratory(tmp_path)
    with Servers(source, rate=100_000) as servers, requests.Session() as session:
        url = address(servers, source, "a.b.bin")
        session.auth = AUTH
        start = time.monotonic()
        assert len(session.get(url, timeout=60).content) == 50_000
        whole = time.monotonic() - start
        for _ in range(5):
            session.get(url, headers={"Range": "bytes=0-1999"}, timeout=60)
        end = time.monotonic() - start
    assert whole > 0.4
    assert end > 0.55, "small answers on the same connection count too"


def test_a_slow_response_is_sent_in_small_pieces(tmp_path: Path) -> None:
    put(tmp_path, f"{SESSION}/a.b.bin", bytes(50_000))
    source = FolderLaboratory(tmp_path)
    with Servers(source, rate=500) as servers:  # the whole file would take 100 s
        url = address(servers, source, "a.b.bin")
        with within(), requests.get(url, auth=AUTH, stream=True, timeout=60) as answer:
            assert next(answer.iter_content(500))


def test_only_the_file_servers_own_credentials_are_accepted() -> None:
    source = SyntheticLaboratory()
    with Servers(source) as servers:
        url = f"{servers.data_url}/public/nothing"
        for auth in (None, ("iblmember", "wrong"), (LOGIN.username, LOGIN.password)):
            answer = requests.get(url, auth=auth, timeout=60)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="FlatIron"'
        assert requests.get(url, auth=AUTH, timeout=60).status_code == 404
        assert requests.get(f"{servers.data_url}/aws/nothing", timeout=60).status_code == 404


def test_an_id_serves_its_own_path_only() -> None:
    source = SyntheticLaboratory()
    one, other = source.datasets(TUTORIAL_EID)[:2]
    path = public_path("mainenlab") + with_uuid(one.file_records[0].relative_path, other.id)
    assert source.file(path) is None

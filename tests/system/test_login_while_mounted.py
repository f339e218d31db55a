"""A token that is revoked while it is in use, and what ``onefs login`` does for the mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from onefs.alyx.auth import fetch_token
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from onefs.http import Transport
from tests.laboratories import SMALL, account, on_same_ports, small_file
from tests.running import Home, read_errno, wait_until

#: what the mount has seen before, and what it has not
KNOWN, UNKNOWN = SMALL[0], ("labtwo/mouse.1/2021-03-04", "labone/mouse.2/2021-03-05/010/alf")


@pytest.fixture
def source(folder: Path) -> FolderLaboratory:
    return FolderLaboratory(folder)


@pytest.fixture
def servers(source: FolderLaboratory) -> Iterator[Servers]:
    with Servers(source) as running:
        yield running


@contextmanager
def _revoked(
    servers: Servers, source: FolderLaboratory, password: str = "", data_password: str = ""
) -> Iterator[Servers]:
    """Yield servers on the same ports with another password."""
    servers.stop()
    old = servers.login
    login = replace(
        old,
        password=password or old.password,
        data_password=data_password or old.data_password,
    )
    with on_same_ports(servers, source, login) as later:
        yield later


def _is_readable(path: Path) -> bool:
    return read_errno(path) == 0


def test_known_listings_are_served_and_the_rest_is_eacces_until_a_login(
    home: Home, servers: Servers, source: FolderLaboratory, folder: Path
) -> None:
    mounted = home.mount(**account(servers))
    content = (mounted.path / KNOWN).read_bytes()
    listed = sorted(os.listdir((mounted.path / KNOWN).parent))
    with _revoked(servers, source, password="another one") as later:
        for _ in range(2):
            assert (mounted.path / KNOWN).read_bytes() == content
            assert sorted(os.listdir((mounted.path / KNOWN).parent)) == listed
            for path in UNKNOWN:
                assert read_errno(mounted.path / path) == errno.EACCES
        assert len(mounted.log_lines("refuses")) == 1
        assert "onefs login" in mounted.log_lines("refuses")[0]

        home.run("login", variables=account(later))
        wait_until(lambda: read_errno(mounted.path / UNKNOWN[0]) == 0)
        for path in SMALL:
            wait_until(partial(_is_readable, mounted.path / path), 10)
            assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
        assert not mounted.has_ended()
        assert len(mounted.log_lines("refuses")) == 1
        mounted.umount()


def test_a_second_revocation_is_reported_again(
    home: Home, servers: Servers, source: FolderLaboratory
) -> None:
    mounted = home.mount(**account(servers))
    with _revoked(servers, source, password="second") as second:
        assert read_errno(mounted.path / "labone/mouse.1") == errno.EACCES
        home.run("login", variables=account(second))
        wait_until(lambda: read_errno(mounted.path / "labone/mouse.1") == 0)
        with _revoked(second, source, password="third"):
            assert read_errno(mounted.path / "labtwo/mouse.1") == errno.EACCES
            assert len(mounted.log_lines("refuses")) == 2


def test_a_token_of_the_environment_works_and_gives_way_to_a_login(
    home: Home, servers: Servers, source: FolderLaboratory
) -> None:
    home.run("login", variables=account(servers))
    mounted = home.mount(**account(servers, token=_token(servers)))
    assert read_errno(mounted.path / KNOWN) == 0
    with _revoked(servers, source, password="another one") as later:
        assert read_errno(mounted.path / UNKNOWN[0]) == errno.EACCES
        home.run("login", variables=account(later))
        wait_until(lambda: read_errno(mounted.path / UNKNOWN[0]) == 0)
        mounted.umount()


def test_a_changed_password_of_the_file_server_is_eacces(
    home: Home, servers: Servers, source: FolderLaboratory
) -> None:
    mounted = home.mount(**account(servers))
    content = (mounted.path / KNOWN).read_bytes()
    assert (mounted.path / SMALL[1]).stat().st_size > 0
    with _revoked(servers, source, data_password="another one"):
        for _ in range(2):
            assert read_errno(mounted.path / SMALL[1]) == errno.EACCES
            assert (mounted.path / KNOWN).read_bytes() == content
        assert mounted.xattr("state", SMALL[1]) == "remote"
        assert servers.data_url.removeprefix("http://") in mounted.xattr("error", SMALL[1])


def test_no_secret_is_shown_anywhere(home: Home, servers: Servers) -> None:
    mounted = home.mount("--log-level", "DEBUG", **account(servers))
    for path in SMALL:
        assert read_errno(mounted.path / path) == 0
    secrets = (servers.login.password, servers.login.data_password, _token(servers))
    process = Path("/proc") / str(mounted.pid)
    shown = home.log() + (process / "cmdline").read_text() + (process / "environ").read_text()
    shown += home.run("status", "--json").stdout
    shown += "".join(mounted.xattr(name, SMALL[0]) for name in ("url", "error", "state"))
    assert [secret for secret in secrets if secret in shown] == []
    assert str(mounted.path) in shown


def _token(servers: Servers) -> str:
    with Transport() as transport:
        login = servers.login
        return fetch_token(transport, servers.alyx_url, login.username, login.password)

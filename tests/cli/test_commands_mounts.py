"""Reports by a mount about files that it cannot serve, and since when it cannot."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.laboratories import SMALL, account, on_same_ports, small_folder
from tests.running import Home, Mounted, read_errno, wait_until
from tests.sqlite_faults import fill_disk, small_disk

pytestmark = pytest.mark.usefixtures("fuse")

#: 2.4 MB per file
VALUES = 300_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FolderLaboratory:
    return FolderLaboratory(small_folder(tmp_path_factory.mktemp("data"), VALUES))


@pytest.fixture
def servers(source: FolderLaboratory) -> Iterator[Servers]:
    with Servers(source) as running:
        yield running


@pytest.fixture
def user(tmp_path: Path, servers: Servers) -> Iterator[Home]:
    with Home(tmp_path, **account(servers)) as made:
        yield made


def status_text(mounted: Mounted, words: str) -> str:
    """Wait until the output of ``onefs status`` contains ``words``, and return the output."""
    shown: list[str] = []

    def says() -> bool:
        text = mounted.home.run("status").stdout
        parts = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
        shown[:] = [part for part in parts if part.startswith(f"{mounted.path} ")]
        return any(words in part for part in shown)

    wait_until(says, what=words)
    return shown[0]


@row("read beyond --max-fetch")
def test_a_read_beyond_the_limit_is_reported(user: Home) -> None:
    mounted = user.mount("--max-fetch", "4M/h")
    small, large, other = SMALL[:3]
    assert read_errno(mounted.path / small) == 0
    for path in (large, other):
        assert read_errno(mounted.path / path) == errno.EDQUOT
        assert "--max-fetch" in mounted.xattr("error", path)
        assert re.search(r"try again after \d\d:\d\d", mounted.xattr("error", path))
    assert mounted.xattr("error", small) == ""
    assert len(mounted.log_lines("--max-fetch")) == 1
    text = status_text(mounted, "try again after")
    assert re.search(r"since \d\d:\d\d: .*try again after \d\d:\d\d", text)
    found = user.status_of(mounted.path)
    assert found is not None
    (trouble,) = found["troubles"]
    assert "--max-fetch" in trouble


@row("read with a full cache disk")
def test_a_full_disk_is_named(user: Home, tmp_path: Path) -> None:
    with small_disk(tmp_path, 16) as disk:
        mounted = user.mount("--cache-dir", disk / "cache")
        assert read_errno(mounted.path / SMALL[0]) == 0
        fill_disk(disk)
        assert read_errno(mounted.path / SMALL[1]) == errno.ENOSPC
        sentence = f"the disk of the cache folder {disk / 'cache'} is full"
        assert mounted.xattr("error", SMALL[1]) == sentence
        assert sentence in status_text(mounted, sentence)
        assert mounted.log_lines(sentence)
        (disk / "filler").unlink()
        wait_until(lambda: read_errno(mounted.path / SMALL[1]) == 0)
        assert mounted.xattr("error", SMALL[1]) == ""
        wait_until(lambda: "troubles" not in (user.status_of(mounted.path) or {}))
        mounted.umount()


@row("token revoked while mounted")
def test_a_revoked_token_is_reported(
    user: Home, servers: Servers, source: FolderLaboratory
) -> None:
    mounted = user.mount()
    assert mounted.xattr("error") == ""
    refused = "labtwo/mouse.1"
    servers.stop()
    login = replace(servers.login, password="another one")
    with on_same_ports(servers, source, login) as later:
        assert read_errno(mounted.path / refused) == errno.EACCES
        for path in ("", "labtwo"):
            assert "onefs login" in mounted.xattr("error", path)
        text = status_text(mounted, f"{mounted.path}  refused")
        assert text.startswith(f"{mounted.path}  refused")
        assert "onefs login" in text
        assert (user.status_of(mounted.path) or {})["state"] == "refused"
        user.run("login", ONEFS_PASSWORD=later.login.password)
        wait_until(lambda: read_errno(mounted.path / refused) == 0)
        for path in ("", "labtwo"):
            assert mounted.xattr("error", path) == ""
        wait_until(lambda: (user.status_of(mounted.path) or {})["state"] == "ready")


def test_a_refused_file_server_login_is_reported(
    user: Home, servers: Servers, source: FolderLaboratory
) -> None:
    mounted = user.mount()
    servers.stop()
    with on_same_ports(servers, source, replace(servers.login, data_password="another one")):
        assert read_errno(mounted.path / SMALL[0]) == errno.EACCES
        assert "onefs setup" in mounted.xattr("error", SMALL[0])
        assert status_text(mounted, f"{mounted.path}  refused").startswith(
            f"{mounted.path}  refused"
        )

"""The tree over the embedded laboratory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.access import Access, Deadlines, GivenLogin
from onefs.credentials import DataCredentials
from onefs.demo.made import MadeLaboratory
from onefs.demo.serve import Servers
from onefs.secret import Secret
from onefs.settings import Settings


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(MadeLaboratory()) as found:
        yield found


def opened(servers: Servers, folder: Path, *, offline: bool = False, as_of: str = "") -> Access:
    """A laboratory opened with the embedded one's login, in folders below ``folder``."""
    login = servers.login
    data = DataCredentials(login.data_username, Secret(login.data_password), "test")
    settings = Settings(
        url=servers.alyx_url,
        username=login.username,
        profile="",
        cache_dir=folder / "cache",
        state_dir=folder / "state",
        data_url=servers.data_url,
    )
    return Access(
        settings,
        "test",
        login=GivenLogin(login.password, data),
        deadlines=Deadlines(metadata=5.0, stall=5.0),
        offline=offline,
        as_of=as_of,
    )


@pytest.fixture
def access(servers: Servers, tmp_path: Path) -> Iterator[Access]:
    found = opened(servers, tmp_path)
    servers.clear_requests()
    yield found
    found.close()

"""Fixtures: ``ONE`` with the embedded laboratory, and a separate home folder for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.one import ONE

EID = "cf264653-2deb-44cb-aa84-89b82507028a"
FLOWERS = "4e0b3320-47b7-416e-b842-c34dc9004cf8"
REF = "2018-08-24_1_clns0730"

Open = Callable[..., ONE]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with Servers(SyntheticLaboratory()) as found:
        yield found


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own folders for settings, state and caches. Nothing is set up."""
    set_home(tmp_path, monkeypatch)


def set_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config", "state", "cache", "data"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(folder / name))
    monkeypatch.setenv("HOME", str(folder))
    # a busy machine takes longer to make the laboratory's files than a user waits for an answer
    monkeypatch.setenv("ONEFS_DEADLINE", "60")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    for name in ("ONEFS_URL", "ONEFS_USERNAME", "ONEFS_PASSWORD", "ONEFS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def arguments(servers: Servers) -> dict[str, Any]:
    """Return the arguments that ``ONE`` needs to search and load in the embedded laboratory."""
    login = servers.login
    return {
        "username": login.username,
        "password": login.password,
        "base_url": servers.alyx_url,
        "data_username": login.data_username,
        "data_password": login.data_password,
        "data_hosts": servers.data_url,
    }


@pytest.fixture(scope="module")
def shared(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ONE]:
    """Return one ``ONE`` object that is shared by the tests of a module that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        set_home(folder, patch)
        one = ONE(**arguments(servers))
    servers.clear_requests()
    yield one
    one.close()


@pytest.fixture
def opened(servers: Servers) -> Iterator[Open]:
    """Return a function that opens ``ONE`` objects. All are closed at the end of the test."""
    made: list[ONE] = []

    def make(**more: Any) -> ONE:
        made.append(ONE(**{**arguments(servers), **more}))
        servers.clear_requests()
        return made[-1]

    yield make
    for one in made:
        one.close()

"""ONE-api itself over the embedded laboratory, whose results ours are compared with."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from onefs.demo.servers import Servers
from tests.one.conftest import set_home


def open_reference(servers: Servers, folder: Path, mode: str = "remote") -> Any:
    """Return a client of ONE-api with a home folder of its own.

    In the mode ``local``, cache tables are loaded first.
    """
    api = pytest.importorskip("one.api")
    params = pytest.importorskip("one.params")
    login = servers.login
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder.mkdir(exist_ok=True)
        set_home(folder, patch)
        client = api.OneAlyx(
            base_url=servers.alyx_url,
            username=login.username,
            password=login.password,
            cache_dir=folder / "one",
            silent=True,
            cache_rest=None,
        )
        if mode == "local":
            client.load_cache(clobber=True)
            client.mode = mode
        key = params.get(client=servers.alyx_url, silent=True)
    client.alyx._par = client.alyx._par.set("HTTP_DATA_SERVER", f"{servers.data_url}/public")
    assert key is not None
    return client


def plain(value: Any) -> Any:
    """Return a result of ONE-api or of ours with ids as text, so that it can be compared."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Path):
        return value
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(each) for each in value)
    return value

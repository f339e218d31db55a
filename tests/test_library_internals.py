"""Undocumented names of libraries that onefs uses.

pyproject.toml bounds the versions of these libraries. Where a name is gone below the bound, a test
here says which it is, and what of onefs needs it.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

ROOT = Path(__file__).parent.parent
#: names of mfusepy that start with an underscore, or are not documented, and what needs them
OF_MFUSEPY = {
    "_libfuse": "ending the loop and dropping pages (onefs/mount/fuse.py, Running)",
    "fuse_operations": "the callback read_buf (onefs/mount/fuse.py, Fuse.read_buf)",
    "c_stat": "attributes in listings (onefs/mount/fuse.py, Fuse.readdir_fuse_3)",
    "fuse_get_context": "the thread that reads (onefs/mount/fuse.py, Fuse)",
    "fuse_version_major": "which libfuse it is (onefs/mount/fuse.py, VERSION)",
    "fuse_version_minor": "which libfuse it is (onefs/mount/fuse.py, VERSION)",
}
#: methods of mfusepy.FUSE that ours replace: under another name ours would never be called
REPLACED = ("_wrapper", "_init", "destroy", "fgetattr", "getxattr", "open", "read", "read_buf")
#: names of urllib3's connections, what uses them, and the method of urllib3 that must know them
OF_CONNECTIONS = {
    "_new_conn": (HTTPConnection, HTTPConnection.connect),
    "_dns_host": (HTTPConnection, HTTPConnection._new_conn),
}


@pytest.fixture(scope="module")
def mfusepy(fuse: None) -> Any:
    from onefs.mount.fuse import mfusepy

    return mfusepy


@pytest.mark.parametrize("name", OF_MFUSEPY)
def test_mfusepy_has_the_names_that_the_mount_uses(mfusepy: Any, name: str) -> None:
    assert hasattr(mfusepy, name), (
        f"mfusepy has no {name} any more, which {OF_MFUSEPY[name]} needs: "
        "adapt it, or bound mfusepy in pyproject.toml"
    )


@pytest.mark.parametrize("name", REPLACED)
def test_mfusepy_calls_the_methods_that_the_mount_replaces(mfusepy: Any, name: str) -> None:
    there = {*vars(mfusepy.FUSE), *(field[0] for field in mfusepy.fuse_operations._fields_)}
    assert name in there, (
        f"mfusepy.FUSE has no {name} any more, which onefs.mount.fuse.Fuse replaces: "
        "adapt it, or bound mfusepy in pyproject.toml"
    )


def test_mfusepy_wraps_each_callback_and_shares_its_init(mfusepy: Any) -> None:
    wraps = "self._wrapper" in inspect.getsource(mfusepy.FUSE.__init__)
    assert wraps, "mfusepy.FUSE wraps no callback with _wrapper any more: errors get lost"
    shared = "self._init(" in inspect.getsource(mfusepy.FUSE.init_fuse_3)
    assert shared, "mfusepy.FUSE.init_fuse_3 calls no _init any more: no mount gets ready"
    context = mfusepy._libfuse.fuse_get_context.restype
    assert "fuse" in dict(context._type_._fields_), "fuse_context has no field fuse"


@pytest.mark.parametrize("name", OF_CONNECTIONS)
def test_urllib3_has_the_names_that_connections_use(name: str) -> None:
    kind, user = OF_CONNECTIONS[name]
    assert name in inspect.getsource(user), (
        f"urllib3 {version('urllib3')}: {kind.__name__} does not use {name} any more, which "
        "onefs.http.connection_pools._Watched needs: adapt it, or bound urllib3 in pyproject.toml"
    )
    assert "self._new_conn(" in inspect.getsource(HTTPSConnection.connect)


def test_urllib3_makes_the_connections_that_pools_name() -> None:
    advice = "which onefs.http.connection_pools sets: adapt it, or bound urllib3 in pyproject.toml"
    for pool in (HTTPConnectionPool, HTTPSConnectionPool):
        assert hasattr(pool, "ConnectionCls"), f"{pool.__name__} has no ConnectionCls, {advice}"
    manager = urllib3.PoolManager()
    assert hasattr(manager, "pool_classes_by_scheme"), (
        f"PoolManager has no pool_classes_by_scheme any more, {advice}"
    )
    adapter = HTTPAdapter()
    assert isinstance(adapter.poolmanager, urllib3.PoolManager), "requests has no poolmanager"


def test_every_private_name_of_a_library_is_listed_here() -> None:
    used = set()
    for path in (ROOT / "onefs").rglob("*.py"):
        used.update(re.findall(r"\bmfusepy\.(_\w+)", path.read_text("utf-8")))
    assert used <= set(OF_MFUSEPY)
    pools = (ROOT / "onefs/http/connection_pools.py").read_text("utf-8")
    assert {"_new_conn", "_dns_host"} == {name for name in OF_CONNECTIONS if name in pools}


@pytest.mark.parametrize("library", ["mfusepy", "urllib3"])
def test_the_versions_are_bounded(library: str) -> None:
    needed = re.search(rf'"{library}(>=[^"]*)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert needed is not None
    assert "<" in needed[1], f"pyproject.toml has no upper bound for {library}"

"""ONE-api itself, over the embedded laboratory, to compare its results with ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onefs.demo.servers import Servers


def remote_client(servers: Servers, cache_dir: Path) -> Any:
    """Return a client of ONE-api in remote mode, with a cache folder of its own."""
    import one.api

    login = servers.login
    client = one.api.OneAlyx(
        base_url=servers.alyx_url,
        username=login.username,
        password=login.password,
        cache_dir=cache_dir,
        silent=True,
        cache_rest="GET",  # answers are kept, because requests take most of the time of the tests
        mode="remote",
    )
    for name, value in (
        ("HTTP_DATA_SERVER", f"{servers.data_url}/public"),
        ("HTTP_DATA_SERVER_LOGIN", login.data_username),
        ("HTTP_DATA_SERVER_PWD", login.data_password),
    ):
        client.alyx._par = client.alyx._par.set(name, value)
    return client


def local_client(cache_dir: Path) -> Any:
    """Return a client of ONE-api in local mode, which reads the tables in its cache folder."""
    import one.api

    return one.api.One(cache_dir=cache_dir, mode="local")


def outcome(call: Callable[[], Any]) -> Any:
    """Return the result of a call, or the kind of its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except Exception as error:
            return _kind(error)


def _kind(error: Exception) -> str:
    """Return the kind of an error of ONE-api or of onefs, in words that both have."""
    names = {each.__name__ for each in type(error).__mro__}
    if "404" in str(error) or "session not found" in str(error):
        return "not found"
    kinds = {
        "not found": {"ALFObjectNotFound", "NotFound", "ALFError"},
        "several": {
            *("ALFMultipleObjectsFound", "ALFMultipleCollectionsFound"),
            *("ALFMultipleRevisionsFound", "Ambiguous"),
        },
        "usage": {"ValueError", "TypeError", "KeyError", "UsageError", "error"},
    }
    for kind in ("several", "not found", "usage"):
        if names & kinds[kind]:
            return kind
    raise error


def assert_same(ours: Any, theirs: Any) -> None:
    """Assert that a result of ours is ONE-api's, with text ids."""
    if isinstance(theirs, pd.DataFrame):
        assert_same_frame(ours, theirs)
    elif isinstance(theirs, pd.Series):
        assert _as_text(ours.name) == _as_text(theirs.name)
        pd.testing.assert_series_equal(ours, theirs, check_names=False)
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    elif hasattr(theirs, "to_numpy"):  # an array of pandas
        assert list(ours) == list(theirs)
    elif isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, Path):
        assert Path(ours).name == theirs.name
        assert Path(ours).read_bytes() == theirs.read_bytes()
    elif theirs is pd.NA:
        assert ours is None
    else:
        assert ours == (str(theirs) if type(theirs).__name__ == "UUID" else theirs)


def assert_same_frame(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Assert that columns, types and index are the same, but for ids that are texts."""
    if ours.empty and theirs.empty:
        return
    assert list(ours.index.names) == list(theirs.index.names)
    assert list(map(_as_text, ours.index)) == list(map(_as_text, theirs.index))
    pd.testing.assert_frame_equal(ours.reset_index(drop=True), theirs.reset_index(drop=True))


def _as_text(label: Any) -> Any:
    return tuple(map(str, label)) if isinstance(label, tuple) else str(label)

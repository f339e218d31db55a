"""A plugin of pytest that puts ``onefs.ONE`` in the place of ONE-api's classes in ONE-api's tests.

It has no behaviour of a client. It does three things:

- It opens ``onefs.ONE`` with the cache tables of a test. A test gives its data by changing the
  tables in ``one._cache`` and the files in the cache folder. After a change, the client is opened
  again with the changed tables.
- ONE-api's fixture has no sizes and hashes, and the tests write the files themselves. onefs uses
  only files that agree with the tables, so the tables state the size and hash of the test's files.
- An id, which is text in onefs, equals the UUID that a test expects.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import one.api
import pandas as pd
import pytest
from iblutil.io import parquet
from one.converters import session_record2path

import onefs
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import sync_from_files
from onefs.one.alf_paths import ALFPath
from onefs.one.bunch import Bunch

#: no server listens there
_URL = "http://localhost:9"
_ONE_API = one.api.One
#: attributes of the object in the place of ONE-api's that the client does not have
_OWN = {"_cache", "_client", "_state", "_stamp", "_settings", "cache_dir"}

_uuid_equals = UUID.__eq__


def _equals(self: UUID, other: object) -> Any:
    return str(self) == other if isinstance(other, str) else _uuid_equals(self, other)


class LocalClient:
    """``onefs.ONE`` without an Alyx, for the cache tables in :attr:`_cache`."""

    def __init__(self, cache_dir: Path, settings: dict[str, Any]) -> None:
        self.cache_dir, self._settings = cache_dir, settings
        # ONE-api's own object reads the fixture's tables
        self._cache = _ONE_API(cache_dir=cache_dir, mode="local")._cache
        self._client: onefs.ONE | None = None
        self._state = self._stamp = ""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"onefs.ONE has no {name}: it is internal to ONE-api")
        return getattr(self._opened(), name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._opened(), name, value)

    def __str__(self) -> str:
        return str(self._opened())

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            shutil.rmtree(self._state, ignore_errors=True)
        self._client = None

    def _opened(self) -> onefs.ONE:
        """Return the client. Open it again if the tables or the files have changed."""
        sessions, datasets = self._cache["sessions"], self._with_files()
        stamp = sessions.to_csv() + datasets.to_csv()
        if self._client is not None and stamp == self._stamp:
            return self._client
        wildcards = self._client.wildcards if self._client is not None else True
        self.close()
        self._state, self._stamp = tempfile.mkdtemp(prefix="onefs-state-"), stamp
        state = Path(self._state)
        if len(sessions):
            tables = state / "given"
            tables.mkdir()
            for table, name in ((sessions, "sessions"), (datasets, "datasets")):
                made = self._cache["_meta"]["raw"][name]["date_created"]
                facts = {"date_created": made}
                parquet.save(tables / f"{name}.pqt", _with_text_ids(table), facts)
            sync_from_files(tables, state)
        OverlayDatabase(state / "catalogue.sqlite").close()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ONEFS_STATE_DIR", self._state)
            patch.setenv("ONEFS_TRUST_CACHE_DIR", "1")
            patch.setenv("ONEFS_ADOPT", "1")
            settings = {"base_url": _URL, "wildcards": wildcards, **self._settings}
            self._client = onefs.ONE(cache_dir=self.cache_dir, **settings)
        return self._client

    def _with_files(self) -> pd.DataFrame:
        """Return the table of datasets, with the sizes and hashes of the files that exist."""
        sessions, datasets = self._cache["sessions"], self._cache["datasets"].copy()
        folders = {
            eid: self.cache_dir / session_record2path(sessions.iloc[at])
            for at, eid in enumerate(sessions.index)
        }
        sizes, hashes = list(datasets["file_size"]), list(datasets["hash"])
        paths = zip(datasets.index.get_level_values(0), datasets["rel_path"], strict=True)
        for at, (eid, rel_path) in enumerate(paths):
            file = folders[eid] / rel_path if eid in folders else None
            if file is not None and file.is_file():
                content = file.read_bytes()
                sizes[at], hashes[at] = len(content), hashlib.md5(content).hexdigest()
        datasets["file_size"] = pd.Series(sizes, datasets.index, "UInt64")
        datasets["hash"] = pd.Series(hashes, datasets.index, object)
        return datasets


def _with_text_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the names of ids in the index, as text, as in the files of ONE-api."""
    names = list(table.index.names)
    table = table.reset_index()
    for name in names:
        table[name] = table[name].astype(str)
    return table.set_index(names)


class Clients:
    """Opens a client where a test opens one of ONE-api's."""

    def __init__(self) -> None:
        self._opened: list[LocalClient] = []

    def local(
        self,
        cache_dir: str | Path | None = None,
        mode: str = "local",
        **settings: Any,
    ) -> Any:
        """Stand for ``One(...)`` and ``ONE(...)`` of a test without a database."""
        if cache_dir is None:
            return onefs.ONE(**{"base_url": _URL, "mode": mode, **settings})
        client = LocalClient(Path(cache_dir), {"mode": mode, **settings})
        self._opened.append(client)
        return client

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()


@pytest.fixture(autouse=True, scope="class")
def onefs_in_its_place(request: pytest.FixtureRequest) -> Iterator[None]:
    clients = Clients()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UUID, "__eq__", _equals)
        patch.setattr(UUID, "__hash__", lambda self: hash(str(self)))
        stand_ins: dict[str, Any] = dict.fromkeys(("One", "OneAlyx", "ONE"), clients.local)
        stand_ins.update(ALFPath=ALFPath, Bunch=Bunch)  # classes of results
        for name, stand_in in stand_ins.items():
            if hasattr(request.module, name):
                patch.setattr(request.module, name, stand_in)
        yield
        clients.close()

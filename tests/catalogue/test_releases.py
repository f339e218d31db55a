"""Loading of a release while Alyx does not list the repositories."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from onefs.alyx.client import AlyxClient
from onefs.alyx.parsing import DatasetRow
from onefs.alyx.tokens import FixedToken
from onefs.cache_tables.bucket import PublicBucket
from onefs.cache_tables.build import BuildResult
from onefs.catalogue.releases import load_release
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.storage.release import ReleaseDatabase
from onefs.config.releases import release_dir
from onefs.config.secret import Secret
from onefs.demo.synthetic.plan import BEHAVIOUR_TAG
from onefs.errors import ServerError
from onefs.http import Transport
from onefs.model import Dataset
from tests.public_database import serve_public
from tests.scripted_server import ScriptedServer, answer, answer_json


def test_a_release_is_not_loaded_without_repositories(tmp_path: Path) -> None:
    """It would have no file that can be read, and nothing would load it again."""
    pytest.importorskip("pyarrow")
    from onefs.cache_tables.build import build

    known: list[str] = []

    def build_release(*args: Any, **options: Any) -> BuildResult:
        # a process that ends here has the repositories already
        database = OverlayDatabase(folder / "catalogue.sqlite")
        known.extend(database.repositories())
        database.close()
        return build(*args, **options)

    row = {"name": "flatiron_lab", "data_url": "https://server/lab/", "globus_is_personal": False}
    scripts = {"/data-repository": [answer(status=404), answer_json([row])]}
    folder = release_dir(tmp_path, BEHAVIOUR_TAG)
    with (
        serve_public() as public,
        ScriptedServer(scripts) as server,
        Transport() as transport,
    ):
        alyx = AlyxClient(transport, server.url, FixedToken(Secret("token")), 10.0)
        bucket = PublicBucket(transport, public.bucket_url, BEHAVIOUR_TAG)
        with pytest.raises(ServerError):
            load_release(bucket, tmp_path, BEHAVIOUR_TAG, None, build, alyx)
        assert not (folder / "tables.sqlite").exists()
        built = load_release(bucket, tmp_path, BEHAVIOUR_TAG, None, build_release, alyx)
        assert built is not None
        assert known == ["flatiron_lab"]
    database = OverlayDatabase(folder / "catalogue.sqlite")
    assert list(database.repositories()) == ["flatiron_lab"]
    database.close()


def _row(**fields: Any) -> DatasetRow:
    return DatasetRow(Dataset("d", "e", "a.b.npy", **fields), ())


@pytest.mark.parametrize(
    ("size", "is_shared"), [(None, True), (7, True), (8, False)], ids=["no size", "same", "other"]
)
def test_without_a_hash_a_release_has_the_content_of_the_whole(
    tmp_path: Path, size: int | None, is_shared: bool
) -> None:
    whole = CatalogueDatabase(tmp_path / "whole.sqlite")
    whole.store_datasets("e", [_row(size=7, md5="0" * 32)], 5.0)
    release = ReleaseDatabase(tmp_path / "release.sqlite", tmp_path / "whole.sqlite")
    release.store_datasets("e", [_row(size=size)], 5.0)
    (row,) = release.datasets("e")
    assert (row.dataset.id == "d") is is_shared
    assert row.dataset.md5 == ("0" * 32 if is_shared else "")
    whole.close()
    # while the whole cannot be read, the files of the release take no place of its files
    with closing(sqlite3.connect(tmp_path / "whole.sqlite")) as connection:
        connection.execute("DROP TABLE listings")
    (row,) = release.datasets("e")
    assert row.dataset.published_id == "d"
    release.close()

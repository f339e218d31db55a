"""Loading of a release while Alyx does not list the repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.cache_tables.bucket import PublicBucket
from onefs.catalogue.releases import load_release
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.config.releases import release_dir
from onefs.config.secret import Secret
from onefs.demo.synthetic.plan import BEHAVIOUR_TAG
from onefs.errors import ServerError
from onefs.http import Transport
from tests.public_database import serve_public
from tests.scripted_server import ScriptedServer, answer, answer_json


def test_a_release_is_not_loaded_without_repositories(tmp_path: Path) -> None:
    """It would have no file that can be read, and nothing would load it again."""
    pytest.importorskip("pyarrow")
    from onefs.cache_tables.build import build

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
        assert load_release(bucket, tmp_path, BEHAVIOUR_TAG, None, build, alyx) is not None
    database = OverlayDatabase(folder / "catalogue.sqlite")
    assert list(database.repositories()) == ["flatiron_lab"]
    database.close()

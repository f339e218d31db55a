"""A public database of 800,000 datasets: folders are listed while its tables are loaded."""

from __future__ import annotations

import errno
import json
import os
import time
import zipfile
from pathlib import Path

import pytest

from onefs.demo.bucket import PublicBucket
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.public_servers import PublicServers
from tests.public_database import variables_of
from tests.running import Home, read_errno, wait_until

pytest.importorskip("pyarrow")

SESSIONS, DATASETS = 20_000, 40
#: seconds that a busy machine may take to load the tables
TIMEOUT_SECONDS = 300.0
#: the first session of the made tables
DAY = "lab000/S00000/2019-01-07"


def make_tables(folder: Path) -> Path:
    """Write the two objects of the bucket: the description and the archive of the tables."""
    from scripts.benchmarks.generate_tables import write

    write(folder, SESSIONS, DATASETS)
    with zipfile.ZipFile(folder / "cache.zip", "w") as archive:
        for name in ("sessions.pqt", "datasets.pqt"):
            archive.write(folder / name, name)
            (folder / name).unlink()
    (folder / "cache_info.json").write_text(json.dumps({"date_created": "2026-11-01 00:00"}))
    return folder


@pytest.mark.long
def test_folders_are_listed_while_the_tables_load(tmp_path: Path, folder: Path) -> None:
    objects = PublicBucket(FolderLaboratory(folder), tables=make_tables(tmp_path / "tables"))
    with (
        PublicServers(objects, FolderLaboratory(folder)) as public,
        Home(tmp_path, **variables_of(public)) as user,
    ):
        began = time.monotonic()
        mount = user.mount("--public", ONEFS_DEADLINE="1")
        session = mount.path / DAY / "001"
        # before anything is here, and while sessions are, nothing is wrong or absent
        assert read_errno(mount.path) in (0, errno.EBUSY)
        wait_until(lambda: read_errno(mount.path) == 0, TIMEOUT_SECONDS, "the labs")
        labs_after = time.monotonic() - began
        assert len([name for name in os.listdir(mount.path) if name.startswith("lab")]) == 20
        assert os.listdir(mount.path / "lab000" / "S00000")
        assert read_errno(session) in (0, errno.EBUSY)
        wait_until(lambda: read_errno(session) == 0, TIMEOUT_SECONDS, "the datasets")
        all_after = time.monotonic() - began
        assert sum(len(files) for _, _, files in os.walk(session)) == DATASETS
        print(f"labs after {labs_after:.1f} s, all {SESSIONS * DATASETS} after {all_after:.1f} s")
        assert [each.path.rpartition("/")[2] for each in public.requests_to("bucket")] == [
            "cache_info.json",
            "cache.zip",
        ]
        assert public.requests_to("alyx") == []

"""Patterns, also with literal names, find the files that a walk finds, each once.

``Path.rglob``, ``glob`` and their like do not list a folder for a literal name: they look it up in
each folder. So a name of a file that is not listed, but found, would be counted without a word.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import Home, Mounted, files_below, run

#: of one collection, of two probes and revisions, of the tutorial's session, of raw data; and a
#: name that does not exist
NAMES = (
    "spikes.times.npy",
    "clusters.metrics.csv",
    "_ibl_trials.choice.npy",
    "licks.times.npy",
    "notes.md",
    "_iblrig_taskSettings.raw.json",
    "nothing.at_all.npy",
)


def _rglob(folder: Path, name: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob(name)]


def _path_glob(folder: Path, name: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.glob(f"*/*/*/**/{name}")]


def _glob(folder: Path, name: str) -> list[str]:
    return glob.glob(f"**/{name}", root_dir=folder, recursive=True)


def _bash(folder: Path, name: str) -> list[str]:
    script = f"shopt -s globstar nullglob; for path in **/{name}; do echo $path; done"
    return run(["bash", "-c", script], cwd=folder).stdout.splitlines()


def _fsspec(folder: Path, name: str) -> list[str]:
    local = pytest.importorskip("fsspec").filesystem("file")
    return [os.path.relpath(path, folder) for path in local.glob(f"{folder}/**/{name}")]


def _duckdb(folder: Path, name: str) -> list[str]:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.execute("SELECT file FROM glob(?)", [f"{folder}/**/{name}"]).fetchall()
    return [os.path.relpath(path, folder) for (path,) in found]


@pytest.fixture(scope="module")
def mounted(shared_home: Home) -> Mounted:
    return shared_home.mount("--demo")


@pytest.mark.parametrize(
    "where", ["cortexlab", "mainenlab/clns0730", ".flat/cortexlab", ".as-of/2021-01-01/cortexlab"]
)
@pytest.mark.parametrize("search", [_rglob, _path_glob, _glob, _bash, _fsspec, _duckdb])
def test_a_literal_name_is_found_as_often_as_a_walk_finds_it(
    mounted: Mounted, search: Callable[[Path, str], list[str]], where: str
) -> None:
    folder = mounted.path / where
    walked = files_below(folder)
    assert walked
    for name in NAMES:
        depth = 3 if search is _path_glob else 0
        expected = Counter(
            path for path in walked if path.endswith(f"/{name}") and path.count("/") >= depth
        )
        search(folder, name)  # the kernel knows each name now, and which are absent
        assert Counter(search(folder, name)) == expected, name


def test_the_counts_of_the_demo_are_those_of_its_walk(mounted: Mounted) -> None:
    walked = [path for path in files_below(mounted.path) if path.endswith("/spikes.times.npy")]
    assert len(_rglob(mounted.path, "spikes.times.npy")) == len(walked) == 40


def test_no_name_of_a_file_resolves_where_it_is_not_listed(mounted: Mounted) -> None:
    """In each folder each name that any file has, the kernel having looked at all of it before."""
    top = mounted.path / "cortexlab" / "KS023"
    names = {path.rpartition("/")[2] for path in files_below(mounted.path)}
    assert len(list(os.walk(top))) > 5
    for _ in range(2):
        for folder, folders, files in os.walk(top):
            hidden = names - {*folders, *files}
            found = {name for name in hidden if os.path.lexists(os.path.join(folder, name))}
            assert found == set(), folder

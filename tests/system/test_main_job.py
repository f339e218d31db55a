"""The main job: ``onefs mount --demo --demo-data FOLDER`` on real files of a rig."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from tests import rig
from tests.running import Home, Mounted, files_below, run

LISTED = rig.manifest()
ARRAYS = [listed.short for listed in LISTED if listed.path.endswith(".npy")]
#: loads each array given as (mounted file, original) without reading it whole, and compares
_COMPARE = """
import sys
import numpy as np
for ours, original in zip(sys.argv[1::2], sys.argv[2::2]):
    mapped = np.load(ours, mmap_mode="r")
    assert isinstance(mapped, np.memmap), type(mapped)
    np.testing.assert_array_equal(mapped, np.load(original))
    print(ours)
"""


@pytest.fixture(scope="module")
def mounted(shared_home: Home) -> Mounted:
    return shared_home.mount("--demo", "--demo-data", rig.FILES)


def test_every_file_is_there_with_subjects_in_the_path_and_without(mounted: Mounted) -> None:
    assert len(LISTED) == 21
    for listed in LISTED:
        for path in (listed.path, listed.short):
            assert (mounted.path / path).stat().st_size == listed.size
            assert (mounted.path / path).is_file()


def test_no_other_file_is_there(mounted: Mounted) -> None:
    assert files_below(mounted.path) == {listed.short for listed in LISTED}


@pytest.mark.parametrize("spelling", ["path", "short"])
def test_md5_sums_are_those_of_the_manifest(
    mounted: Mounted, tmp_path: Path, spelling: str
) -> None:
    sums = tmp_path / "sums.md5"
    sums.write_text("".join(f"{each.md5}  {getattr(each, spelling)}\n" for each in LISTED))
    done = run(["md5sum", "-c", sums], cwd=mounted.path)
    assert done.stdout.count(": OK\n") == len(LISTED)


def test_rsync_finds_no_difference_in_either_direction(mounted: Mounted) -> None:
    assert _differences(rig.SUBJECTS, mounted.path / "iblrig") == []
    assert _differences(mounted.path / "iblrig", rig.SUBJECTS) == []


def test_rsync_finds_the_one_byte_that_differs(mounted: Mounted, tmp_path: Path) -> None:
    copy = tmp_path / "Subjects"
    shutil.copytree(rig.SUBJECTS, copy)
    changed = copy / ARRAYS[0].removeprefix("iblrig/")
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    for found in (
        _differences(copy, mounted.path / "iblrig"),
        _differences(mounted.path / "iblrig", copy),
    ):
        assert len(found) == 1
        assert found[0].endswith(changed.relative_to(copy).as_posix())


@pytest.mark.parametrize("options", [[], ["--sparse"]], ids=["plain", "sparse"])
def test_a_tar_of_the_mount_unpacks_to_the_same_files(
    mounted: Mounted, tmp_path: Path, options: list[str]
) -> None:
    run(["tar", "-C", mounted.path, *options, "-cf", tmp_path / "made.tar", "iblrig"])
    run(["tar", "-C", tmp_path, "-xf", tmp_path / "made.tar"])
    assert run(["diff", "-r", tmp_path / "iblrig", rig.SUBJECTS]).stdout == ""
    # a diff that compares nothing would pass; this one must find a difference
    assert files_below(tmp_path / "iblrig") == files_below(rig.SUBJECTS)


def test_every_array_can_be_mapped_into_memory(mounted: Mounted) -> None:
    assert len(ARRAYS) == 3
    pairs = [
        path
        for each in ARRAYS
        for path in (mounted.path / each, rig.SUBJECTS / each.removeprefix("iblrig/"))
    ]
    done = run([sys.executable, "-c", _COMPARE, *pairs])
    assert len(done.stdout.splitlines()) == len(ARRAYS)


def test_a_slow_laboratory_can_be_had(home: Home) -> None:
    """``--demo-rate`` bounds each data connection, ``--demo-latency`` delays each request."""
    largest = max(LISTED, key=lambda listed: listed.size)
    options = ["--demo-rate", str(largest.size), "--demo-latency", "300"]
    mounted = home.mount("--demo", "--demo-data", rig.FILES, *options)
    began = time.monotonic()
    assert (mounted.path / largest.path).stat().st_size == largest.size
    listed = time.monotonic()
    assert len((mounted.path / largest.path).read_bytes()) == largest.size
    # four folders and one request for repositories; then a second one for the bytes
    assert listed - began > 3 * 0.3
    assert time.monotonic() - listed > 1 + 0.3


def _differences(source: Path, target: Path) -> list[str]:
    return run(["rsync", "-rcni", "--delete", f"{source}/", f"{target}/"]).stdout.splitlines()

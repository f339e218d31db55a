"""Programs that walk whole trees end, and see each file once, also when they follow links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.laboratories import SMALL
from tests.required_programs import octave
from tests.rig import manifest
from tests.running import Home, Mounted, files_below, run

EXPECTED = sorted([*SMALL, *(listed.short for listed in manifest())])


@pytest.fixture(scope="module")
def mounted(shared_home: Home, folder: Path) -> Mounted:
    """A mount with a saved search, whose links would lead round in circles if they were met."""
    made = shared_home.mount("--demo", "--demo-data", folder)
    shared_home.run("search", "--subject", "mouse.1", "--save", "mice")
    links = {".eids", ".paths"} ^ set(os.listdir(made.path / ".search" / "mice"))
    assert len(links) == 3
    return made


def _find(mounted: Path, _target: Path) -> list[str]:
    return run(["find", ".", "-type", "f"], cwd=mounted).stdout.splitlines()


def _find_following(mounted: Path, _target: Path) -> list[str]:
    return run(["find", "-L", ".", "-type", "f"], cwd=mounted).stdout.splitlines()


def _grep(mounted: Path, _target: Path) -> list[str]:
    return run(["grep", "-R", "-l", "", "."], cwd=mounted).stdout.splitlines()


def _os_walk(mounted: Path, _target: Path) -> list[str]:
    return [
        os.path.relpath(os.path.join(where, name), mounted)
        for where, _, names in os.walk(mounted, followlinks=True)
        for name in names
    ]


def _rsync(mounted: Path, target: Path) -> list[str]:
    run(["rsync", "-aL", f"{mounted}/", f"{target}/"])
    return _copied(target)


def _cp(mounted: Path, target: Path) -> list[str]:
    run(["cp", "-rL", f"{mounted}/.", target])
    return _copied(target)


def _tar(mounted: Path, target: Path) -> list[str]:
    archive = target.with_suffix(".tar")
    run(["tar", "-C", mounted, "-h", "-cf", archive, "."])
    run(["tar", "-C", target, "-xf", archive])
    listed = run(["tar", "-tf", archive]).stdout.splitlines()
    assert len(set(listed)) == len(listed)
    return _copied(target)


_GENPATH = """
folders = strsplit(genpath('{root}'), pathsep);
for k = 1:numel(folders)
  found = dir(folders{{k}});
  for n = find(~[found.isdir])
    disp(fullfile(folders{{k}}, found(n).name));
  end
end
"""


def _genpath(mounted: Path, target: Path) -> list[str]:
    """What Octave's ``addpath(genpath(...))`` walks."""
    script = target / "walk.m"
    script.write_text(_GENPATH.format(root=mounted))
    done = run([octave(), "--no-init-file", "--no-history", "--quiet", script])
    return [os.path.relpath(path, mounted) for path in done.stdout.splitlines()]


def _copied(target: Path) -> list[str]:
    run(["chmod", "-R", "u+w", target])  # so that it can be removed again
    return list(files_below(target))


@pytest.mark.parametrize(
    "walk",
    [_find, _find_following, _grep, _os_walk, _rsync, _cp, _tar, _genpath],
    ids=lambda f: f.__name__,
)
def test_a_walker_ends_and_sees_each_file_once(
    mounted: Mounted, tmp_path: Path, walk: Callable[[Path, Path], list[str]]
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    found = [path.removeprefix("./") for path in walk(mounted.path, target)]
    assert sorted(found) == EXPECTED


def test_a_walker_copies_what_is_there(mounted: Mounted, tmp_path: Path, folder: Path) -> None:
    _rsync(mounted.path, tmp_path / "copy")
    labs = sorted(os.listdir(folder))
    assert sorted(os.listdir(tmp_path / "copy")) == labs != []
    for lab in labs:
        run(["diff", "-r", tmp_path / "copy" / lab, folder / lab / "Subjects"])


def test_nothing_virtual_is_listed(mounted: Mounted) -> None:
    links = run(["find", ".", "-type", "l", "-o", "-name", ".?*"], cwd=mounted.path).stdout
    assert links == ""
    # although it is there
    session = mounted.path / os.path.dirname(os.path.dirname(SMALL[2]))
    for virtual in (".session.json", ".datasets.tsv"):
        assert (session / virtual).is_file()
    for virtual in (".by-eid", ".by-ref", ".flat", "labone/Subjects"):
        assert (mounted.path / virtual).is_dir()


def test_no_two_files_share_an_inode(mounted: Mounted) -> None:
    numbers = run(["find", ".", "-printf", "%i\n"], cwd=mounted.path).stdout.splitlines()
    assert len(set(numbers)) == len(numbers)

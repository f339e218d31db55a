"""Folders that become cache folders. Project and home folders do not, without ``--adopt``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onefs.errors import UsageError
from onefs.one import ONE
from tests.cli.commands_table import row
from tests.laboratories import SMALL
from tests.running import Home

PATH = SMALL[0]
#: commands that use a cache folder, with arguments with which the commands succeed
COMMANDS = (
    ["get", PATH],
    ["search", "--limit", "3"],
    ["list", PATH],
    ["show", PATH],
    ["path", PATH],
    ["cache", "info"],
    ["cache", "list"],
    ["cache", "verify"],
    ["cache", "pin", PATH],
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder like one that `git clone` makes."""
    made = tmp_path / "project"
    for name in (".git/HEAD", "src/module/main.py", "data/2021/table.npy", "README.md"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("mine")
    return made


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.long
@row("onefs mount --cache-dir DIR of a project")
@pytest.mark.usefixtures("fuse")
def test_a_project_is_no_cache_folder(user: Home, project: Path) -> None:
    before = names(project)
    mount = ["mount", str(user.root / "mnt")]
    lines = (*COMMANDS, mount, [*mount, "--demo"], [*mount, "--offline"], ["setup"])
    for line in lines:
        told = user.error_of(2, *line, "--cache-dir", project)
        assert told.startswith(f"the folder {project} is not empty"), line
        assert "--adopt" in told
    told = user.error_of(2, "get", PATH, ONEFS_CACHE_DIR=str(project))
    assert "ONEFS_ADOPT=1" in told
    assert names(project) == before
    assert not (user.root / "mnt").exists()


@row("onefs mount --cache-dir DIR of a project")
@pytest.mark.usefixtures("fuse")
def test_a_project_is_used_with_adopt(user: Home, project: Path) -> None:
    there = ["--cache-dir", str(project)]
    for line in COMMANDS[1:]:
        user.run(*line, *there, "--adopt")
    mounted = user.mount(*there, "--adopt")
    assert (mounted.path / PATH).read_bytes()
    mounted.umount()
    # the folder is a cache folder from now on
    user.mount(*there).umount()
    assert (project / "README.md").read_text() == "mine"


@row("onefs mount --cache-dir DIR of a project")
def test_setup_adopts_for_later_commands(user: Home, project: Path) -> None:
    user.run("setup", "--profile", "lab", "--cache-dir", project, "--adopt")
    saved = json.loads((user.folder / "config/onefs/settings.json").read_text())
    assert saved["profiles"]["lab"]["cache_dir"] == str(project)
    assert user.run("get", PATH).stdout.startswith(str(project))


@row("onefs mount --cache-dir DIR of a project")
@pytest.mark.parametrize(
    "content",
    [
        "",
        "lost+found/",
        "datasets.pqt",
        ".rest/",
        "mylab/Subjects/",
        "mylab/mouse/2021-03-05/001/alf/",
        "mouse/2021-03-05/001/alf/",
    ],
)
def test_an_empty_folder_and_a_one_folder_are_used(
    user: Home, tmp_path: Path, content: str
) -> None:
    folder = tmp_path / "folder"
    made = folder / content
    (made if content.endswith("/") or not content else made.parent).mkdir(parents=True)
    if content.endswith(".pqt"):
        made.touch()
    for _ in range(2):
        assert user.run("get", PATH, "--cache-dir", folder).stdout.startswith(str(folder))


@row("onefs mount --cache-dir DIR of a project")
def test_the_state_folder_may_lie_in_the_cache_folder(user: Home, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for state in (folder, folder / "state"):
        there = {"ONEFS_CACHE_DIR": str(folder), "ONEFS_STATE_DIR": str(state)}
        found = user.run("search", "--limit", "1", "--format", "eids", variables=there)
        assert len(found.stdout.split()) == 1
        assert user.run("get", PATH, variables=there).stdout.startswith(f"{folder}/")
        assert list(state.glob("**/catalogue.sqlite"))


@row("onefs mount --cache-dir DIR of a project")
def test_python_refuses_a_project_too(
    user: Home, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="is not empty"):
        ONE(cache_dir=project, silent=True)
    monkeypatch.setenv("ONEFS_ADOPT", "perhaps")
    with pytest.raises(UsageError, match="ONEFS_ADOPT: 'perhaps' is neither yes nor no"):
        ONE(cache_dir=project, silent=True)
    monkeypatch.setenv("ONEFS_ADOPT", "yes")
    with ONE(cache_dir=project, silent=True) as one:
        assert one.search(limit=3)

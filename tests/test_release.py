"""``scripts/release``, the wheel that it builds, and the lock file of the test environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs import __version__
from tests.running import run

ROOT = Path(__file__).resolve().parents[1]
#: the files of a clone from which a release is made, without tests
FILES = (
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "onefs",
    "pyproject.toml",
    "scripts",
)
TAG = f"v{__version__}"
CHANGELOG = f"# Changelog\n\n## {__version__} - 2026-11-30\n\n- A change.\n"


def git(clone: Path, *arguments: str) -> str:
    return run(["git", "-C", clone, *arguments], environment=environment(clone)).stdout


def environment(clone: Path) -> dict[str, str]:
    """Return variables with which git uses an identity for tests, and no settings of the user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    person = {"NAME": "Tester", "EMAIL": "tester@example.org"}
    return {
        **kept,
        **{f"GIT_{role}_{key}": person[key] for role in ("AUTHOR", "COMMITTER") for key in person},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "HOME": str(clone.parent),
    }


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clean repository with this checkout's files, on main, in which all is installed."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in FILES:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "CHANGELOG.md").write_text(CHANGELOG)  # whatever this checkout's has
    (folder / ".venv").symlink_to(sys.prefix)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".git" / "info" / "exclude").write_text(".venv\n/dist\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all files")
    return folder


def release(
    clone: Path, version: str = __version__, code: int = 0, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/release`` without the tests; fail unless it exits with ``code``."""
    return run(
        [clone / "scripts" / "release", "--skip-tests", version],
        environment=environment(clone),
        code=code,
        timeout=timeout,
    )


def edit(clone: Path, name: str, old: str, new: str) -> None:
    """Replace a text in a file, and commit that."""
    text = (clone / name).read_text()
    assert old in text
    (clone / name).write_text(text.replace(old, new, 1))
    git(clone, "commit", "--quiet", "--all", "--message", "edit")


def make_dirty(clone: Path) -> None:
    (clone / "onefs" / "forgotten.py").touch()


def leave_main(clone: Path) -> None:
    git(clone, "switch", "--quiet", "--create", "work")


def remove_from_changelog(clone: Path) -> None:
    edit(clone, "CHANGELOG.md", f"## {__version__} - ", "## 77.0.0 - ")


def add_unreleased_changes(clone: Path) -> None:
    edit(clone, "CHANGELOG.md", f"## {__version__} - ", f"## Unreleased\n\n## {__version__} - ")


def set_other_version(clone: Path) -> None:
    edit(clone, "onefs/__init__.py", f'"{__version__}"', '"77.0.0"')


def add_tag(clone: Path) -> None:
    git(clone, "tag", TAG)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (make_dirty, "the tree is not clean: commit or remove these files\n?? onefs/forgotten.py"),
        (leave_main, "releases are made on main, and this is work"),
        (remove_from_changelog, f"CHANGELOG.md has no heading '## {__version__} - YYYY-MM-DD'"),
        (add_unreleased_changes, f"has a section Unreleased: move its lines below {__version__}"),
        (set_other_version, f"onefs/__init__.py has version 77.0.0: set {__version__} there"),
        (add_tag, f"the tag {TAG} exists: a version is released once"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(
    clone: Path, fault: Callable[[Path], None], message: str
) -> None:
    fault(clone)
    tags = git(clone, "tag")
    assert message in release(clone, code=1).stderr
    assert git(clone, "tag") == tags
    assert not (clone / "dist").exists()


def test_the_changelog_has_the_version_of_the_package() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert re.fullmatch(re.escape(__version__) + r" - \d{4}-\d\d-\d\d", released[0])


def test_the_lock_file_has_every_dependency() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = {each for listed in (project["dependencies"], *extras) for each in listed}
    lock = (ROOT / "tests" / "requirements.lock").read_text("utf-8")
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    names = {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in wanted}
    assert names <= locked, "run scripts/lock"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in the wheel, which is built from this checkout's files."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*FILES, "tests/__init__.py"):
        source, target = ROOT / name, folder / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    run([*build, folder, folder / "tree"], cwd=folder, timeout=300)
    (built,) = folder.glob("*.whl")
    assert built.name.startswith(f"onefs-{__version__}-")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_package_only(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"onefs", f"onefs-{__version__}.dist-info"}
    assert not [name for name in wheel if re.search(r"(^|/)tests?(/|_|\.)", name)]


def test_the_wheel_holds_all_files_of_the_package(wheel: list[str]) -> None:
    """All modules, and the other files: SQL schemas, and the mark that the package has types."""
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "onefs").rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {name for name in wheel if name.startswith("onefs/")} == files
    assert "onefs/py.typed" in files
    assert len([name for name in files if name.endswith(".sql")]) > 2


@pytest.mark.long  # installs the wheel and what it needs in an environment of its own
def test_a_release_is_built_tried_and_tagged(clone: Path) -> None:
    done = release(clone, timeout=600)
    assert "No broken requirements found." in done.stdout  # `pip check`
    assert git(clone, "cat-file", "-t", TAG) == "tag\n"
    files = sorted(path.name for path in (clone / "dist").iterdir())
    assert files == [f"onefs-{__version__}-py3-none-any.whl", f"onefs-{__version__}.tar.gz"]
    assert f"git push origin main {TAG}" in done.stdout

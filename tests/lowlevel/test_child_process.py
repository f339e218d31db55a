"""Child processes import nothing from the user's working directory, which may be deleted."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from onefs.cache_tables.worker import build_in_child, export_in_child
from onefs.cli.demo_process import DemoOptions, DemoProcess
from onefs.lowlevel.child_process import CHILD_WORKING_DIRECTORY, child_command, child_environment
from tests.cache_tables.table_files import OLD
from tests.running import Home, run

PACKAGE = Path(child_command.__code__.co_filename).parents[1]


def shadow(folder: Path) -> Path:
    """Write modules with the names of all standard modules, of onefs and of some libraries.

    Each module writes its name to the file ``RAN`` when it is imported.
    """
    folder.mkdir(exist_ok=True)
    names = [*sys.stdlib_module_names, "numpy", "pyarrow", "onefs", "sitecustomize"]
    for name in names:
        code = f"open({str(folder / 'RAN')!r}, 'a').write({name!r} + '\\n'); raise SystemExit(9)\n"
        (folder / f"{name}.py").write_text(code)
    return folder


@pytest.fixture
def shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory that is full of the modules of :func:`shadow`."""
    folder = shadow(tmp_path / "work")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete the working directory."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


def seen_by_child(environment: dict[str, str]) -> list[str]:
    """Return ``sys.path`` of a child."""
    command = child_command("site")  # prints ``sys.path``, with the working directory
    done = run(command, cwd=Path(CHILD_WORKING_DIRECTORY), environment=environment)
    lines = [line.strip().rstrip(",") for line in done.stdout.splitlines()]
    return [line.strip("'") for line in lines if line.startswith("'")]


def test_the_embedded_laboratory_imports_nothing_from_the_working_directory(
    shadowed: Path, tmp_path: Path
) -> None:
    embedded = DemoProcess(DemoOptions(), str(tmp_path / "state"), timeout=60)
    embedded.close()
    assert not (shadowed / "RAN").exists()


def test_relative_folders_are_the_parents(shadowed: Path, tmp_path: Path) -> None:
    path = shadowed / "data/labone/Subjects/mouse/2020-01-01/001/alf/a.b.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    embedded = DemoProcess(DemoOptions(data="data"), "state", timeout=60)
    embedded.close()
    assert not (shadowed / "RAN").exists()


def test_the_export_of_tables_imports_nothing_from_the_working_directory(
    shadowed: Path, tmp_path: Path
) -> None:
    for name in ("sessions.pqt", "datasets.pqt"):
        shutil.copy(OLD / name, shadowed)
    names = Path("sessions.pqt"), Path("datasets.pqt"), Path("tables.sqlite")
    assert build_in_child(*names, {}).sessions == 26
    (shadowed / "out").mkdir()
    export_in_child(Path("tables.sqlite"), Path("out"))
    assert (shadowed / "out" / "sessions.pqt").exists()
    assert not (shadowed / "RAN").exists()


@pytest.mark.usefixtures("fuse")
def test_a_mount_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    shadow(tmp_path)  # commands run there
    with Home(tmp_path) as home:
        mounted = home.mount("--demo")
        assert os.listdir(mounted.path)
        mounted.umount()
    assert not (tmp_path / "RAN").exists()


@pytest.mark.usefixtures("fuse")
def test_a_mount_starts_from_a_deleted_working_directory(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        (tmp_path / "gone").mkdir()
        command = 'cd "$1" && rmdir "$1" && exec "$2" mount "$3" --demo'
        onefs = Path(sys.executable).with_name("onefs")
        run(
            ["sh", "-c", command, "sh", tmp_path / "gone", onefs, tmp_path / "mnt"],
            environment=home.environment,
        )
        assert os.listdir(tmp_path / "mnt")
        home.run("umount", tmp_path / "mnt")


@pytest.mark.usefixtures("deleted")
def test_a_child_starts_from_a_deleted_working_directory(tmp_path: Path) -> None:
    embedded = DemoProcess(DemoOptions(), str(tmp_path / "state"), timeout=60)
    embedded.close()
    tables = OLD / "sessions.pqt", OLD / "datasets.pqt", tmp_path / "tables.sqlite"
    assert build_in_child(*tables, {}).sessions == 26


def test_pythonpath_means_the_parents_folders(
    shadowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f":libraries::{shadowed / 'more'}:")
    found = seen_by_child(child_environment())
    assert str(shadowed / "libraries") in found
    assert str(shadowed / "more") in found
    assert not {"", ".", str(shadowed)} & set(found)
    assert not (shadowed / "RAN").exists()


@pytest.mark.usefixtures("deleted")
def test_relative_folders_in_pythonpath_are_dropped_in_a_deleted_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "libraries:/absolute")
    assert child_environment()["PYTHONPATH"] == "/absolute"


@pytest.mark.parametrize("value", ["", "1"])
def test_pythonsafepath_changes_nothing(
    shadowed: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", value)
    assert str(PACKAGE.parent) in seen_by_child(child_environment())
    assert not (shadowed / "RAN").exists()


def test_modules_beside_the_package_are_not_imported(tmp_path: Path) -> None:
    """The package is in the folder where the user works, as with ``pip install --target``."""
    folder = tmp_path / "work"
    shutil.copytree(PACKAGE, folder / "onefs", ignore=shutil.ignore_patterns("__pycache__"))
    shadow(folder)
    for path in folder.glob("*.py"):  # modules for other systems exist only here
        if path.stem == "onefs" or not find_spec(path.stem):
            path.unlink()
    code = f"""
import importlib, json, os, sys
others = [path for path in sys.path if not os.path.isdir(os.path.join(path, "onefs"))]
sys.path[:] = [*others, {str(folder)!r}]
children = importlib.import_module("onefs.lowlevel.child_process")
print(json.dumps(children.child_command("onefs.demo", "--help")))
"""
    done = run([sys.executable, "-c", code], cwd=PACKAGE.parent)
    command = json.loads(done.stdout)
    assert str(folder) in command
    shown = run(command, cwd=folder)
    assert "--until-stdin-closes" in shown.stdout
    assert not (folder / "RAN").exists()


def test_secrets_are_not_passed_to_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEFS_TOKEN", "secret")
    assert "ONEFS_TOKEN" not in child_environment(("ONEFS_TOKEN",))
    assert child_environment()["ONEFS_TOKEN"] == "secret"

"""``scripts/demo``: however it ends, neither mount nor process nor folder of it stays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cleanup import mounts_below, processes_below, sweep
from tests.running import clean_environment, run, wait_until

_SCRIPTS = Path(__file__).parents[2] / "scripts"
_PICTURES = _SCRIPTS.parent / "docs" / "images"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in which all is installed already."""
    folder = tmp_path / "clone"
    (folder / "scripts").mkdir(parents=True)
    for name in ("demo", "show_spikes.py"):
        shutil.copy(_SCRIPTS / name, folder / "scripts" / name)
    program(folder / "scripts" / "install", "exit 0")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def start(clone: Path, ls: str = "") -> subprocess.Popen[str]:
    """Run the script, with an ``ls`` that does this if its folder is the mount."""
    temporary, programs = clone.parent / "temporary", clone.parent / "programs"
    temporary.mkdir()
    programs.mkdir()
    if ls:
        program(programs / "ls", ls)
    environment = clean_environment(clone.parent / "home", TMPDIR=str(temporary))
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    environment["MPLBACKEND"] = "agg"
    return subprocess.Popen(
        ["bash", "scripts/demo"], cwd=clone, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # as at a terminal, whatever started the tests
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def end(process: subprocess.Popen[str], clone: Path) -> tuple[int, str]:
    """Its exit code and what it said, when nothing of it is left; else it is swept away."""
    try:
        said, _ = process.communicate(timeout=60)
        assert mounts_below(clone.parent) == []
        assert list((clone.parent / "temporary").iterdir()) == []
        wait_until(lambda: processes_below(clone.parent) == [], 5)
    finally:
        process.kill()
        process.wait()
        sweep(clone.parent)
    return process.returncode, said


def test_to_its_end(clone: Path) -> None:
    pytest.importorskip("matplotlib")
    code, said = end(start(clone), clone)
    assert code == 0, said
    assert "mainenlab" in said
    assert (clone / "demo.png").stat().st_size > 1000
    assert sorted(path.name for path in clone.iterdir()) == [".venv", "demo.png", "scripts"]
    output, picture = clone.parent / "said", clone.parent / "drawn.svg"
    output.write_text(said, "utf-8")
    run([sys.executable, _SCRIPTS / "draw_terminal.py", output, picture])
    drawn = texts_of(picture)
    assert texts_of(_PICTURES / "terminal.svg") == drawn, (
        "README's picture of a terminal is old: run scripts/pictures"
    )


def texts_of(picture: Path) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text("utf-8"))


def test_the_pictures_of_the_readme_are_small() -> None:
    readme = (_SCRIPTS.parent / "README.md").read_text("utf-8")
    for picture in _PICTURES.iterdir():
        assert f"](docs/images/{picture.name})" in readme
        assert picture.stat().st_size < 150_000


def test_a_command_in_the_mount_that_fails(clone: Path) -> None:
    assert end(start(clone, "exit 3"), clone)[0] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_mount(clone: Path, number: signal.Signals) -> None:
    process = start(clone, f"touch {clone.parent}/there; exec sleep 20")
    try:
        wait_until((clone.parent / "there").exists, 30, "the script stands in the mount")
        time.sleep(0.2)
    finally:
        os.killpg(process.pid, number)  # as a terminal does: the whole group
        code, _ = end(process, clone)
    assert code == 128 + number

"""``scripts/test --full``: the parts that take long, each run by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout with three parts, in which all is installed; the second part fails."""
    parts = {"first": "echo first", "second": "echo second; exit 3", "third": "echo third"}
    for name, command in parts.items():
        program(tmp_path / "scripts" / "full" / name, f"# What {name} does.\n{command}")
    program(tmp_path / "scripts" / "install", "touch installed")
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts" / "test")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def full(clone: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "scripts" / "test", "--full", *parts], text=True, capture_output=True, timeout=60
    )


def test_the_parts_are_listed_without_installing_anything(clone: Path) -> None:
    ended = full(clone)
    assert ended.returncode == 0
    assert [line.split(maxsplit=1) for line in ended.stdout.splitlines()] == [
        ["first", "What first does."],
        ["second", "What second does."],
        ["third", "What third does."],
    ]
    assert not (clone / "installed").exists()


@pytest.mark.parametrize("name", ["fourth", "", "../full/first", "../install", "."])
def test_an_unknown_part_is_refused_before_any_part_runs(clone: Path, name: str) -> None:
    ended = full(clone, "first", name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"no part {name}; it has:\nfirst " in ended.stderr
    assert not (clone / "installed").exists()


def test_named_parts_run_in_order_and_a_failure_is_reported_at_the_end(clone: Path) -> None:
    ended = full(clone, "second", "third")
    assert (ended.returncode, ended.stdout) == (1, "second\nthird\n")
    assert ended.stderr.splitlines()[-1] == "failed: second"
    assert (clone / "installed").exists()
    assert full(clone, "third").returncode == 0


def test_every_part_can_be_run_and_says_what_it_is() -> None:
    parts = [path for path in (ROOT / "scripts" / "full").iterdir() if path.is_file()]
    assert parts
    for part in parts:
        lines = part.read_text("utf-8").splitlines()
        assert os.access(part, os.X_OK), f"{part.name} is not executable"
        assert lines[0].startswith("#!"), f"{part.name} names no interpreter"
        assert lines[1].startswith("# "), f"{part.name} does not say what it is in its second line"

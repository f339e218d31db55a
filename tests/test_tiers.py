"""``scripts/test --full``: the parts that take long, each run by its name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    names = {"coverage", "fuzz", "matrix", "mutants", "one-api", "recipes"}
    assert {path.name for path in parts} == names
    for part in parts:
        lines = part.read_text("utf-8").splitlines()
        assert os.access(part, os.X_OK), f"{part.name} is not executable"
        assert lines[0].startswith("#!"), f"{part.name} names no interpreter"
        assert lines[1].startswith("# "), f"{part.name} does not say what it is in its second line"


def test_the_coverage_page_counts_folders_and_names_functions_without_a_test(
    tmp_path: Path,
) -> None:
    def file(total: int, reached: int, **functions: tuple[list[int], list[int]]) -> dict[str, Any]:
        return {
            "summary": {"num_statements": total, "covered_lines": reached},
            "functions": {
                name: {"executed_lines": ran, "missing_lines": missed}
                for name, (ran, missed) in functions.items()
            },
        }

    files = {
        "onefs/alf.py": file(10, 9),
        "onefs/cli/get.py": file(20, 5, idle=([], [3]), half=([1], [2]), empty=([], [])),
        "onefs/cli/deep/more.py": file(20, 20),
    }
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps({"files": files}))
    page = subprocess.run(
        [sys.executable, ROOT / "scripts" / "coverage_report.py", figures, "Made now."],
        text=True, capture_output=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    assert "Made now." in page
    assert [line for line in page if line.startswith("| ")] == [
        "| folder | lines | not reached | reached |",
        "| onefs (top level) | 10 | 1 | 90.0 % |",
        "| onefs/cli | 40 | 15 | 62.5 % |",
        "| total | 50 | 16 | 68.0 % |",
    ]
    assert [line for line in page if line.startswith("- ")] == ["- `onefs/cli/get.py::idle`"]

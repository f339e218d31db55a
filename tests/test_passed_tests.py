"""The list of the tests that passed, which ``scripts/test --all`` writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = ("-m", "pytest", "-q", "-p", "tests.passed_tests", "--passed-tests", "passed.txt")
TESTS = """
import pytest

class TestClass:
    def test_in_a_class(self):
        pass

@pytest.mark.parametrize("value", ["1", "a[b]::c"])
def test_with_parameters(value):
    pass

@pytest.mark.parametrize("value", [1, 2])
def test_with_one_failure(value):
    assert value == 1

@pytest.mark.parametrize("value", [1, 2])
def test_with_one_skipped(value):
    if value == 1:
        pytest.skip("not here")

@pytest.mark.skip(reason="not here")
def test_skipped():
    pass

@pytest.fixture
def broken():
    yield
    raise RuntimeError

def test_that_fails_at_its_end(broken):
    pass
"""


def _listed(folder: Path, tests: str, *options: str) -> list[str]:
    """Run tests with pytest; return the names in the list that it leaves."""
    (folder / "test_some.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    subprocess.run(
        [sys.executable, *PYTEST, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    passed = folder / "passed.txt"
    lines = passed.read_text("utf-8").splitlines() if passed.exists() else []
    return [line for line in lines if not line.startswith("#")]


def test_functions_of_which_each_part_passed_or_was_skipped_are_listed(tmp_path: Path) -> None:
    assert _listed(tmp_path, TESTS, "-p", "xdist", "-n", "2") == [
        "test_some.py::TestClass::test_in_a_class",
        "test_some.py::test_with_one_skipped",
        "test_some.py::test_with_parameters",
    ]


def test_an_interrupted_run_leaves_no_list(tmp_path: Path) -> None:
    stop = "\ndef test_that_stops():\n    pytest.exit('stopped')\n"
    assert _listed(tmp_path, TESTS.replace("\nclass", stop + "\nclass")) == []

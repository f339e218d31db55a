"""The table of ``scripts/full/matrix`` says of no row that it passed unless its tests did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.matrix import results
from scripts.matrix.pythons import find_python
from scripts.matrix.results import Result

_CHECKOUT = Path(__file__).parents[1]
_GOOD = '<testcase classname="tests.a" name="good"/>'
_BAD = '<testcase classname="tests.a" name="bad"><failure message="no"/></testcase>'
_ERROR = '<testcase classname="tests.a" name="error"><error message="no"/></testcase>'
_SKIPPED = '<testcase classname="tests.a" name="not"><skipped message="no"/></testcase>'


def made(folder: Path, *cases: str) -> Result:
    """Return the result of a row that ended well and left a report of these cases."""
    versions = {"python": "3.99.1", "libfuse": "3.17"}
    (folder / "versions.json").write_text(json.dumps(versions))
    (folder / "junit.xml").write_text(f"<testsuites>{''.join(cases)}</testsuites>")
    result = Result("python3.99", "tests", "abc1234", results.PASSED)
    result.read(folder)
    return result


def test_a_row_of_tests_that_pass(tmp_path: Path) -> None:
    result = made(tmp_path, _GOOD, _GOOD, _SKIPPED)
    assert (result.outcome, result.passed, result.skipped) == (results.PASSED, 2, 1)
    assert (result.python, result.libfuse) == ("3.99.1", "3.17")


@pytest.mark.parametrize("cases", [(_GOOD, _BAD), (_GOOD, _ERROR), (_SKIPPED,), ()])
def test_a_row_without_success_has_not_passed(tmp_path: Path, cases: tuple[str, ...]) -> None:
    assert made(tmp_path, *cases).outcome == results.FAILED


def test_a_row_that_left_nothing_has_not_passed(tmp_path: Path) -> None:
    result = Result("python3.99", "tests", "abc1234", results.PASSED)
    result.read(tmp_path)
    assert result.outcome == results.FAILED


def test_rows_run_in_pieces_share_a_table(tmp_path: Path) -> None:
    results.save([Result("debian13", "tests/mount", "abc1234")], tmp_path)
    results.save([made(tmp_path, _GOOD, _BAD)], tmp_path)
    lines = (tmp_path / "matrix.md").read_text().splitlines()
    rows = [line.split(" | ")[:2] for line in lines if line.startswith("| ")]
    assert rows == [
        ["| row", "outcome"],
        ["| python3.99", results.FAILED],
        ["| debian13", results.NOT_FOUND],
    ]
    assert lines[-1] == "- `python3.99` failed: `tests.a::bad`"


def test_a_python_is_found_only_if_it_is_of_that_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = f"{sys.version_info[0]}.{sys.version_info[1]}"
    programs = tmp_path / "versions" / f"{release}.9" / "bin"
    other = tmp_path / "versions" / "3.99.0" / "bin"
    for folder, name in ((programs, f"python{release}"), (other, "python3.99")):
        folder.mkdir(parents=True)
        (folder / name).symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert find_python(release) == programs / f"python{release}"
    assert find_python("3.99") is None


def test_a_row_of_another_name_is_refused() -> None:
    done = subprocess.run(
        [_CHECKOUT / "scripts/full/matrix", "python2.7"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "rows: python3.10 python3.12 python3.13 debian13" in done.stdout

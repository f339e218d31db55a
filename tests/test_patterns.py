"""The scripts of docs/recipes/patterns, and the benchmark that runs them with two clients."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scripts.benchmarks.patterns import (
    IMPORT,
    ONE_API,
    ONEFS,
    PATTERNS,
    Client,
    judge,
    measure,
    row,
    table,
)
from tests.documents import RECIPES


def test_a_script_differs_for_one_api_in_its_import_alone() -> None:
    scripts = sorted(PATTERNS.glob("*.py"))
    assert len(scripts) == 12
    for script in scripts:
        text = script.read_text("utf-8")
        assert text.count(f"{IMPORT}\n") == text.count("onefs") == 1, script.name
        assert "\none = ONE()\n" in text, script.name
        assert f"](patterns/{script.name})" in RECIPES["docs/recipes/README.md"]


def client(folder: Path, name: str, line: str) -> Client:
    made = Client(name, line, os.environ, [folder / name], Path(sys.executable))
    made.forget()
    return made


def test_cold_and_warm_runs_of_two_clients_are_compared(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    note = "; open(f'{cache}/known', 'a').write('x')"
    script.write_text(f"{IMPORT}\nprint(ONE)\n")
    clients = [
        client(tmp_path, name, f"cache = {str(tmp_path / name)!r}{note}; ONE = 1")
        for name in (ONE_API, ONEFS)
    ]
    runs = measure(script, clients, 2)
    assert [len(runs[ONEFS].seconds[state]) for state in ("cold", "warm")] == [2, 2]
    # each cold run began with an empty folder, and the warm one followed it
    assert (tmp_path / ONEFS / "known").read_text() == "xx"
    found = row(runs)
    assert found["same output"] is True
    assert {"ratio", ONE_API, ONEFS} == set(found["cold"])
    assert len(judge({"script": found})) == 2
    assert table({"script": found})[-1].startswith("| script | ")
    assert table({"script": found})[-1].endswith("| the same |")


def test_a_script_that_fails_is_told_and_has_no_ratio(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{IMPORT}\nprint(ONE)\n")
    clients = [client(tmp_path, ONE_API, "ONE = 1"), client(tmp_path, ONEFS, "ONE = 1 / 0")]
    found = row(measure(script, clients, 1))
    assert found["errors"] == {ONEFS: "ZeroDivisionError: division by zero"}
    assert found["same output"] is None
    assert judge({"script": found}) == []
    assert "| onefs: ZeroDivisionError: division by zero |" in table({"script": found})[-1]

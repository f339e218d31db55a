"""The page docs/measured/client-tests.md: the results of ONE-api's tests with ``onefs.ONE``.

usage: python -m scripts.client_tests.report FOLDER

The folder has ONE-api's tests and ``results.xml``, which pytest wrote. The exit code is 1 if fewer
than 90 % of the tests that only read pass, or if ``tests.tsv`` does not have exactly the tests of
ONE-api.
"""

from __future__ import annotations

import ast
import csv
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_PAGE = Path("docs/measured/client-tests.md")
_MODULES = ("test_one", "test_converters")
#: the part of the tests that only read that must pass
_FLOOR = 0.9
_KINDS = {
    "reads": "only reads, by public names",
    "mixed": "reads, but also uses internal names (with an underscore), or mocks of methods",
    "internal": "tests what is internal to ONE-api, by such names or mocks",
    "database": "only reads, but from the real databases: not run, as no request is sent to them",
    "writes": "writes",
    "function": "has no method of the client",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A test of ONE-api. ``kind`` is a key of ``_KINDS``; ``result`` is '' if it was not run."""

    test: str
    kind: str
    reason: str
    result: str


def main(folder: Path) -> int:
    """Write the page. Return the exit code."""
    results = _results(folder / "results.xml")
    with open(Path(__file__).with_name("tests.tsv"), encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    rows = [
        Row(each["test"], each["kind"], each["reason"], results.get(each["test"], ""))
        for each in lines
    ]
    differing = _tests_in(folder) ^ {each.test for each in rows}
    if differing:
        print(f"tests.tsv and ONE-api differ: {', '.join(sorted(differing))}", file=sys.stderr)
        return 1
    _PAGE.write_text(_page(rows), encoding="utf-8")
    reading = [each for each in rows if each.kind == "reads"]
    passed = sum(each.result == "passes" for each in reading)
    print(f"{passed} of {len(reading)} tests that only read pass; see {_PAGE}")
    return 0 if passed >= _FLOOR * len(reading) else 1


def _results(path: Path) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        test = f"{case.attrib['classname'].rpartition('.')[2]}.{case.attrib['name']}"
        tags = {each.tag for each in case}
        if "skipped" not in tags:
            found[test] = "fails" if tags & {"failure", "error"} else "passes"
    return found


def _tests_in(folder: Path) -> set[str]:
    """Return the tests in ONE-api's files, as ``Class.test``."""
    found: set[str] = set()
    for module in _MODULES:
        source = (folder / f"one/tests/{module}.py").read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                names = (each.name for each in node.body if isinstance(each, ast.FunctionDef))
                found.update(f"{node.name}.{name}" for name in names if name.startswith("test_"))
    return found


def _page(rows: Sequence[Row]) -> str:
    described = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# ONE-api's own tests with onefs.ONE in the place of its class",
        "",
        f"Made by `scripts/full/one-api`, onefs at {commit}, with `test_one` and",
        "`test_converters` of ONE-api v3.4.2; its other files test no method of the client. A test",
        "is of one kind, by what its code does and not by its result: it only reads if it uses",
        "public names and writes nothing but files in its cache folder. What stands for ONE-api's",
        "class is in `scripts/client_tests/in_place.py`.",
        "",
        "| kind | tests | pass | fail | not run |",
        "|---|---|---|---|---|",
    ]
    for kind, meaning in _KINDS.items():
        of_kind = [each.result for each in rows if each.kind == kind]
        counts = (len(of_kind), *(of_kind.count(each) for each in ("passes", "fails", "")))
        lines.append(f"| {meaning} | {' | '.join(map(str, counts))} |")
    lines += ["", "| test | result | kind | reason |", "|---|---|---|---|"]
    lines += _table(rows)
    return "\n".join(lines) + "\n"


def _table(rows: Iterable[Row]) -> Iterable[str]:
    for each in rows:
        yield f"| `{each.test}` | {each.result or 'not run'} | {each.kind} | {each.reason} |"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Each promise of docs/SEMANTICS.md and docs/ONE-SEMANTICS.md has an id, and tests that ran.

``docs/promises.tsv`` has a line for each promise and test. A promise is an item of a list, or a row
of a table; its id, such as ``[B12]``, is its last word.

``scripts/test`` leaves out the long tests, and skips those that need a program which only
``scripts/test --all`` installs. So such tests of promises must be in docs/measured/all-tests.txt,
the tests that passed in the last ``scripts/test --all``. Other tests need not be in it, since each
``scripts/test`` runs them: a new promise with a short test needs no ``--all`` before it is merged.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.markdown_pages import anchor

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = (DOCS / "SEMANTICS.md", DOCS / "ONE-SEMANTICS.md")
PASSED = DOCS / "measured" / "all-tests.txt"
#: the module that skips tests of a program which is absent
PROGRAMS = "tests.required_programs"


class Promise(NamedTuple):
    """An item of a list or a row of a table."""

    text: str
    id: str


def _items(page: Path) -> Iterator[str]:
    """Yield the items of lists that begin with ``-``, and the rows of tables, without heads."""
    lines = page.read_text("utf-8").splitlines()
    item = ""
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if item and line.startswith("  "):
            item += " " + line.strip()
            continue
        if item:
            yield item
        item = ""
        if line.startswith("- "):
            item = line
        elif line.startswith("| ") and not after.startswith("|--"):
            yield line.removesuffix("|").strip()
    if item:
        yield item


def _promise(item: str) -> Promise:
    """Split an item of a page into its text and its id, which is empty if the item has none."""
    found = re.fullmatch(r"(.*) \[([A-Z]{1,2}\d+)\]", item)
    return Promise(found[1], found[2]) if found else Promise(item, "")


PROMISES = [_promise(item) for page in PAGES for item in _items(page)]


def _tests_of_promises() -> dict[str, list[str]]:
    """Return the tests of each promise id, as docs/promises.tsv has them."""
    head, *lines = (DOCS / "promises.tsv").read_text("utf-8").splitlines()
    assert head == "id\ttest"
    tests: dict[str, list[str]] = {}
    for line in lines:
        promise, test = line.split("\t")
        tests.setdefault(promise, []).append(test)
    return tests


TESTS = _tests_of_promises()


@functools.cache
def _module(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text("utf-8"))


def _nodes(test: str) -> list[ast.AST]:
    """Return the definitions that a test's id leads through: its module, class and function."""
    path, *names = test.split("::")
    nodes: list[ast.AST] = [_module(path)] if (ROOT / path).exists() else []
    for name in names:
        inside = nodes[-1] if nodes else None
        body = inside.body if isinstance(inside, ast.Module | ast.ClassDef) else []
        nodes += [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
        ]
    return nodes


def _exists(test: str) -> bool:
    return len(_nodes(test)) == len(test.split("::")) and "::test_" in test


def _is_long(node: ast.AST) -> bool:
    """Whether a module, class or function is marked as long, all its parameters together."""
    if isinstance(node, ast.Module):
        marks = [ast.unparse(each) for each in node.body if isinstance(each, ast.Assign)]
        return any(re.match(r"pytestmark = .*\bpytest\.mark\.long\b", mark) for mark in marks)
    decorators = getattr(node, "decorator_list", [])
    return "pytest.mark.long" in map(ast.unparse, decorators)


def _needs_a_program(test: str) -> bool:
    """Whether the test's module imports from ``tests.required_programs``."""
    return any(
        isinstance(node, ast.ImportFrom) and node.module == PROGRAMS
        for node in _module(test.split("::")[0]).body
    )


def test_each_promise_ends_with_an_id_of_its_own() -> None:
    assert len(PROMISES) > 500
    assert [promise.text for promise in PROMISES if not promise.id] == [], "without an id"
    counts = Counter(promise.id for promise in PROMISES)
    assert [name for name, count in counts.items() if count > 1] == [], "ids that occur twice"


def test_each_promise_has_tests_and_each_id_in_the_file_a_promise() -> None:
    ids = {promise.id for promise in PROMISES}
    assert sorted(ids - set(TESTS)) == [], "without a test in docs/promises.tsv"
    assert sorted(set(TESTS) - ids) == [], "in docs/promises.tsv, and of no promise"
    assert [name for name, tests in TESTS.items() if len(set(tests)) < len(tests)] == []


def test_the_tests_of_promises_exist() -> None:
    missing = [f"{name}: {test}" for name in TESTS for test in TESTS[name] if not _exists(test)]
    assert missing == []


def test_tests_that_scripts_test_may_leave_out_passed_in_the_last_whole_run(
    request: pytest.FixtureRequest,
) -> None:
    if request.config.getoption("--passed-tests", default=None):
        pytest.skip("this run includes them, and writes the list at its end")
    passed = set(PASSED.read_text("utf-8").splitlines())
    absent = [
        f"{name}: {test}"
        for name in TESTS
        for test in TESTS[name]
        if test not in passed and (any(map(_is_long, _nodes(test))) or _needs_a_program(test))
    ]
    assert absent == [], f"not in {PASSED.relative_to(ROOT)}: run scripts/test --all"


ROWS = [promise for promise in PROMISES if re.match(r"\| 1\.[1-5] \|", promise.text)]


def test_every_row_of_the_old_one_has_a_test_that_says_what_it_follows() -> None:
    """The table's third column is a word of the test's docstring."""
    assert len(ROWS) > 60
    for row in ROWS:
        followed = row.text.split(" | ")[2].removesuffix(" |")
        assert followed in ("tutorial", "old code", "ours"), row
        (test,) = TESTS[row.id]
        module, *_, function = _nodes(test)
        assert isinstance(module, ast.Module)
        assert isinstance(function, ast.FunctionDef)
        docstring = ast.get_docstring(function) or ast.get_docstring(module) or ""
        assert followed in docstring.casefold(), f"{test} does not say {followed!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_contents_name_each_heading_in_order(page: Path) -> None:
    text = page.read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    contents = re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", text.split("\n## ")[0])
    assert contents == [(heading, anchor(heading)) for heading in headings]

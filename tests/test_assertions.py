"""Every test asserts something: itself, or in a function of ``tests/`` that it calls."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
#: how many calls may lie between a test and the assertion
DEPTH = 2
#: tests that assert nothing, as ``path::name``, each with the reason
EXCEPTIONS: dict[str, str] = {
    f"download/sources/test_faults.py::test_a_fault_of_a_{source}": "the check of the row asserts"
    for source in ("server", "disk")
}


class Module:
    """The functions of one file of ``tests/``, and those that it imports from the others."""

    def __init__(self, path: Path) -> None:
        self.tree = ast.parse(path.read_text("utf-8"))
        self.functions = {
            node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)
        }
        self.methods = [
            method
            for node in self.tree.body
            if isinstance(node, ast.ClassDef)
            for method in node.body
            if isinstance(method, ast.FunctionDef)
        ]
        #: the module that each imported name comes from, and its name there
        self.imports = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in self.tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def tests(self) -> list[ast.FunctionDef]:
        functions = [*self.functions.values(), *self.methods]
        return [each for each in functions if each.name.startswith("test_")]


@cache
def modules() -> dict[str, Module]:
    return {
        path.relative_to(TESTS).as_posix(): Module(path) for path in sorted(TESTS.rglob("*.py"))
    }


@cache
def helper_methods() -> dict[str, list[tuple[Module, ast.FunctionDef]]]:
    found: dict[str, list[tuple[Module, ast.FunctionDef]]] = {}
    for module in modules().values():
        for method in module.methods:
            found.setdefault(method.name, []).append((module, method))
    return found


def is_assertion(node: ast.AST) -> bool:
    """Whether a node is an assertion: of Python, pytest, numpy, or pandas."""
    if isinstance(node, ast.Assert):
        return True
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    name = ast.unparse(node.func)
    return name in ("pytest.raises", "pytest.warns", "pytest.fail") or ".testing.assert_" in name


def called(module: Module, call: ast.Call) -> list[tuple[Module, ast.FunctionDef]]:
    """Return the functions of ``tests/`` that a call may reach; methods are known by name only."""
    if isinstance(call.func, ast.Attribute):
        return helper_methods().get(call.func.attr, [])
    if not isinstance(call.func, ast.Name):
        return []
    name = call.func.id
    if name in module.imports:
        source, name = module.imports[name]
        path = source.removeprefix("tests.").replace(".", "/") + ".py"
        if path not in modules():
            return []
        module = modules()[path]
    return [(module, module.functions[name])] if name in module.functions else []


@cache
def asserts(module: Module, function: ast.FunctionDef, depth: int = DEPTH) -> bool:
    """Whether a function asserts something: itself, or in whatever a call of it may reach."""
    nodes = list(ast.walk(function))
    if any(map(is_assertion, nodes)):
        return True
    if depth == 0:
        return False
    reached = (called(module, node) for node in nodes if isinstance(node, ast.Call))
    return any(
        helpers and all(asserts(*helper, depth - 1) for helper in helpers) for helpers in reached
    )


def test_every_test_asserts_something() -> None:
    silent = {
        f"{path}::{function.name}"
        for path, module in modules().items()
        if Path(path).name.startswith("test_")
        for function in module.tests()
        if not asserts(module, function)
    }
    assert sorted(silent - EXCEPTIONS.keys()) == [], "these tests must assert what they show"
    assert sorted(EXCEPTIONS.keys() - silent) == [], "these tests are exceptions without need"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("assert value", True),
        ("with pytest.raises(OSError): value()", True),
        ("np.testing.assert_array_equal(value, value)", True),
        ("wait_until(value)", True),
        ("patiently(value)", True),
        ("home.error_of(1, 'sync')", True),
        ("value()", False),
        ("clean_environment(value)", False),
        ("value.close()", False),
        ("print(value)", False),
    ],
)
def test_an_assertion_is_found(tmp_path: Path, body: str, expected: bool) -> None:
    path = tmp_path / "test_x.py"
    path.write_text(
        "from tests.running import clean_environment, wait_until\n"
        "def patiently(value):\n    wait_until(value)\n"
        f"def test_x(value):\n    {body}\n"
    )
    module = Module(path)
    (test,) = module.tests()
    assert asserts(module, test) is expected

"""Write the mutants of the named modules to the standard output, as JSON.

usage: python -m scripts.mutants.generate [MODULE...]

Runs in the environment of cosmic-ray, which lacks what onefs needs, and so imports no onefs.
"""

from __future__ import annotations

import ast
import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray import plugins  # type: ignore[import-not-found]
from cosmic_ray.ast import ast_nodes, get_ast  # type: ignore[import-not-found]
from cosmic_ray.mutating import mutate_code  # type: ignore[import-not-found]

from scripts.mutants.modules import chosen_modules, source_path


def main() -> None:
    mutants = {
        module: list(mutants_of(Path(source_path(module)).read_text(encoding="utf-8")))
        for module in chosen_modules(sys.argv[1:])
    }
    json.dump(mutants, sys.stdout)


def mutants_of(source: str) -> Iterator[dict[str, str]]:
    """Yield each mutant of a module once: the changed lines before and after, and the new source.

    Mutants that differ only in the types or kinds of arguments are left out: mypy finds these.
    """
    seen = {meaning(source)}
    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(plugins.operator_names()):
        operator_class = plugins.get_operator(name)
        if operator_class.arguments():  # it needs a choice of names
            continue
        operator = operator_class()
        positions = [each for node in nodes for each in operator.mutation_positions(node)]
        for occurrence in range(len(positions)):
            changed = mutate_code(source, operator, occurrence)
            try:
                new_meaning = meaning(changed)
            except SyntaxError:
                continue
            if new_meaning not in seen:
                seen.add(new_meaning)
                before, after = changed_lines(source, changed)
                yield {"operator": name, "before": before, "after": after, "source": changed}


def meaning(source: str) -> str:
    """Return a text that two sources share if they behave the same for callers that mypy accepts.

    Annotations are left out, and whether an argument is passed by name or by position.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults = [*node.defaults, *filter(None, node.kw_defaults)]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def changed_lines(source: str, changed: str) -> tuple[str, str]:
    """Return the lines that differ, as they were and as they are."""
    old, new = source.splitlines(), changed.splitlines()
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            return (
                " ".join(line.strip() for line in old[i:j]).strip(),
                " ".join(line.strip() for line in new[k:m]).strip(),
            )
    raise ValueError("the sources are equal")


if __name__ == "__main__":
    main()

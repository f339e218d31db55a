"""The documents are complete: commands, flags, variables, files, and a test for each promise."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from onefs.cli import main
from onefs.config.settings import ENVIRONMENT_VARIABLES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COMMANDS = (DOCS / "COMMANDS.md").read_text("utf-8")
SEMANTICS = "".join(
    (DOCS / name).read_text("utf-8") for name in ("SEMANTICS.md", "ONE-SEMANTICS.md")
)


def commands(group: click.Group, name: str = "onefs") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for child in group.list_commands(context):
        command = group.get_command(context, child)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {child}")
        else:
            yield f"{name} {child}", command


ALL = dict(commands(main))


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_flag_is_documented(name: str) -> None:
    assert f"`{name}" in COMMANDS, f"docs/COMMANDS.md does not name {name}"
    # a section of its own, or that of its group
    headings = (f"`{name}", f"`{name.rpartition(' ')[0]} COMMAND`")
    section = next(
        part
        for part in re.split(r"^## ", COMMANDS, flags=re.MULTILINE)
        if any(heading in part[:80] for heading in headings)
    )
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for flag in (*parameter.opts, *parameter.secondary_opts):
                assert f"`{flag}" in section, f"docs/COMMANDS.md: {name} has no {flag}"


@pytest.mark.parametrize("variable", ENVIRONMENT_VARIABLES)
def test_every_variable_is_documented(variable: str) -> None:
    assert f"`{variable}`" in COMMANDS


def test_no_flag_is_documented_that_does_not_exist() -> None:
    flags = {
        flag
        for command in ALL.values()
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)", COMMANDS))
    assert named <= flags


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in ALL:
        assert f"`{name}" in readme


PROMISES = [
    line
    for line in SEMANTICS.splitlines()
    if re.match(r"(- |\| (?!-|what |state |listing |the server |row ))", line)
]


def test_there_are_promises() -> None:
    assert len(PROMISES) > 30


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_has_a_test_that_exists(promise: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", promise)
    assert named, f"no test is named for: {promise}"
    for path, function in named:
        module = ast.parse((ROOT / path).read_text("utf-8"))
        functions = {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"{path} has no {function}"


ROWS = [line for line in PROMISES if re.match(r"\| 1\.[1-5] \|", line)]


def test_every_row_of_the_old_one_has_a_test_that_says_whom_it_follows() -> None:
    """The table's third column is a word of the test's docstring."""
    assert len(ROWS) > 60
    for row in ROWS:
        who = row.split(" | ")[2]
        assert who in ("tutorial", "old code", "ours"), row
        ((path, function),) = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        module = ast.parse((ROOT / path).read_text("utf-8"))
        said = next(
            ast.get_docstring(node) or ast.get_docstring(module) or ""
            for node in ast.walk(module)
            if isinstance(node, ast.FunctionDef) and node.name == function
        )
        assert who in said.casefold(), f"{path}::{function} does not say {who!r}"


def test_links_between_documents_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_map_names_files_that_exist() -> None:
    for page in (DOCS / "ARCHITECTURE.md", *(DOCS / "decisions").glob("*.md")):
        for name in re.findall(r"`([\w/]+\.py|[\w/]+/)`", page.read_text("utf-8")):
            places = (ROOT / name, ROOT / "onefs" / name)
            assert any(place.exists() for place in places), f"{page.name} names {name}"


def test_each_folder_is_in_the_table_of_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = text.partition("## Where code goes")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)/`", table, flags=re.MULTILINE))
    assert named == {path.parent.name for path in (ROOT / "onefs").glob("*/__init__.py")}

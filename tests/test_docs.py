"""The documents are complete: commands, flags, variables, files. Promises: test_promises.py."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from onefs.cli import main
from onefs.config.settings import ENVIRONMENT_VARIABLES
from tests.documents import PAGES, inline_commands
from tests.markdown_pages import broken_links

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COMMANDS = (DOCS / "COMMANDS.md").read_text("utf-8")


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
#: the words after `onefs`
NAMES = main.list_commands(click.Context(main))


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
    flags = {flag for command in ALL.values() for flag in flags_of(command)}
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)", COMMANDS))
    assert named <= flags


def test_the_table_of_commands_names_every_command() -> None:
    table = COMMANDS[: COMMANDS.index("## ")]
    for name in ALL:
        assert re.search(rf"^\|.*`{name}\b.*\|", table, re.MULTILINE), f"the table has no {name}"


def flags_of(command: click.Command) -> set[str]:
    return {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_exist_and_have_the_flags(page: str) -> None:
    for text in inline_commands(PAGES[page]):
        name = next((each for each in ALL if f"{text} ".startswith(f"{each} ")), None)
        if name is None:  # a group of commands, or a flag of all commands
            assert text.split()[1] in {*NAMES, "--help", "--version"}, f"no `{text}`"
        else:
            given = set(re.findall(r"(?<= )--[a-z0-9-]+", text))
            assert given <= flags_of(ALL[name]) | {"--help"}, f"{name} has no flag of `{text}`"


def test_links_between_documents_lead_to_files_and_headings() -> None:
    for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")):
        assert broken_links(page) == [], page.name


DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))


def test_the_map_and_its_words_name_files_that_exist() -> None:
    for page in (DOCS / "ARCHITECTURE.md", DOCS / "GLOSSARY.md", *DECISIONS):
        for name in re.findall(r"`([\w/]+\.py|[\w/]+/)`", page.read_text("utf-8")):
            places = (ROOT / name, ROOT / "onefs" / name)
            assert any(place.exists() for place in places), f"{page.name} names {name}"


def test_each_folder_is_in_the_table_of_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = text.partition("## Where code goes")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)/`", table, flags=re.MULTILINE))
    assert named == {path.parent.name for path in (ROOT / "onefs").glob("*/__init__.py")}


def test_the_map_has_at_most_120_lines() -> None:
    assert len((DOCS / "ARCHITECTURE.md").read_text("utf-8").splitlines()) <= 120


@pytest.mark.parametrize("record", DECISIONS, ids=lambda record: record.stem)
def test_a_decision_has_three_parts_in_at_most_15_lines(record: Path) -> None:
    _, *paragraphs = record.read_text("utf-8").split("\n\n")
    labels = [text.split(": ")[0] for text in paragraphs]
    assert labels == ["**Context**", "**Decision**", "**Consequence**"]
    assert sum(len(textwrap.wrap(text, 100)) for text in paragraphs) <= 15


def test_the_index_of_decisions_has_each_record_with_its_title() -> None:
    index = (DOCS / "decisions" / "README.md").read_text("utf-8")
    titles = [(record.read_text("utf-8").splitlines()[0][2:], record.name) for record in DECISIONS]
    assert re.findall(r"^- \[(.+)\]\((.+)\)$", index, flags=re.MULTILINE) == titles


def test_decisions_are_numbered_one_after_another() -> None:
    for number, record in enumerate(DECISIONS, start=1):
        assert record.name.startswith(f"{number:04d}-")
        assert record.read_text("utf-8").startswith(f"# {number}. ")

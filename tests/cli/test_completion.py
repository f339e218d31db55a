"""Completion in real shells: the words that each shell offers for a typed beginning."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests.cli.terminal import Terminal, run
from tests.laboratories import account
from tests.required_programs import require_program
from tests.running import run as run_program

DAY = ["search", "--user", "olivier", "--date", "2018-08-24"]
#: typed text -> completed text. Only ``search`` begins with sea, and only one lab with ma.
TYPED = [
    ("onefs sea", "search"),
    ("onefs cache ver", "verify"),
    ("onefs list --dataset-t", "--dataset-types"),
    ("onefs search --lab ma", "mainenlab"),
    ("onefs search --qc p", "PASS"),
]


@pytest.fixture
def user(environ: dict[str, str], laboratory: Servers) -> dict[str, str]:
    """A user with an account, a lab in the catalogue, and onefs in the search path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    found = {**environ, **account(laboratory), "PATH": path}
    assert run(DAY, found).returncode == 0
    laboratory.clear_requests()
    return found


@pytest.mark.parametrize(
    ("shell", "package", "options", "prepare"),
    [
        ("bash", "bash", ["--norc", "--noprofile", "-i"], ""),
        ("zsh", "zsh", ["-f", "-i"], "autoload -U compinit && compinit -D; "),
    ],
)
def test_a_shell_completes(
    user: dict[str, str],
    laboratory: Servers,
    shell: str,
    package: str,
    options: list[str],
    prepare: str,
) -> None:
    """Type the line for the shell's settings file (docs/COMMANDS.md), then words and a tab."""
    command = [require_program(shell, package), *options]
    line = f'{prepare}eval "$(_ONEFS_COMPLETE={shell}_source onefs)"; echo rea""dy\n'
    with Terminal([], user, command=command) as terminal:
        terminal.type(line)
        terminal.expect("ready")
        for typed, becomes in TYPED:
            terminal.type(f"{typed}\t")
            terminal.expect(becomes)
            terminal.type("\x15")  # delete the line
    assert laboratory.requests == []


def test_fish_completes(user: dict[str, str], laboratory: Servers) -> None:
    """fish prints the words that it would offer."""
    fish = require_program("fish", "fish")
    script = run_program(["onefs"], environment={**user, "_ONEFS_COMPLETE": "fish_source"}).stdout
    asked = "".join(f"complete -C '{typed}'\n" for typed, _ in TYPED)
    found = run_program([fish, "--no-config"], given=script + asked, environment=user).stdout
    offered = [line.split("\t")[0] for line in found.splitlines()]
    assert offered == [becomes for _, becomes in TYPED]
    assert laboratory.requests == []


def test_nothing_is_offered_from_an_empty_catalogue(environ: dict[str, str], home: Path) -> None:
    """There is no error, and no catalogue is created."""
    asked = {"_ONEFS_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    for variables in ({}, {"ONEFS_URL": "http://127.0.0.1:1"}):
        done = run_program(
            ["onefs"],
            environment={
                **environ,
                **asked,
                **variables,
                "PATH": path,
                "COMP_WORDS": "onefs search --lab ",
            },
        )
        assert (done.stdout.strip(), done.stderr) == ("", "")
    assert list(home.rglob("catalogue.sqlite")) == []

"""Tests that run each block of code of the ONE tutorial, in order, in the embedded laboratory.

The code runs unchanged: ``onefs.compat`` has its imports, and variables have the address and
logins of the servers. The cache paths are ours, without UUIDs; everything else that the tutorial
prints must be printed, as text.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import pprint as python_pprint
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs import compat
from onefs.demo.servers import Servers
from onefs.one import ONE, OnefsWarning
from tests.one.conftest import EID, FLOWERS, set_home
from tests.one.tutorial_text import Block, blocks

BLOCKS = blocks()


class Prompt:
    """A Python prompt that runs blocks of code one after the other, in the same namespace."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}

    def run(self, block: Block) -> list[tuple[str, str]]:
        """What a block shows: a text for each statement that shows one, in the two ways in which
        the tutorial shows what an expression is (they are one for what is printed)."""
        shown = []
        for statement in ast.parse(block.code).body:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                value = self._do(statement)
            if value is not None:
                shown.append((repr(value), python_pprint.pformat(value)))
            elif output.getvalue():
                shown.append((output.getvalue().rstrip("\n"),) * 2)
        return shown

    def _do(self, statement: ast.stmt) -> Any:
        if isinstance(statement, ast.Expr):
            return eval(ast.unparse(statement.value), self.names)
        exec(ast.unparse(statement), self.names)
        return None


@pytest.fixture(scope="module")
def ran(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Prompt, list[list[tuple[str, str]]]]]:
    """Run all blocks. Return the prompt, and the output of each block."""
    login = servers.login
    prompt = Prompt()
    compat.install()
    with pytest.MonkeyPatch.context() as patch:
        set_home(tmp_path_factory.mktemp("tutorial"), patch)
        for name, value in (
            ("URL", servers.alyx_url),
            ("USERNAME", login.username),
            ("PASSWORD", login.password),
            ("DATA_USERNAME", login.data_username),
            ("DATA_PASSWORD", login.data_password),
            ("DATA_HOSTS", servers.data_url),
        ):
            patch.setenv(f"ONEFS_{name}", value)
        with pytest.warns(OnefsWarning, match="has no dataset of type 'thisDataset.IveJustMadeUp'"):
            shown = [prompt.run(block) for block in BLOCKS]
    yield prompt, shown
    prompt.names["one"].close()


Ran = tuple[Prompt, list[list[tuple[str, str]]]]


def test_the_whole_tutorial_was_found() -> None:
    assert len(BLOCKS) == 19
    text = "\n".join(block.code for block in BLOCKS)
    for call in (".search(", ".search_terms(", ".list(", ".load(", "ONE(", "pprint("):
        assert text.count(call) >= 2


@pytest.mark.parametrize("number", [n for n, block in enumerate(BLOCKS) if block.printed])
def test_the_tutorials_output_is_printed(ran: Ran, number: int) -> None:
    printed = BLOCKS[number].printed
    shown = ran[1][number]
    if "FlatIronCache" in printed:
        shown = [(_as_the_tutorial_has_paths(shown[0][0], printed),) * 2, *shown[1:]]
    joined = {"\n".join(texts[way] for texts in shown) for way in (0, 1)}
    assert printed in joined


def _as_the_tutorial_has_paths(shown: str, printed: str) -> str:
    """Return our list of paths in the tutorial's form, with the tutorial's folder and UUIDs."""
    theirs = re.findall(r"/home/\S+\.npy", printed)
    lines = []
    for path, their in zip(ast.literal_eval(shown), theirs, strict=True):
        assert Path(path).is_file()
        bare = re.sub(r"\.[0-9a-f-]{36}\.", ".", Path(their).name)
        assert Path(path).name == bare
        lines.append(f'    "{their}"')
    return "[\n" + ",\n".join(lines) + "\n]"


def test_the_tutorials_variables_have_their_values(ran: Ran) -> None:
    names = ran[0].names
    assert isinstance(names["one"], ONE)
    assert names["empty"] == []
    assert names["t"].ndim == names["cl"].ndim == 1
    assert names["wf"].ndim == 3
    assert len(names["wf"]) == len(names["pr"])
    assert names["ses_info"][0]["subject"] == "clns0730"
    assert [each["lab"] for each in names["session_details"]] == ["mainenlab", "zadorlab"]
    assert names["eid"] == [EID]


def test_the_tutorials_other_searches_find_sessions(ran: Ran) -> None:
    shown = ran[1]
    assert shown[13][0][0] == f'[\n    "{FLOWERS}"\n]'
    olivier = json.loads(shown[17][0][0])
    assert olivier[-2:] == [EID, FLOWERS]
    assert len(olivier) == 8


def test_the_tutorials_displayed_values_are_right(ran: Ran) -> None:
    shown = ran[1]
    assert len(shown[6][0][0].splitlines()) == 29
    assert EID in shown[7][0][0]
    assert [len(ast.literal_eval(texts[0])) > 3 for texts in shown[8]] == [True] * 4
    assert shown[14] == shown[4]
    assert "licks.times" in shown[11][0][0]

"""The example of CONTRIBUTING.md: a new command, its test and its section in the documents."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import running
from tests.running import Home

ROOT = Path(__file__).resolve().parents[2]
BLOCKS: list[tuple[str, str]] = re.findall(
    r"```(python|markdown)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL
)
(_, COMMAND), _ENTRY, (_, TEST), (_, SECTION) = BLOCKS
#: ``onefs`` with the command of the example
_ONEFS = """#!{python}
import sys
sys.path[:0] = [{folder!r}, {root!r}]
from onefs.cli import COMMANDS, main
COMMANDS["count"] = ("example_of_contributing:count", "Print a number.")
main()
"""


@pytest.fixture
def onefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make :class:`Home` run an ``onefs`` that has the example's command."""
    (tmp_path / "example_of_contributing.py").write_text(COMMAND)
    script = tmp_path / "onefs"
    script.write_text(_ONEFS.format(python=sys.executable, folder=str(tmp_path), root=str(ROOT)))
    script.chmod(0o755)
    monkeypatch.setattr(running, "ONEFS", script)


@pytest.mark.usefixtures("onefs")
def test_the_tests_of_the_example_pass(user: Home) -> None:
    names: dict[str, Any] = {}
    exec(TEST, names)
    tests: list[Callable[[Home], None]] = [
        function for name, function in names.items() if name.startswith("test_")
    ]
    assert len(tests) == 2
    for test in tests:
        test(user)


@pytest.mark.usefixtures("onefs")
def test_the_section_of_the_example_names_every_flag(user: Home) -> None:
    flags = set(re.findall(r"--[a-z-]+", user.run("count", "--help").stdout)) - {"--help"}
    assert len(flags) > 5
    assert flags <= set(re.findall(r"`(--[a-z-]+)", SECTION))

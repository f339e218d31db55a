"""A plugin of pytest that writes the names of the tests that passed in a whole run.

``scripts/test --all`` uses it (``-p tests.passed_tests --passed-tests FILE``). A test function is
in the list if at least one of its parameter sets passed, and the others passed or were skipped.
``tests/test_promises.py`` reads the list.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

import pytest

_WRITTEN_AFTER = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class PassedTests:
    """Collects the outcomes of tests, and writes the list when the run is complete."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._outcomes: defaultdict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of a test, or of its set-up or tear-down if that did not pass."""
        if report.when == "call" or not report.passed:
            self._outcomes[report.nodeid.partition("[")[0]].add(report.outcome)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the list, unless the run was interrupted."""
        if exitstatus in _WRITTEN_AFTER:
            self._target.write_text(_head(session.config.rootpath) + self._passed(), "utf-8")

    def _passed(self) -> str:
        return "".join(
            f"{name}\n"
            for name, outcomes in sorted(self._outcomes.items())
            if "passed" in outcomes and "failed" not in outcomes
        )


def _head(root: Path) -> str:
    """Return the first lines of the list: what it is, the commit, the date."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(
        command, cwd=root, stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    date = datetime.now(timezone.utc).date()
    return (
        "# tests that passed in the last scripts/test --all, which writes this file\n"
        f"# commit {commit.strip() or 'unknown'}, {date}\n"
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--passed-tests``."""
    parser.addoption("--passed-tests", metavar="FILE", help="write the tests that passed to FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Collect outcomes in the main process, which receives those of xdist's workers."""
    target = config.getoption("--passed-tests")
    if target and not hasattr(config, "workerinput"):
        config.pluginmanager.register(PassedTests(config.rootpath / target))

"""``scripts/full/matrix``: run the tests in each environment, in a clone made for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.matrix import results
from scripts.matrix.pythons import find_python
from scripts.matrix.results import Result
from tests.cleanup import sweep

ROOT = Path(__file__).resolve().parents[2]
#: seconds for all rows together
_ALL_SECONDS = 44 * 60
#: seconds in which an interrupted row cleans up after itself
_CLEANUP_SECONDS = 60

Command = list[str | Path]


@dataclass(frozen=True)
class Row:
    """One environment, and the tests that are run in it."""

    name: str
    tests: tuple[str, ...]
    #: a release of Python on this machine; empty for Debian 13, which has its own
    python: str = ""


_OF_MOUNTS = ("tests/mount", "tests/system")
ROWS = {
    row.name: row
    for row in (
        Row("python3.10", ("tests",), "3.10"),
        Row("python3.12", (*_OF_MOUNTS, "tests/lowlevel", "tests/cache"), "3.12"),
        Row("python3.13", ("tests",), "3.13"),
        Row("debian13", _OF_MOUNTS),
    )
}


def main(arguments: Sequence[str]) -> int:
    """Run the rows that are named, or all, and write the table.

    Returns 1 if a row was run and has not passed, 2 if a name is no row's.
    """
    names, tests = list(arguments), []
    if "--" in names:
        at = names.index("--")
        names, tests = names[:at], names[at + 1 :]
    if not ROWS.keys() >= set(names):
        print(f"usage: scripts/full/matrix [ROW...] [-- TEST...]\nrows: {' '.join(ROWS)}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if _git("status", "--porcelain", "--", ".", ":!docs/measured"):
        print("Only what is committed is tested: there are changes that are not.", flush=True)
    end = time.monotonic() + _ALL_SECONDS
    good = True
    for name in names or ROWS:
        result = run_row(ROWS[name], tests or ROWS[name].tests, end)
        print(result.line(), flush=True)
        good = good and result.outcome not in (results.FAILED, results.NOT_FINISHED)
        if not tests:
            results.save([result], ROOT / "docs/measured")
    return 0 if good else 1


def run_row(row: Row, tests: Sequence[str], end: float) -> Result:
    """Run one row, not longer than until ``end``. Only its log stays, in build/matrix/."""
    began = time.monotonic()
    result = Result(row.name, " ".join(tests), _git("rev-parse", "--short", "HEAD"))
    python = find_python(row.python) if row.python else Path(sys.executable)
    if python is None:
        return result
    if not row.python and os.geteuid() != 0:
        result.outcome = results.NEEDS_ROOT
        return result
    folder = ROOT / "build/matrix" / row.name
    log = folder.parent / f"{row.name}.log"
    _remove(folder)
    folder.mkdir(parents=True)
    print(f"== {row.name}: output in {log.relative_to(ROOT)}", flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="onefs-matrix-"))
    scratch.chmod(0o755)  # tests that become other users reach their folders, as in /tmp
    try:
        result.outcome = _run(_commands(row, python, folder, tests), log, scratch, end)
        result.read(folder)
    finally:
        sweep(scratch)
        _remove(scratch)
        _remove(folder)
    result.minutes = round((time.monotonic() - began) / 60, 1)
    return result


def _commands(row: Row, python: Path, folder: Path, tests: Sequence[str]) -> list[Command]:
    """Return the commands that make a clone in ``folder`` and run the tests there."""
    clone = folder / "clone"
    made: Command = ["git", "clone", "-q", ROOT, clone]
    if row.python:
        return [
            made,
            [python, "-m", "venv", clone / ".venv"],
            [clone / "scripts/matrix/run_row.sh", folder, *tests],
        ]
    # in a process namespace too: what runs in Debian's folder ends with its first process
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return [
        made,
        [ROOT / "scripts/install", "demo,plot,dev", "debootstrap"],
        [*unshare, clone / "scripts/matrix/debian.sh", python, folder, *tests],
    ]


def _run(commands: list[Command], log: Path, scratch: Path, end: float) -> str:
    """Run commands until one fails, or until ``end``, and return the outcome."""
    with log.open("w") as output:
        for command in commands:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "TMPDIR": str(scratch)},
                start_new_session=True,
            )
            try:
                if process.wait(max(0, end - time.monotonic())) != 0:
                    return results.FAILED
            except subprocess.TimeoutExpired:
                return results.NOT_FINISHED
            finally:
                _end(process)
    return results.PASSED


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and its children as Ctrl-C does, and kill those that do not end."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_CLEANUP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _remove(folder: Path) -> None:
    """Remove a folder, but nothing that is mounted below it."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", folder], check=False)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A copy of the tree in which mutants are tested, one after the other, each in a forked process."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.mutants.modules import MODULES, source_path

#: most bytes of memory, and of one file, of a process that tests a mutant
MAX_MEMORY_BYTES, MAX_FILE_BYTES = 8 << 30, 1 << 30


class Worker:
    """Tests mutants in a folder, which becomes a copy of the checkout's tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: the number of the mutant that is being tested; None if no test runs
        self.mutant: int | None = None
        self._pid = 0
        self._stop_at = 0.0
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
        for name in names.split("\0"):
            if name and os.path.isfile(name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(name, folder / name)

    def time_unchanged(self, module: str) -> float:
        """Return how many seconds the tests of the unchanged module take. They must pass.

        Later runs find the compiled files of this run, except those of the module.
        """
        shutil.copy2(source_path(module), self.folder / source_path(module))
        began = time.monotonic()
        self._start_tests(module, write_compiled=True)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        finally:
            self.stop()
        if code != 0:
            output = (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"the tests of {module} fail without any mutant:\n{output}")
        return time.monotonic() - began

    def start(self, module: str, mutant: int, source: str, timeout: float) -> None:
        """Start to test ``source``, which is the mutant with the number ``mutant`` of a module."""
        path = self.folder / source_path(module)
        # a compiled file of an earlier mutant of the same second and length would be used
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        path.write_text(source, encoding="utf-8")
        self.mutant = mutant
        self._stop_at = time.monotonic() + timeout
        self._start_tests(module, write_compiled=False)

    def outcome(self) -> str:
        """Return what became of the mutant: killed, survived or timed out; '' if tests still run.

        The exit code of a killed mutant may be that of a usage error: pytest returns it if a
        conftest cannot be imported.
        """
        pid = self._pid
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done and time.monotonic() < self._stop_at:
            return ""
        self.stop()
        if not done:
            os.waitpid(pid, 0)
            return "timed out"
        code = os.waitstatus_to_exitcode(status)
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise SystemExit("a mutant was tested with no test")
        return "survived" if code == 0 else "killed"

    def stop(self) -> None:
        """Stop the tests, and the programs that the tests have started."""
        pid, self._pid, self.mutant = self._pid, 0, None
        if pid:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _start_tests(self, module: str, *, write_compiled: bool) -> None:
        self._pid = os.fork()
        if self._pid:
            return
        code = 1
        try:
            code = self._run_tests(module, write_compiled=write_compiled)
        finally:
            os._exit(code)

    def _run_tests(self, module: str, *, write_compiled: bool) -> int:
        """Run the tests of a module until one fails. Return pytest's exit code."""
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(self.folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
        os.chdir(self.folder)
        sys.dont_write_bytecode = not write_compiled
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ["PYTHONPATH"] = sys.path[0] = str(self.folder)
        temporary = self.folder / "tmp"
        with suppress(FileNotFoundError):
            shutil.rmtree(temporary)
        options = ["-x", "-q", "--no-header", "-p", "no:xdist", f"--basetemp={temporary}"]
        return int(pytest.main([*options, MODULES[module]]))

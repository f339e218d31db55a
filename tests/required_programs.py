"""Programs of the machine that some tests need: GNU Octave, R, a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

#: set by ``scripts/test --all``, which installs them: then one that is absent is a failure
_REQUIRED = "ONEFS_REQUIRE_PROGRAMS"


def require_program(name: str, package: str) -> str:
    """Return the path of a program; without it the test is skipped, or fails."""
    found = shutil.which(name)
    if found is None:
        skip_or_fail(f"{name} is not installed (Debian's package {package})")
    return found


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test that needs a missing program; fail it if the program must be installed."""
    if os.environ.get(_REQUIRED) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def octave() -> str:
    """Return the command of GNU Octave without windows."""
    return require_program("octave-cli", "octave")


def rscript() -> str:
    """Return the command of R for scripts."""
    return require_program("Rscript", "r-base-core")


def compile_for_32_bits(source: Path, target: Path) -> Path:
    """Compile a C program for 32 bits; skip or fail the test if the compiler cannot."""
    compiler = require_program("gcc", "gcc-multilib")
    command: list[str | Path] = [compiler, "-m32", "-o", target, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        skip_or_fail("gcc compiles nothing for 32 bits (Debian's package gcc-multilib)")
    return target

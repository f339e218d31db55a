"""Releases of Python that this machine has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

#: prints the release of the Python that runs it, if it can make a virtual environment
_PROBE = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"


def find_python(release: str) -> Path | None:
    """Return a Python of a release such as '3.10': from PATH, of pyenv, or of uv; else None."""
    return next((path for path in _candidates(release) if _is_release(path, release)), None)


def _candidates(release: str) -> Iterator[Path]:
    name = f"python{release}"
    if on_path := shutil.which(name):
        yield Path(on_path)
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python")
    yield from _newest_first(pyenv.glob(f"{release}.*/bin/{name}"))
    yield from _newest_first(uv.glob(f"cpython-{release}.*/bin/{name}"))


def _newest_first(paths: Iterator[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))])[::-1]


def _is_release(path: Path, release: str) -> bool:
    try:
        done = subprocess.run(
            [path, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == release

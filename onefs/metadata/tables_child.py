"""Building the tables' file in a process of its own, which takes pyarrow's memory with it.

Run as ``python -m onefs.metadata.tables_child``: what to do comes as JSON on standard input, what
became of it goes as JSON to standard output, log lines go to standard error.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from onefs import errors
from onefs.errors import CacheError, OnefsError
from onefs.metadata.tables_build import Built, build


def build_apart(
    sessions: Path,
    datasets: Path,
    target: Path,
    facts: dict[str, str],
    *,
    origin: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """As :func:`onefs.metadata.tables_build.build`, but for ``progress``, which is not told."""
    wish = {
        "sessions": str(sessions),
        "datasets": str(datasets),
        "target": str(target),
        "facts": facts,
        "origin": origin,
    }
    done = subprocess.run(
        [sys.executable, "-m", "onefs.metadata.tables_child"],
        input=json.dumps(wish).encode(),
        stdout=subprocess.PIPE,
        check=False,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise CacheError(
            f"loading {datasets} ended unexpectedly (exit code {done.returncode})"
        ) from None
    if "error" in found:
        raise _error(found["error"], found["message"])
    return Built(**found)


def main() -> None:
    """The child."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    wish = json.loads(sys.stdin.read())
    sessions, datasets, target = (Path(wish[name]) for name in ("sessions", "datasets", "target"))
    try:
        found = asdict(build(sessions, datasets, target, wish["facts"], origin=wish["origin"]))
    except OnefsError as error:
        found = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(found))


def _error(name: str, message: str) -> OnefsError:
    kind = getattr(errors, name, CacheError)
    return kind(message) if issubclass(kind, OnefsError) else CacheError(message)


if __name__ == "__main__":
    main()

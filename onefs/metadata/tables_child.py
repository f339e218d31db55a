"""Reading and writing Parquet in a process of its own, which takes pyarrow's memory with it.

Run by ``onefs.children``: what to do comes as JSON on standard input, what
became of it goes as JSON to standard output, log lines go to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onefs import errors
from onefs.children import CHILD_FOLDER, child_command, child_environment
from onefs.errors import CacheError, OnefsError
from onefs.metadata.tables_build import Built, build
from onefs.metadata.tables_export import Exported, export


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
        "sessions": os.path.abspath(sessions),
        "datasets": os.path.abspath(datasets),
        "target": os.path.abspath(target),
        "facts": facts,
        "origin": origin,
    }
    return Built(**_run({"build": wish}, datasets))


def export_apart(source: Path, folder: Path) -> Exported:
    """As :func:`onefs.metadata.tables_export.export`."""
    wish = {"source": os.path.abspath(source), "folder": os.path.abspath(folder)}
    return Exported(**_run({"export": wish}, source))


def _run(wish: dict[str, Any], what: Path) -> dict[str, Any]:
    """What the child answers. Raises what it raised."""
    done = subprocess.run(
        child_command("onefs.metadata.tables_child"),
        input=json.dumps(wish).encode(),
        stdout=subprocess.PIPE,
        cwd=CHILD_FOLDER,
        env=child_environment(),
        start_new_session=True,  # Ctrl-C is ours: it ends this call, which ends the child
        check=False,
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise CacheError(
            f"loading {what} ended unexpectedly (exit code {done.returncode})"
        ) from None
    if "error" in found:
        raise _error(found["error"], found["message"])
    return found


def main() -> None:
    """The child."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    wish = json.loads(sys.stdin.read())
    try:
        found = asdict(_build(wish["build"]) if "build" in wish else _export(wish["export"]))
    except OnefsError as error:
        found = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(found))


def _build(wish: dict[str, Any]) -> Built:
    sessions, datasets, target = (Path(wish[name]) for name in ("sessions", "datasets", "target"))
    return build(sessions, datasets, target, wish["facts"], origin=wish["origin"])


def _export(wish: dict[str, str]) -> Exported:
    return export(Path(wish["source"]), Path(wish["folder"]))


def _error(name: str, message: str) -> OnefsError:
    kind = getattr(errors, name, CacheError)
    return kind(message) if issubclass(kind, OnefsError) else CacheError(message)


if __name__ == "__main__":
    main()

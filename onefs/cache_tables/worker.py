"""Reading and writing Parquet in a process of its own, which takes pyarrow's memory with it.

Run by ``onefs.lowlevel.child_process``: what to do comes as JSON on standard input; its progress,
log lines and what became of it go as lines of JSON to standard output. Its memory and its time are
bounded: tables may be damaged, or made to do harm.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from onefs import errors
from onefs.cache_tables.build import BuildResult, build
from onefs.cache_tables.export import ExportResult, export
from onefs.errors import CacheError, OnefsError, reason_of
from onefs.lowlevel.child_process import CHILD_WORKING_DIRECTORY, child_command, child_environment
from onefs.lowlevel.files import wait_readable

#: seconds without any progress after which the child is given up
PROGRESS_TIMEOUT_SECONDS = 300.0
#: seconds after which it ends in any case
MAX_RUNTIME_SECONDS = 3600
#: seconds in which it exits after its last line
_EXIT_TIMEOUT_SECONDS = 10.0
#: bytes of memory that it may have: loading 500,000 sessions takes some 400 MB
MAX_MEMORY_BYTES = 2 << 30


def _ignore_progress(done: int, total: int) -> None:
    """Progress that is shown nowhere."""


def build_in_child(
    sessions: Path,
    datasets: Path,
    target: Path,
    facts: dict[str, str],
    *,
    origin: str = "",
    progress: Callable[[int, int], None] = _ignore_progress,
) -> BuildResult:
    """As :func:`onefs.cache_tables.build.build`."""
    wish = {
        "sessions": os.path.abspath(sessions),
        "datasets": os.path.abspath(datasets),
        "target": os.path.abspath(target),
        "facts": facts,
        "origin": origin,
    }
    return BuildResult(**_run_child({"build": wish}, datasets, progress))


def export_in_child(source: Path, folder: Path) -> ExportResult:
    """As :func:`onefs.cache_tables.export.export`."""
    wish = {"source": os.path.abspath(source), "folder": os.path.abspath(folder)}
    return ExportResult(**_run_child({"export": wish}, source))


def _run_child(
    wish: dict[str, Any], what: Path, progress: Callable[[int, int], None] = _ignore_progress
) -> dict[str, Any]:
    """What the child answers. Raises what it raised, and CacheError when it ends without an answer
    or does not say anything for PROGRESS_TIMEOUT_SECONDS."""
    with subprocess.Popen(
        child_command("onefs.cache_tables.worker"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHILD_WORKING_DIRECTORY,
        # memory that pyarrow's own allocators reserve would count as used
        env={**child_environment(), "ARROW_DEFAULT_MEMORY_POOL": "system"},
        start_new_session=True,  # Ctrl-C is ours: it ends this call, which ends the child
    ) as child:
        try:
            return _read_answer(child, wish, what, progress)
        finally:
            child.kill()  # it has ended, or is given up


def _read_answer(
    child: subprocess.Popen[bytes],
    wish: dict[str, Any],
    what: Path,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):  # it has died: its answer, which is none, tells
        child.stdin.write(json.dumps(wish).encode())
        child.stdin.close()
    for line in _read_lines(child.stdout, what):
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            break
        if "done" in found:
            progress(found["done"], found["total"])
        elif "log" in found:
            logging.getLogger(found["name"]).log(found["log"], "%s", found["line"])
        elif "error" in found:
            raise _error_of_child(found["error"], found["message"])
        else:
            return found
    with suppress(subprocess.TimeoutExpired):
        child.wait(_EXIT_TIMEOUT_SECONDS)
    raise CacheError(f"loading {what} ended unexpectedly (exit code {child.returncode})")


def _read_lines(pipe: IO[bytes], what: Path) -> Iterator[bytes]:
    """What the child writes, line by line. Raises CacheError when it is silent for too long."""
    waiting = b""
    while True:
        if not wait_readable(pipe, PROGRESS_TIMEOUT_SECONDS):
            raise CacheError(
                f"loading {what} was given up: no progress for {PROGRESS_TIMEOUT_SECONDS:g} s"
            )
        piece = os.read(pipe.fileno(), 1 << 16)
        if not piece:
            return
        *lines, waiting = (waiting + piece).split(b"\n")
        yield from lines


def main() -> None:
    """The child."""
    logging.basicConfig(level=logging.INFO, handlers=[_PipeLogHandler()])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to report
    signal.alarm(MAX_RUNTIME_SECONDS)  # also when the parent has died meanwhile
    wish = json.loads(sys.stdin.read())
    try:
        _limit_memory()
        found = asdict(_build(wish["build"]) if "build" in wish else _export(wish["export"]))
    except OnefsError as error:
        found = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        found = {"error": "UsageError", "message": f"{_input_path(wish)} needs too much memory"}
    except Exception as error:  # pyarrow raises more kinds for damaged files than it documents
        reason = f"{type(error).__name__}: {reason_of(error)}"[:200]
        found = {"error": "UsageError", "message": f"{_input_path(wish)} cannot be used: {reason}"}
    _write_message(found)


def _limit_memory() -> None:
    """Bound this process's memory to MOST_MEMORY bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _input_path(wish: dict[str, Any]) -> str:
    """What the child works on, for a message."""
    return str(wish["build"]["datasets"] if "build" in wish else wish["export"]["source"])


class _PipeLogHandler(logging.Handler):
    """Sends log lines to the parent, which logs them in its own way."""

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        _write_message({"log": record.levelno, "name": record.name, "line": record.getMessage()})


def _write_message(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def _build(wish: dict[str, Any]) -> BuildResult:
    sessions, datasets, target = (Path(wish[name]) for name in ("sessions", "datasets", "target"))
    return build(
        sessions,
        datasets,
        target,
        wish["facts"],
        origin=wish["origin"],
        progress=lambda done, total: _write_message({"done": done, "total": total}),
    )


def _export(wish: dict[str, str]) -> ExportResult:
    return export(Path(wish["source"]), Path(wish["folder"]))


def _error_of_child(name: str, message: str) -> OnefsError:
    kind = getattr(errors, name, CacheError)
    return kind(message) if issubclass(kind, OnefsError) else CacheError(message)


if __name__ == "__main__":
    main()

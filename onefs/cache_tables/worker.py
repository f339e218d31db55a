"""Read and write Parquet files in a child process.

The memory that pyarrow uses is freed when the child process ends. ``onefs.lowlevel.child_process``
starts the child. The child reads its task as JSON from standard input. The child writes progress,
log lines and the result to standard output, as lines of JSON. The child's memory and time are
limited, because tables may be damaged or malicious.
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
from onefs.cache_tables.parquet_export import ExportResult, export
from onefs.errors import CacheError, OnefsError, reason_of
from onefs.lowlevel.child_process import child_environment, start_child
from onefs.lowlevel.files import wait_readable

#: seconds without any output from the child after which the child is killed
PROGRESS_TIMEOUT_SECONDS = 300.0
#: seconds after which a signal ends the child, even if it makes progress
MAX_RUNTIME_SECONDS = 3600
#: longest time in seconds to wait for the child's exit if it ended its output without a result
_EXIT_TIMEOUT_SECONDS = 10.0
#: largest memory of the child in bytes. Loading 500,000 sessions needs about 400 MB.
MAX_MEMORY_BYTES = 2 << 30


def build_in_child(
    sessions: Path,
    datasets: Path,
    target: Path,
    facts: dict[str, str],
    *,
    origin: str = "",
    sessions_only: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildResult:
    """Run :func:`onefs.cache_tables.build.build` in a child process.

    The parameters, the result and the errors are those of ``build``. Also raises CacheError if the
    child fails, and UsageError if the tables need too much memory.
    """
    paths = {"sessions": sessions, "datasets": datasets, "target": target}
    options = {"facts": facts, "origin": origin, "sessions_only": sessions_only}
    return BuildResult(**_run_child("build", datasets, paths, options, progress))


def export_in_child(source: Path, folder: Path) -> ExportResult:
    """Run :func:`onefs.cache_tables.parquet_export.export` in a child process.

    The result and the errors are those of ``export``. Also raises CacheError if the child fails.
    Any other exception in the child becomes a UsageError.
    """
    paths = {"source": source, "folder": folder}
    return ExportResult(**_run_child("export", source, paths, {}, lambda done, total: None))


def _run_child(
    name: str,
    input_path: Path,
    paths: dict[str, Path],
    options: dict[str, Any],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Run a task in a child process. Return the task's result as a dictionary.

    Raises the error that the child reports. Raises CacheError if the child ends or hangs without a
    result.
    """
    task = {
        "name": name,
        "input": str(input_path),
        "paths": {key: os.path.abspath(path) for key, path in paths.items()},
        "options": options,
    }
    with start_child(
        "onefs.cache_tables.worker",
        # use the system's allocator, because memory that pyarrow's own allocators reserve would
        # count as used memory
        environment={**child_environment(), "ARROW_DEFAULT_MEMORY_POOL": "system"},
        stdout=subprocess.PIPE,
        start_new_session=True,  # so that Ctrl-C ends only this process, which kills the child
    ) as child:
        try:
            return _read_result(child, task, input_path, progress)
        finally:
            child.kill()


def _read_result(
    child: subprocess.Popen[bytes],
    task: dict[str, Any],
    input_path: Path,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):  # the child has died; the missing result is reported below
        child.stdin.write(json.dumps(task).encode())
        child.stdin.close()
    for line in _read_lines(child.stdout, input_path):
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            break
        if "done" in message:
            progress(message["done"], message["total"])
        elif "log" in message:
            logging.getLogger(message["name"]).log(message["log"], "%s", message["line"])
        elif "error" in message:
            raise _error_of_child(message["error"], message["message"])
        else:
            return message
    with suppress(subprocess.TimeoutExpired):
        child.wait(_EXIT_TIMEOUT_SECONDS)
    raise CacheError(
        f"the loading of the cache tables {input_path} ended unexpectedly (exit code "
        f"{child.returncode})"
    )


def _read_lines(pipe: IO[bytes], input_path: Path) -> Iterator[bytes]:
    """Yield the lines that the child writes.

    Raises CacheError if the child writes nothing for PROGRESS_TIMEOUT_SECONDS.
    """
    rest = b""
    while True:
        if not wait_readable(pipe, PROGRESS_TIMEOUT_SECONDS):
            raise CacheError(
                f"the loading of the cache tables {input_path} was stopped: no progress for "
                f"{PROGRESS_TIMEOUT_SECONDS:g} s"
            )
        chunk = os.read(pipe.fileno(), 1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _error_of_child(name: str, message: str) -> OnefsError:
    kind = getattr(errors, name, CacheError)
    return kind(message) if issubclass(kind, OnefsError) else CacheError(message)


# -- in the child


def main() -> None:
    """Read a task from standard input, run it, and write the task's result to standard output."""
    logging.basicConfig(level=logging.INFO, handlers=[_PipeLogHandler()])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent handles Ctrl-C
    signal.alarm(MAX_RUNTIME_SECONDS)  # ends this process even if the parent has died
    task = json.loads(sys.stdin.read())
    try:
        _limit_memory()
        result = asdict(_run_task(task))
    except OnefsError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        message = f"the cache tables {task['input']} need too much memory"
        result = {"error": "UsageError", "message": message}
    except Exception as error:  # pyarrow raises undocumented exceptions for damaged files
        reason = f"{type(error).__name__}: {reason_of(error)}"[:200]
        message = f"the cache tables {task['input']} cannot be used: {reason}"
        result = {"error": "UsageError", "message": message}
    _write_message(result)


def _run_task(task: dict[str, Any]) -> BuildResult | ExportResult:
    paths: dict[str, Any] = {key: Path(path) for key, path in task["paths"].items()}
    if task["name"] == "export":
        return export(**paths)
    return build(
        **paths,
        **task["options"],
        progress=lambda done, total: _write_message({"done": done, "total": total}),
    )


def _limit_memory() -> None:
    """Limit the memory of this process to MAX_MEMORY_BYTES."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


class _PipeLogHandler(logging.Handler):
    """Send log records to the parent process, so that the parent logs them in its own format."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send one log record to the parent process. See :class:`logging.Handler`."""
        _write_message({"log": record.levelno, "name": record.name, "line": record.getMessage()})


def _write_message(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()

"""``python -m onefs.demo``: the laboratory as a process, started by ``onefs mount --demo``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from onefs.demo import missing_library
from onefs.errors import OnefsError, UsageError


def main(arguments: list[str] | None = None) -> int:
    """Serve the laboratory until it is stopped, and return the exit code of the process.

    The code is 0 after a normal stop, 1 after an error, and 2 for wrong options.
    """
    parser = argparse.ArgumentParser(prog="python -m onefs.demo", description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--datasets", type=int)
    parser.add_argument("--rate", type=int)
    parser.add_argument("--latency", type=float, default=0, dest="latency_ms")
    parser.add_argument("--access-log", type=Path)
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--as-public", action="store_true")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = vars(parser.parse_args(arguments))
    try:
        _serve(options)
    except OnefsError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _serve(options: dict[str, object]) -> None:
    try:
        from onefs.demo.servers import ServeOptions, run
    except ModuleNotFoundError as error:
        raise missing_library(error) from error
    run(ServeOptions(**options))  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())

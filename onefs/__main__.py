"""The command ``onefs``; ``python -m onefs`` is the same."""

import sys


def main() -> None:
    """Run the command line.

    Ctrl-C ends the command with exit code 130 and without a traceback, also while the modules are
    still loading.
    """
    try:
        from onefs.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run(prog_name="onefs")


if __name__ == "__main__":
    main()

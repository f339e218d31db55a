"""The command ``onefs``; ``python -m onefs`` is the same."""

import atexit
import gc
import sys

#: number of objects created after which Python searches for garbage. Modules that are being loaded
#: have none, and with Python's own number (700 to 2,000) a small command spends a tenth of its time
#: on searches. A small command creates at most 40,000 objects
_OBJECTS_BEFORE_GARBAGE_COLLECTION = 50_000


def main() -> None:
    """Run the command line.

    Ctrl-C ends the command with exit code 130 and without a traceback, also while the modules are
    still loading.
    """
    gc.set_threshold(_OBJECTS_BEFORE_GARBAGE_COLLECTION)
    # registered first, so it is called last: Python then searches none of the remaining objects for
    # garbage when it ends, which would take another tenth of the time
    atexit.register(gc.freeze)
    try:
        from onefs.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run(prog_name="onefs")


if __name__ == "__main__":
    main()

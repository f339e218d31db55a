"""A program that calls a method of one ``ONE`` for each line of input, for ``test_interrupts``.

A line is ``[method, arguments, keywords]``. The program answers ``done`` or ``interrupted``. The
first line has the arguments of ``ONE``.
"""

from __future__ import annotations

import json
import sys
import warnings

from onefs.one import ONE


def main() -> None:
    warnings.simplefilter("ignore")
    one = ONE(**json.loads(sys.stdin.readline()))
    say("ready")
    for line in iter(sys.stdin.readline, ""):
        method, arguments, keywords = json.loads(line)
        say("begun")
        try:
            getattr(one, method)(*arguments, **keywords)
        except KeyboardInterrupt:
            say("interrupted")
        else:
            say("done")


def say(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    main()

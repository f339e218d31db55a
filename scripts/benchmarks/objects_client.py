"""A program that loads objects with one of the two classes ``ONE``: a step for each line of stdin.

Usage: ``objects_client.py ONE-api|onefs``. A line is JSON: a list of objects, each with an eid, a
name and a collection. For each line, the seconds that it took to load them are printed, and the
number of their arrays. The first line also pays for the imports and the client. Without a line, the
program ends.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any


def open_client(name: str) -> Any:
    """The client of a user who has set it up."""
    if name == "onefs":
        from onefs import ONE

        return ONE()
    from one.api import ONE as Theirs

    return Theirs(silent=True)


def main() -> None:
    """Load what stdin asks for."""
    warnings.simplefilter("ignore")
    name, client = sys.argv[1], None
    for line in sys.stdin:
        began = time.perf_counter()
        client = client or open_client(name)
        loaded = [
            client.load_object(eid, wanted, collection=collection)
            for eid, wanted, collection in json.loads(line)
        ]
        seconds = time.perf_counter() - began
        arrays = sum(map(len, loaded))
        print(json.dumps({"seconds": seconds, "arrays": arrays}), flush=True)


if __name__ == "__main__":
    main()

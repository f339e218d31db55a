"""Searches of ONE-api, of onefs, and ``ls``, over one embedded server."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.benchmarks import measuring


def searches(
    ready: dict[str, str], folder: Path, place: Path, lab: str, repeats: int
) -> dict[str, dict[str, Any]]:
    """Seconds of each search and client, the first time and the median of all.

    Clients are open already; ONE-api is left out where it is not installed, as outside of a
    development environment.
    """
    subject, day = f"{lab}_000", min((place / lab / f"{lab}_000").iterdir()).name
    terms: dict[str, dict[str, Any]] = {
        "of a subject": {"subject": subject},
        "of a lab": {"lab": lab},
        "of a day": {"date_range": [day, day]},
        "of a subject's datasets": {"subject": subject, "dataset_types": ["spikes.times"]},
    }
    clients = {"onefs": _ours(ready, folder), "ONE-api": _theirs(ready, folder)}
    found: dict[str, dict[str, Any]] = {}
    for name, wanted in terms.items():
        counts = set()
        for client, search in clients.items():
            if search is None:
                continue
            times = []
            for _ in range(repeats):
                began = time.perf_counter()
                counts.add(search(wanted))
                times.append(time.perf_counter() - began)
            row = found.setdefault(name, {})
            row[f"{client}, first"] = times[0]
            row[f"{client}, again"] = statistics.median(times)
        found[name]["found"] = " or ".join(map(str, sorted(counts)))
    found["of a subject"]["ls"] = measuring.seconds_of(["ls", place / lab / subject])
    return found


def _ours(ready: dict[str, str], folder: Path) -> Callable[[dict[str, Any]], int]:
    from onefs import ONE

    one = ONE(
        base_url=ready["alyx_url"],
        username=ready["username"],
        password=ready["password"],
        cache_dir=folder / "onefs-one",
        silent=True,
    )
    return lambda terms: len(one.search(**terms, limit=None))


def _theirs(ready: dict[str, str], folder: Path) -> Callable[[dict[str, Any]], int] | None:
    try:
        from one.api import ONE
    except ImportError:
        return None
    one: Any = ONE(
        base_url=ready["alyx_url"],
        username=ready["username"],
        password=ready["password"],
        cache_dir=folder / "one-api",
        cache_rest=None,
        silent=True,
        mode="remote",
    )
    return lambda terms: len(list(one.search(**terms, query_type="remote")))


def start_up() -> dict[str, float]:
    """Seconds to import each client in a fresh interpreter."""
    found = {}
    for name, code in {
        "onefs": "from onefs import ONE",
        "ONE-api": "from one.api import ONE",
    }.items():
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        if done.returncode == 0:
            found[name] = time.perf_counter() - began
    return found

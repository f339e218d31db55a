"""What was measured: values by case, contender and repetition, and their ratios to a baseline."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scripts.benchmarks.machine import busy_seconds, measured_with
from scripts.benchmarks.processes import BenchmarkFailed

#: repetitions that are made however long they take
LEAST_REPETITIONS = 3
#: units of which less is faster
TIMES = ("s", "us")
#: the folder that a run has made for itself, in what a program complains of
_WORK = re.compile(r"/[^ ']*/onefs-bench-[^/ ']+/")


def number(value: float) -> str:
    """As many digits as mean something."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the lowest and the highest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        median, low, high = map(number, (self.median, self.low, self.high))
        return median if low == high else f"{median} ({low} to {high})"

    def to_json(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 4) for name in ("median", "low", "high")}


@dataclass
class Case:
    """One question: the same job, done by each contender in turn, some times."""

    key: str
    title: str
    #: ``s``, ``us`` (a file), ``MB``, ``times`` or ``requests``
    unit: str
    #: the contender whose values the others' are compared with; '' for none
    baseline: str = ""
    #: the job's size in bytes, 0 where a rate would say nothing
    size: int = 0
    #: after so many seconds no further repetition is begun
    seconds: float = math.inf
    values: dict[str, list[float]] = field(default_factory=dict)
    #: seconds of processor time that the contender's own process took for it
    cpu: dict[str, list[float]] = field(default_factory=dict)
    #: the same of the whole machine, the readers and the server included
    busy: dict[str, list[float]] = field(default_factory=dict)
    #: why a contender could not do it
    failures: dict[str, str] = field(default_factory=dict)
    #: load average of the machine before each repetition
    loads: list[float] = field(default_factory=list)
    #: when it was measured, and with which onefs
    when: str = ""

    @classmethod
    def from_json(cls, key: str, case: Mapping[str, Any]) -> Case:
        """What :meth:`to_json` gave. Raises KeyError for what an older benchmark has written."""
        named = {name: case[name] for name in ("title", "unit", "baseline", "size", "when")}
        found = cls(key, **named, failures=case["failures"], loads=case["loads"])
        for contender, row in case["contenders"].items():
            found.values[contender] = row["values"]
            for name, lists in (("cpu_values", found.cpu), ("machine_cpu_values", found.busy)):
                if name in row:
                    lists[contender] = row[name]
        return found

    def add(self, contender: str, value: float) -> None:
        self.values.setdefault(contender, []).append(value)

    def spent(self, contender: str, seconds: float) -> None:
        """Processor time of one run."""
        self.cpu.setdefault(contender, []).append(seconds)

    def spread(self, contender: str) -> Spread:
        """The values of a contender."""
        return Spread.of(self.values[contender])

    def ratio(self, contender: str, baseline: str = "") -> Spread:
        """Its value divided by the baseline's, pair by pair."""
        pairs = zip(self.values[contender], self.values[baseline or self.baseline], strict=False)
        return Spread.of([mine / other for mine, other in pairs])

    def speed(self, contender: str, baseline: str = "") -> Spread:
        """How many times as fast as the baseline, pair by pair."""
        pairs = zip(self.values[contender], self.values[baseline or self.baseline], strict=False)
        return Spread.of([other / mine for mine, other in pairs])

    def measure(
        self,
        runs: Mapping[str, Callable[[int], float]],
        repetitions: int,
        rare: Mapping[str, Callable[[int], float]] | None = None,
        few: int = 1,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Each run once in every repetition, another one first each time.

        Those of ``rare`` take part in the first ``few`` repetitions only. ``before`` prepares the
        machine for a run. There are fewer repetitions when the case's time is over.
        """
        end = time.monotonic() + self.seconds
        for number in range(repetitions):
            if number >= LEAST_REPETITIONS and time.monotonic() > end:
                break
            self.loads.append(os.getloadavg()[0])
            now = {**runs, **(rare or {})} if number < few else runs
            names = list(now)
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                before()
                self.attempt(name, partial(now[name], number))

    def attempt(self, contender: str, run: Callable[[], float]) -> None:
        """One run; a contender that fails once takes no further part. Ours must not fail."""
        if contender in self.failures:
            return
        began = busy_seconds()
        try:
            self.add(contender, run())
            self.busy.setdefault(contender, []).append(busy_seconds() - began)
        except (BenchmarkFailed, OSError) as error:
            if contender.startswith("onefs"):
                raise
            self.failures[contender] = _WORK.sub("", str(error).splitlines()[-1])

    def to_json(self) -> dict[str, Any]:
        contenders = {}
        for name, values in self.values.items():
            row: dict[str, Any] = {
                "values": [round(value, 5) for value in values],
                **self.spread(name).to_json(),
            }
            if self.baseline and name != self.baseline and self.unit in TIMES:
                row["speed"] = self.speed(name).to_json()
            if name in self.cpu:
                row["cpu_seconds"] = Spread.of(self.cpu[name]).to_json()
                row["cpu_values"] = self.cpu[name]
            if name in self.busy:
                row["machine_cpu_seconds"] = Spread.of(self.busy[name]).to_json()
                row["machine_cpu_values"] = self.busy[name]
            contenders[name] = row
        return {
            "title": self.title,
            "unit": self.unit,
            "baseline": self.baseline,
            "size": self.size,
            "when": self.when,
            "loads": [round(each, 2) for each in self.loads],
            "contenders": contenders,
            "failures": self.failures,
        }


class Results:
    """All cases of one run, in the order in which they were begun."""

    def __init__(self, seconds_a_case: float = math.inf) -> None:
        self.cases: dict[str, Case] = {}
        self._seconds = seconds_a_case
        self._when = measured_with()

    def case(self, key: str, title: str, unit: str, baseline: str = "", size: int = 0) -> Case:
        """A new case."""
        made = Case(key, title, unit, baseline, size, self._seconds, when=self._when)
        self.cases[key] = made
        return made

    def keep(self, path: Path) -> None:
        """Take the cases of an earlier run from its file, if there are any."""
        try:
            cases = json.loads(path.read_text("utf-8"))["cases"]
            self.cases |= {key: Case.from_json(key, case) for key, case in cases.items()}
        except (OSError, ValueError, KeyError) as error:
            print(f"{path.name} is begun anew: {error!r}", file=sys.stderr)


def write_page(name: str, found: Mapping[str, Any], lines: Sequence[str], folder: Path) -> None:
    """``NAME.json`` with all values, and ``NAME.md`` with these lines, which is printed too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    text = "\n".join([*lines, ""])
    (folder / f"{name}.md").write_text(text, "utf-8")
    print(text)

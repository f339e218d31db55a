"""Walks of ``metadata.py``: what each folder costs first, and contests with other mounts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from scripts.benchmarks import contenders, measuring
from scripts.benchmarks.contenders import Contender, installed
from scripts.benchmarks.origin import serve
from scripts.benchmarks.processes import BenchmarkFailed
from scripts.benchmarks.results import Case, Spread

Command = list[str | Path]
Table = dict[str, dict[str, Any]]

#: ``find -ls`` asks for what ``ls -l`` shows, without its two extended attributes a file
WALKS: dict[str, tuple[Command, Command]] = {
    "ls -lR": (["ls", "-lR"], []),
    "find -ls": (["find"], ["-ls"]),
    "find": (["find"], []),
}
#: a walk that takes longer, in seconds, is repeated less often
_LONG_SECONDS = 1.0
_REPEATS_OF_LONG = 2


class MountToWalk(Protocol):
    """A mount and what its server was asked."""

    @property
    def place(self) -> Path: ...
    def requests(self) -> Counter[str]: ...


def first_walks(mounted: MountToWalk, lab: str, repeats: int) -> Table:
    """Each folder of a lab of 1,000 sessions: with nothing known, and then with all known."""
    root = mounted.place / lab
    found: Table = {}
    for name, command in _folders(mounted.place, root, root / f"{lab}_000"):
        before = mounted.requests()
        first = measuring.seconds_of(command)
        asked = mounted.requests() - before
        times = repeats if first is not None and first < _LONG_SECONDS else _REPEATS_OF_LONG
        warm = [measuring.seconds_of(command) for _ in range(times)]
        cold = [measuring.seconds_of(command) for _ in range(times) if measuring.drop_caches()]
        again = mounted.requests() - before - asked
        found[name] = {
            "nothing known": first,
            "requests": sum(asked.values()),
            "kernel cold": _median(cold),
            "kernel warm": _median(warm),
            "requests again": sum(again.values()),
        }
    return found


def _folders(place: Path, root: Path, subject: Path) -> Iterator[tuple[str, Command]]:
    """What is walked, from the top, so that each is the first that asks for what it needs."""
    yield "ls of the mount", ["ls", place]
    yield "ls of a lab", ["ls", root]
    yield "ls of a subject", ["ls", subject]
    date = min(subject.iterdir())
    yield "ls of a date", ["ls", date]
    yield "ls of a session", ["ls", date / "001"]
    yield "ls -lR of a session", ["ls", "-lR", date / "001"]
    yield "find of a lab", ["find", root]
    yield "ls -lR of a lab", ["ls", "-lR", root]


def stat_rates(subject: Path) -> dict[str, float]:
    """Calls of stat a second in the sessions of a subject."""
    folders = [date / "001/alf" for date in sorted(subject.iterdir())]
    return {
        "kernel warm": measuring.stat_rate(folders[0]),
        "kernel cold": measuring.first_stat_rate(folders),
    }


class ComparedTrees:
    """The same files in onefs, in bindfs over a real tree, and over nginx's listings."""

    def __init__(
        self, stack: ExitStack, folder: Path, ours: Path, lab: str, subjects: list[str]
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._ours = ours / lab
        self._real = folder / "real"
        self._lab = lab
        self._subjects = subjects
        self._mounts: dict[str, Path] = {"onefs": self._ours}

    def make(self) -> int:
        """The real tree, and bindfs over it; how many files it has."""
        files = sum(
            measuring.copy_shape(self._ours / name, self._real / self._lab / name)
            for name in self._subjects
        )
        if installed("bindfs"):
            mount = contenders.bindfs(self._folder / "bindfs", self._real)
            self._mounts["bindfs"] = self._stack.enter_context(mount).mount / self._lab
        return files

    def compare(self, repeats: int, *, cold: bool) -> dict[str, Any]:
        """Each walk over the same subjects of each mount, in turns."""
        found: dict[str, Any] = {}
        for name, (before, after) in WALKS.items():
            case = Case(name, name, "s", "bindfs" if "bindfs" in self._mounts else "")

            def run(number: int, root: Path, before: Command, after: Command) -> float:
                if cold and not measuring.drop_caches():
                    raise BenchmarkFailed("the kernel's caches cannot be dropped: be root")
                folders = [root / subject for subject in self._subjects]
                seconds = measuring.seconds_of([*before, *folders, *after])
                if seconds is None:
                    raise BenchmarkFailed("hung")
                return seconds

            runs = {
                mount: partial(run, root=root, before=before, after=after)
                for mount, root in self._mounts.items()
            }
            case.measure(runs, repeats)
            found[name] = case.to_json() | {"ratio": _ratio(case)}
        return found

    def over_http(self, unknown: list[Path], patience: float) -> Table:
        """Walks over nginx's listings, kernel cold: with nothing known, and once more.

        ``unknown`` are as many folders of the same shape in onefs, of which it knows nothing.
        """
        found: Table = {}
        mounts = {name: (each.mount, each.pid) for name, each in self._http().items()}
        for name, folders, pid in [
            ("onefs", unknown, None),
            *(
                (name, [mount / self._lab / subject for subject in self._subjects], pid)
                for name, (mount, pid) in mounts.items()
            ),
        ]:
            for what, walk in (
                ("find, nothing known", "find"),
                ("find, again", "find"),
                ("ls -lR, then", "ls -lR"),
            ):
                before, after = WALKS[walk]
                measuring.drop_caches()
                seconds = measuring.seconds_of([*before, *folders, *after], patience, pid)
                found.setdefault(what, {})[name] = seconds if seconds is not None else "hung"
                print(f"  {name}, {what}: {found[what][name]}", file=sys.stderr, flush=True)
                if seconds is None:
                    break
        return found

    def _http(self) -> dict[str, Contender]:
        """The mounts of the real tree's listings."""
        found: dict[str, Contender] = {}
        if not installed("nginx"):
            return found
        source = self._stack.enter_context(serve(self._folder / "nginx"))
        (source.root / self._lab).symlink_to(self._real / self._lab)
        for name, make in {
            "rclone": partial(
                contenders.rclone,
                self._folder / "rclone",
                contenders.http_options(source.url),
                "off",
            ),
            "httpdirfs": partial(contenders.httpdirfs, self._folder / "httpdirfs", source.url),
        }.items():
            if installed(name):
                try:
                    found[name] = self._stack.enter_context(make())
                except BenchmarkFailed as error:
                    print(f"{name} is left out: {error}", file=sys.stderr)
        return found


def _ratio(case: Case) -> dict[str, float] | None:
    """Our time divided by bindfs's, pair by pair."""
    both = {"onefs", "bindfs"} <= case.values.keys()
    return case.ratio("onefs").to_json() if both else None


def _median(times: list[float | None]) -> float | None:
    known = [each for each in times if each is not None]
    return Spread.of(known).median if known else None

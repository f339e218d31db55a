"""Fuzzing for a while: inputs from hypothesis, what is wrong made small and kept.

``python -m tests.fuzz --minutes N [--seed S]``, or ``scripts/fuzz``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from tests.fuzz.inputs import inputs
from tests.fuzz.specs import Json
from tests.fuzz.watcher import Finding, Watcher

KEPT = Path(__file__).parents[1] / "data" / "fuzz"
#: inputs of one run of hypothesis; then the next begins with another seed
_BATCH_INPUTS = 60
#: seconds in which an input is made smaller
_SHRINKING_SECONDS = 25.0
_MOST_EXAMPLES = 10**6


class WrongInput(AssertionError):
    """An input that shows something wrong."""


@dataclass
class Campaign:
    """What was found so far, by signature, with the smallest input that shows it."""

    watched: Watcher
    #: where inputs that fail are kept; None for nowhere
    folder: Path | None = None
    say: Callable[[str], object] = print
    started_at: float = field(default_factory=time.monotonic)
    found: dict[str, tuple[Finding, Json]] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)
    inputs_run: int = 0

    def run(self, seconds: float, first: int) -> None:
        """Run inputs for so many seconds, by seeds from ``first`` on."""
        end = self.started_at + seconds
        number = first
        while time.monotonic() < end:
            self.batch(number, _BATCH_INPUTS, end)
            number += 1
            self.say(f"{time.monotonic() - self.started_at:6.0f} s, {self.inputs_run} inputs")

    def batch(self, number: int, most: int, end: float = float("inf")) -> None:
        """Run at most so many inputs of one seed, until one is wrong in a way that is new."""
        search = _Search(self, end)

        @seed(number)
        @settings(
            max_examples=most,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            report_multiple_bugs=False,
        )
        @given(found=inputs())
        def check(found: Json) -> None:
            search.check(found)

        # flaky: it was wrong twice, and then not; it is kept as it is
        with suppress(WrongInput, Flaky):
            check()
        ended = search.ended()
        if ended is not None:
            self._keep(*ended)

    def _keep(self, finding: Finding, found: Json) -> None:
        after = time.monotonic() - self.started_at
        self.found[finding.signature] = finding, found
        self.say(
            f"{after:6.0f} s, input {self.inputs_run}: {finding.signature}\n  "
            f"{finding.detail[:300]}"
        )
        if self.folder is not None:
            self.say(f"  kept as {keep(finding, found, self.folder)}")


class _Search:
    """One run of hypothesis, until it has made an input small."""

    def __init__(self, campaign: Campaign, end: float) -> None:
        self._campaign = campaign
        self._end = end
        self._last: Json = None
        self._wrong: dict[str, Finding] = {}
        self.first: tuple[Finding, Json] | None = None
        self.smallest: tuple[Finding, Json] | None = None

    def check(self, found: Json) -> None:
        """Raise Wrong for an input that shows what was not known; hypothesis then shrinks it."""
        key = json.dumps(found, sort_keys=True)
        # hypothesis asks for the smallest once more, and wants to hear the same
        finding = self._wrong.get(key) or self._look(found)
        if finding is not None:
            self._wrong[key] = finding
            raise WrongInput(finding.signature)

    def _look(self, found: Json) -> Finding | None:
        """What is wrong with an input, where that is new."""
        campaign = self._campaign
        if time.monotonic() > self._end or self._is_like_the_last(found):
            return None
        finding = campaign.watched.run(found)
        campaign.inputs_run += 1
        if finding is None or (self.smallest and finding.kind != self.smallest[0].kind):
            return None
        if finding.signature in campaign.found:
            campaign.repeats[finding.signature] += 1
            return None
        if self.smallest is None:
            once, finding = finding, campaign.watched.confirm(found)
            if finding is None:
                campaign.say(f"not again when run alone: {once.signature}; {once.detail[:200]}")
            if finding is None or finding.signature in campaign.found:
                return None
            self.first = finding, found
            self._end = time.monotonic() + _SHRINKING_SECONDS
        self.smallest = finding, found
        return finding

    def _is_like_the_last(self, found: Json) -> bool:
        """Whether hypothesis varies what was just run, before anything was found."""
        kinds = [[fault["at"], fault["what"], fault.get("how")] for fault in found["faults"]]
        done = [[each["do"], each.get("verb")] for each in found["operations"]]
        last, self._last = self._last, [kinds, done]
        return self.smallest is None and last == self._last

    def ended(self) -> tuple[Finding, Json] | None:
        """The smallest input that also shows it alone."""
        if self.smallest is None or self.smallest == self.first:
            return self.smallest
        finding = self._campaign.watched.confirm(self.smallest[1])
        same = finding is not None and finding.kind == self.smallest[0].kind
        return self.smallest if same else self.first


def keep(finding: Finding, found: Json, folder: Path) -> Path:
    """Write an input down, for ``test_kept.py``; the file's name comes from what it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    name = (
        f"{finding.kind.replace(' ', '-')}-{hashlib.sha1(finding.where.encode()).hexdigest()[:8]}"
    )
    path = folder / f"{name}.json"
    written = {"shows": finding.signature, "input": found}
    path.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    return path


def main(arguments: list[str]) -> int:
    """The command; 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--keep", type=Path, default=KEPT, help="folder for inputs that fail")
    given_ = parser.parse_args(arguments)
    first = given_.seed if given_.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"fuzzing for {given_.minutes:g} minutes, seed {first}", flush=True)
    # in memory, where that is possible: thousands of small databases are synced
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="onefs-fuzz-", dir=memory) as folder,
        Watcher(Path(folder)) as run,
    ):
        campaign = Campaign(run, given_.keep, lambda line: print(line, flush=True))
        campaign.run(given_.minutes * 60, first)
    print(f"{campaign.inputs_run} inputs, {len(campaign.found)} faults")
    for signature in campaign.found:
        print(f"  {signature} (and {campaign.repeats[signature]} times more)")
    return 1 if campaign.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

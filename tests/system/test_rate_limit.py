"""Alyx's own limit, 550 requests a minute: three processes walk a large laboratory at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import account, alyx_requests
from tests.running import Home, run

#: seconds for which they walk: longer than the minute that Alyx counts
WALK = 80
_WALKER = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
files = failed = 0
def note(error):
    global failed
    failed += 1
for folder, _, names in os.walk(sys.argv[1], onerror=note):
    files += len(names)
    if time.monotonic() > end:
        break
print(files, failed)
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(ScaledLaboratory(20_000, 40), throttle=550) as running:
        yield running


@pytest.mark.long
@pytest.mark.timeout(400)
def test_three_walks_at_once_get_no_429_and_leave_room(
    home: Home, servers: Servers, tmp_path: Path
) -> None:
    """Each mount has a catalogue of its own, so that nothing is shared but the budget."""
    mounts = [
        home.mount("--state-dir", tmp_path / f"state{n}", at=f"mnt{n}", **account(servers))
        for n in range(4)
    ]
    *walked, typed = (mounted.path for mounted in mounts)
    command = [sys.executable, "-c", _WALKER]
    servers.clear_requests()
    walkers = [
        subprocess.Popen([*command, path, str(WALK)], stdout=subprocess.PIPE, text=True)
        for path in walked
    ]
    slowest, end, lab = 0.0, time.monotonic() + WALK - 5, 0
    while time.monotonic() < end:
        lab = (lab + 1) % 19
        began = time.monotonic()
        run(["ls", typed / f"lab{lab:02d}" / f"lab{lab:02d}_{int(began) % 20:03d}"])
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(2)
    counted = [walker.communicate(timeout=60)[0].split() for walker in walkers]
    print(counted, f"slowest ls {slowest:.2f} s", len(alyx_requests(servers)))
    assert Counter(each.status for each in alyx_requests(servers)).keys() == {200}
    assert slowest < 2
    for files, failed in counted:
        assert int(files) > 5000
        assert int(failed) == 0

"""Tests of programs that fork while they load: no process hangs or loses data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests.one.conftest import EID, arguments
from tests.one.forking_program import KINDS, LONGEST

ROOT = Path(__file__).parents[2]
#: types and their lengths
TYPES = {"clusters.depths": 60, "clusters.probes": 60, "licks.times": 449, "spikes.clusters": 69259}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_children_and_parent_load_on(servers: Servers, tmp_path: Path, kind: str) -> None:
    one = {**arguments(servers), "cache_dir": str(tmp_path / "ONE")}
    given = {"one": one, "eid": EID, "types": list(TYPES)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.one.forking_program", kind],
        input=json.dumps(given).encode(),
        capture_output=True,
        timeout=LONGEST + 30,
        cwd=ROOT,
        env={**os.environ, "ONEFS_SMALL_FILE": "200000"},  # some of the files come in blocks
    )
    assert done.returncode == 0, done.stderr.decode()[-6000:]
    assert done.stdout, done.stderr.decode()[-6000:]
    assert json.loads(done.stdout) == list(TYPES.values())

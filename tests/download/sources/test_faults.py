"""Each source passes each row of the table of faults in docs/SEMANTICS.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content.conftest import Open
from tests.content.ranged_file import read_all
from tests.download.conftest import DATA
from tests.download.sources import folder_faults, wire_faults
from tests.download.sources.folder_faults import Disk
from tests.download.sources.wire_faults import opened, other_replica, slow_down
from tests.download.sources.wires import WIRES, Wire, open_wire

_SEMANTICS = Path(__file__).parents[3] / "docs" / "SEMANTICS.md"
#: the ids of the rows of the table "what the server does"
ROWS = re.findall(r"^\|.*\| \[(S\d+)\] \|$", _SEMANTICS.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    kind = request.param
    real = request.getfixturevalue(f"{kind}_server") if kind in ("rclone", "moto") else None
    with open_wire(kind, real) as found:
        yield found


def test_no_row_is_skipped() -> None:
    assert list(wire_faults.CHECKS) == ROWS
    assert list(folder_faults.CHECKS) == ROWS


def test_a_file_is_read(wire: Wire, open_content: Open) -> None:
    assert read_all(opened(wire, open_content), wire.dataset()) == DATA


@pytest.mark.parametrize("row", wire_faults.CHECKS)
def test_a_fault_of_a_server(wire: Wire, open_content: Open, row: str) -> None:
    wire_faults.CHECKS[row](wire, open_content)


@pytest.mark.parametrize("row", folder_faults.CHECKS)
def test_a_fault_of_a_disk(tmp_path: Path, open_content: Open, row: str) -> None:
    path = tmp_path / "files" / "a b#%.npy"
    path.parent.mkdir()
    path.write_bytes(DATA)
    folder_faults.CHECKS[row](Disk(path, open_content))


def test_a_source_that_refuses_a_file_is_passed_over(wire: Wire, open_content: Open) -> None:
    other_replica(wire, open_content)


def test_slow_down_of_s3_is_waited_for(wire: Wire, open_content: Open) -> None:
    slow_down(wire, open_content)

"""The numbers of docs/REQUESTS.md, counted at the servers of a real mount."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.scaled_laboratory import ScaledLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import account, alyx_requests, data_requests
from tests.running import Home, Mounted, run

DOCUMENT = Path(__file__).parents[2] / "docs" / "REQUESTS.md"
FIND = "`find` of a lab of 1,000 sessions x 40 datasets"
TABLES = "`cat` of `.insertions.tsv` of 100 sessions"
LAB, SUBJECT = "lab00", "lab00_000"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(ScaledLaboratory(1100, 40)) as running:
        yield running


def documented_costs() -> dict[str, list[str]]:
    """The document's table: action -> its four numbers."""
    rows = re.findall(r"^\| (.+?) \|((?: [\d<= ]+ \|){4})$", DOCUMENT.read_text("utf-8"), re.M)
    return {action: [cell.strip() for cell in cells.split("|")[:4]] for action, cells in rows}


def actions(mounted: Mounted) -> Iterator[tuple[str, list[str | Path]]]:
    """Each action of the table but mounting, and its command; what it needs is listed by then."""
    root = mounted.path
    yield "`ls` of the mount", ["ls", root]
    yield "`ls` of a lab", ["ls", root / LAB]
    yield "`ls` of a subject", ["ls", root / LAB / SUBJECT]
    date = sorted((root / LAB / SUBJECT).iterdir())[0]
    yield "`ls` of a date", ["ls", date]
    session = date / "001"
    yield "`ls` of the first session", ["ls", session]
    yield "`find` in a session", ["find", session]
    yield "`ls -lR` of a session", ["ls", "-lR", session]
    yield "`cat` of a file", ["cksum", session / "alf/probe00/spikes.times.npy"]
    yield "`cat` of `.session.json`", ["cat", session / ".session.json"]
    eid = mounted.xattr("eid", str(session.relative_to(root)))
    yield "`readlink` of a known `.by-eid`", ["readlink", root / ".by-eid" / eid]
    ref = root / ".by-ref" / "2018-08-24_1_clns0730"
    yield "`readlink` of another lab's `.by-ref`", ["readlink", ref]
    yield "`ls` of another session", ["ls", date / "002"]
    yield "a name that cannot exist", ["sh", "-c", f"! ls {root}/{LAB}/{SUBJECT}/.git {root}/.x"]
    yield FIND, ["find", root / LAB, "-type", "f"]
    tables = [each / ".insertions.tsv" for each in sorted((root / LAB).glob("*/*/*"))[:100]]
    yield TABLES, ["cat", *tables]


def counted_requests(servers: Servers) -> tuple[int, int]:
    return len(alyx_requests(servers)), len(data_requests(servers))


def matches_document(number: int, said: str) -> bool:
    return number <= int(said[2:]) if said.startswith("<=") else number == int(said)


@pytest.mark.long
def test_every_action_costs_what_the_document_says(home: Home, servers: Servers) -> None:
    table = documented_costs()
    assert len(table) > 10
    servers.clear_requests()
    mounted = home.mount(**account(servers))
    found = {"`onefs mount`": [*counted_requests(servers)]}
    for action, command in actions(mounted):
        for _ in range(2):
            servers.clear_requests()
            said = run(command).stdout.splitlines()
            found.setdefault(action, []).extend(counted_requests(servers))
        if action == FIND:  # what was found is whole
            assert len(said) == len(set(said)) == 40_000
    mounted.umount()
    servers.clear_requests()
    again = home.mount(**account(servers))
    found["`onefs mount`"] += counted_requests(servers)
    assert found.keys() == table.keys()
    wrong = {
        action: (numbers, table[action])
        for action, numbers in found.items()
        if not all(map(matches_document, numbers, table[action]))
    }
    assert not wrong
    # a new mount uses the listings of the previous one
    servers.clear_requests()
    for _, command in actions(again):
        run(command)
    assert counted_requests(servers) == (0, 0)

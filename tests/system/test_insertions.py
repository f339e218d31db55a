"""Probe insertions over a real mount: links, tables, and another user's access."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pandas as pd
import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import UsageError
from onefs.mount.mount_registry import find_record
from onefs.one import ONE
from tests.laboratories import account, open_laboratory
from tests.running import Home, run

SESSION = "cortexlab/KS023/2019-12-20/001"
UNKNOWN = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
SEARCH = ".search/lab=cortexlab&atlas_acronym=CA1"


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


def test_insertions_in_a_mount_and_through_it(home: Home, tmp_path: Path) -> None:
    with Servers(SyntheticLaboratory()) as servers:
        mounted = home.mount(**account(servers))
        root = mounted.path
        of_session = rows(root / SESSION / ".insertions.tsv")
        for row in of_session:
            folder = root / ".by-pid" / row["pid"]
            assert (folder / "session").samefile(root / SESSION)
            assert (folder / "alf").samefile(root / SESSION / "alf" / row["name"])
            assert (folder / "sorting/spikes.times.npy").stat().st_size > 1000
        # a program that walks the tree meets none of it
        found = run(["find", root / "cortexlab/KS023", "-name", "*insertions*"]).stdout
        assert found == ""
        assert ".by-pid" not in os.listdir(root)
        assert os.listdir(root / ".by-pid") == []
        assert set(os.listdir(root / SEARCH)).isdisjoint({".insertions.tsv", ".sessions.tsv"})
        for name in (UNKNOWN, "probe00"):
            assert not (root / ".by-pid" / name).exists()

        table = pd.read_csv(root / SEARCH / ".insertions.tsv", sep="\t")
        assert len(table) > 4
        assert set(of_session[0]) == set(table.columns)
        assert set(table.date[table.eid == of_session[0]["eid"]]) == {"2019-12-20"}
        assert all((root / path).is_dir() for path in table.path)
        sessions = pd.read_csv(root / SEARCH / ".sessions.tsv", sep="\t")
        assert set(sessions.eid) == set((root / SEARCH / ".eids").read_text().split())

        record = find_record(os.path.realpath(root), home.state / "mounts")
        assert record is not None
        through = ONE.in_mount(record)
        access = open_laboratory(servers, tmp_path / "own")
        with ONE.over(access, access.settings) as own, through:
            for row in of_session:
                assert through.pid2eid(row["pid"]) == own.pid2eid(row["pid"])
            assert through.pid2eid(UNKNOWN) == (None, None)
            for name in (of_session[0]["eid"], "2018-08-24_1_clns0730"):
                assert through.eid2pid(name) == own.eid2pid(name)
            details = through.eid2pid(SESSION, details=True)
            expected = own.eid2pid(SESSION, details=True)
            assert details == expected
            for terms in ({"lab": "cortexlab", "atlas_acronym": "CA1"}, {"name": "probe01"}):
                assert through.search_insertions(**terms) == own.search_insertions(**terms)  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="serial"):
                through.search_insertions(serial="19108300000")
            listed = through.search_sessions(subject="KS023")
            assert through.insertion_table(listed) == own.insertion_table(
                own.search_sessions(subject="KS023")
            )
        # what was read stays readable without Alyx
        before = [(root / SEARCH / name).read_text() for name in (".insertions.tsv", ".eids")]
        servers.alyx.stop()
        assert before == [
            (root / SEARCH / name).read_text() for name in (".insertions.tsv", ".eids")
        ]
        assert rows(root / SESSION / ".insertions.tsv") == of_session
        assert (root / ".by-pid" / of_session[1]["pid"] / "session").samefile(root / SESSION)
        mounted.umount()

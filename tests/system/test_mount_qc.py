"""``onefs mount --qc``: only datasets whose quality control is good enough, in real mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest
from one.alf.cache import QC_TYPE
from one.util import filter_datasets

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.qc import QC
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import account
from tests.running import Home, Mounted, files_below

#: a session whose datasets have all outcomes, with revisions
SESSION = "cortexlab/KS014/2019-08-29/001"
#: a session with two probes
PROBES = "cortexlab/KS023/2019-12-20/001"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    laboratory = ChangingLaboratory(SyntheticLaboratory())
    outcomes = list(QC.__members__)
    laboratory.change = lambda record: replace(record, qc=outcomes[int(record.id[:4], 16) % 5])
    with Servers(laboratory) as running:
        yield running


@pytest.fixture(scope="module")
def whole(shared_home: Home, servers: Servers) -> Mounted:
    return shared_home.mount(**account(servers))


@pytest.fixture(scope="module")
def warning(shared_home: Home, servers: Servers, whole: Mounted) -> Mounted:
    """The same database beside it, without datasets that are worse than WARNING."""
    return shared_home.mount("--qc", "warning", at="warning", **account(servers))


@pytest.fixture(scope="module")
def passed(shared_home: Home, servers: Servers, whole: Mounted) -> Mounted:
    """The same database, by the variable, with datasets that are PASS or NOT_SET."""
    return shared_home.mount(at="passed", ONEFS_QC="PASS", **account(servers))


def table_of(mounted: Mounted, session: str = SESSION) -> dict[str, str]:
    """Return the QC in ``.datasets.tsv``, by the dataset's path."""
    text = (mounted.path / session / ".datasets.tsv").read_text()
    header, *lines = [line.split("\t") for line in text.splitlines()]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    return {row["name"]: row["qc"] for row in rows if row["state"] == ""}


def listed(mounted: Mounted, folder: str = "") -> set[str]:
    """Return the files of the session, without the session's own two."""
    return {
        name
        for name in files_below(mounted.path / folder / SESSION)
        if name not in (".datasets.tsv", ".session.json")
    }


def test_a_mount_shows_the_datasets_that_one_api_selects(
    whole: Mounted, warning: Mounted, passed: Mounted
) -> None:
    outcomes = table_of(whole)
    assert set(outcomes.values()) == set(QC.__members__)
    assert listed(whole) == set(outcomes)
    frame = pd.DataFrame(
        {
            "rel_path": list(outcomes),
            "default_revision": True,
            "qc": pd.Categorical(list(outcomes.values()), dtype=QC_TYPE),
        }
    )
    for mounted, limit in ((warning, "WARNING"), (passed, "PASS")):
        selected = filter_datasets(frame, qc=limit, revision_last_before=False, assert_unique=False)
        assert listed(mounted) == set(selected["rel_path"])
        assert table_of(mounted) == dict(zip(selected["rel_path"], selected["qc"], strict=True))
        assert mounted.xattr("qc") == limit
    assert "user.onefs.qc" not in os.listxattr(whole.path)


def test_a_dataset_that_is_worse_does_not_exist_in_any_view(
    whole: Mounted, warning: Mounted
) -> None:
    worse = {name for name, qc in table_of(whole).items() if qc in ("FAIL", "CRITICAL")}
    assert worse
    for name in worse:
        assert (whole.path / SESSION / name).exists()
        assert not (warning.path / SESSION / name).exists()
    for view in (".flat", ".as-of/2030-01-01"):
        hidden = listed(whole, view) - listed(warning, view)
        assert hidden
        kept = listed(warning, view)
        assert kept
    good = next(name for name in sorted(listed(warning)) if name.endswith(".npy"))
    assert (warning.path / SESSION / good).read_bytes() == (
        whole.path / SESSION / good
    ).read_bytes()


@pytest.mark.parametrize("first", ["links", "table"])
def test_the_table_and_the_links_of_probes_show_the_same_datasets(
    first: str, warning: Mounted, passed: Mounted
) -> None:
    mounted = {"links": warning, "table": passed}[first]
    lines = (mounted.path / PROBES / ".insertions.tsv").read_text().splitlines()
    table = table_of(mounted, PROBES) if first == "table" else {}
    for pid in (line.split("\t")[0] for line in lines[1:]):
        folder = mounted.path / ".by-pid" / pid
        assert all((folder / name).is_dir() for name in os.listdir(folder))
    table = table or table_of(mounted, PROBES)
    worst = {"links": QC.WARNING, "table": QC.PASS}[first]
    assert table
    assert all(QC[outcome] <= worst for outcome in table.values())


def test_commands_show_all_datasets(shared_home: Home, whole: Mounted, warning: Mounted) -> None:
    table = (whole.path / SESSION / ".datasets.tsv").read_text()
    types = {line.split("\t")[1] for line in table.splitlines()[1:]}
    assert set(shared_home.run("list", warning.path / SESSION).stdout.split()) == types


def test_an_unknown_outcome_is_one_sentence(shared_home: Home, servers: Servers) -> None:
    folder = shared_home.root / "no"
    said = shared_home.error_of(2, "mount", folder, "--qc", "good", **account(servers))
    assert said == "--qc: 'good' is not one of NOT_SET, PASS, WARNING, FAIL, CRITICAL"

"""``onefs search --insertions``, and the flags of ``onefs get`` that choose sessions and QC."""

from __future__ import annotations

import csv
import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from onefs.search.vocabulary import QC_OUTCOMES
from tests.cli.terminal import run
from tests.laboratories import account, alyx_requests, open_laboratory
from tests.running import ONEFS, TIMEOUT_SECONDS

KS023 = ["--subject", "KS023"]
EID = "cf264653-2deb-44cb-aa84-89b82507028a"


@pytest.fixture
def user(environ: dict[str, str], laboratory: Servers) -> dict[str, str]:
    return {**environ, **account(laboratory)}


def lines_of(arguments: list[str], user: dict[str, str], given: str = "") -> list[str]:
    """Return the lines that a command prints; it must succeed."""
    done = subprocess.run(
        [ONEFS, *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env=user,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_insertions_are_printed_in_each_form(user: dict[str, str]) -> None:
    search = ["search", *KS023, "--insertions"]
    pids = lines_of([*search, "--format", "pids"], user)
    rows = list(csv.DictReader(lines_of([*search, "--format", "tsv"], user), delimiter="\t"))
    shown = json.loads("\n".join(lines_of([*search, "--format", "json"], user)))
    assert [row["pid"] for row in rows] == [row["pid"] for row in shown] == pids
    assert len(pids) == 3
    assert [{**row, "number": str(row["number"])} for row in shown] == rows
    assert lines_of([*search, "--format", "eids"], user) == list(
        dict.fromkeys(row["eid"] for row in rows)
    )
    assert all(Path(row["path"]).is_absolute() for row in rows)
    header, *printed = lines_of(search, user)
    assert header.split() == ["ref", "lab", "name", "model", "pid"]
    assert [line.split()[-1] for line in printed] == pids
    of_one = ["search", *KS023, "--insertions", "--probe", "probe01", "--format", "tsv"]
    assert [row["name"] for row in csv.DictReader(lines_of(of_one, user), delimiter="\t")] == [
        "probe01"
    ]


def test_sessions_are_printed_as_a_table_for_programs(user: dict[str, str]) -> None:
    rows = csv.DictReader(lines_of(["search", *KS023, "--format", "tsv"], user), delimiter="\t")
    eids = lines_of(["search", *KS023, "--format", "eids"], user)
    assert [row["eid"] for row in rows] == eids


def test_what_makes_no_sense_is_refused(user: dict[str, str]) -> None:
    for flags, word in (
        (["--format", "pids"], "--insertions"),
        (["--insertions", "--details"], "--details"),
    ):
        done = run(["search", *KS023, *flags], user)
        assert done.returncode == 2
        assert word in done.stderr
    done = run(["search", "--subject", "clns0730", "--insertions"], user)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no such probe insertion" in done.stderr


def test_a_search_chooses_what_is_fetched(user: dict[str, str]) -> None:
    types = ["--type", "*trials.*", "--dry-run"]
    by_search = lines_of(["get", "--search", "subject=KS023&date_range=2019-12-19,", *types], user)
    eids = lines_of(["search", *KS023, "--date-range", "2019-12-19,", "--format", "eids"], user)
    assert len(eids) == 3
    by_file = lines_of(["get", "--from-file", "-", *types], user, given="\n".join([*eids, ""]))
    assert sorted(by_search) == sorted(by_file) == sorted(lines_of(["get", *eids, *types], user))
    assert len(by_search) > 10
    ref = "2018-08-24_1_clns0730"
    several = lines_of(
        ["get", "--from-file", "-", "--dry-run"], user, given=f" {ref}/spikes.times.npy \n{EID}\t\n"
    )
    assert several == lines_of(["get", f"{ref}/spikes.times.npy", EID, "--dry-run"], user)


def test_names_in_a_file_need_few_requests(user: dict[str, str], laboratory: Servers) -> None:
    eids = lines_of(["search", "--lab", "cortexlab", "--format", "eids"], user)
    laboratory.clear_requests()
    lines_of(["get", "--from-file", "-", "--dry-run"], user, given="\n".join(eids))
    datasets = [each for each in alyx_requests(laboratory) if each.path.startswith("/datasets")]
    assert len(eids) > 10
    assert 1 <= len(datasets) <= 2


def test_qc_chooses_as_in_one(user: dict[str, str], laboratory: Servers, tmp_path: Path) -> None:
    spec = pytest.importorskip("one.alf.spec")
    assert [spec.QC[name] for name in QC_OUTCOMES] == sorted(spec.QC)
    with closing(open_laboratory(laboratory, tmp_path)) as access:
        datasets = access.catalogue.datasets(access.catalogue.session(EID)).value
    for worst in ("pass", "WARNING", "CRITICAL"):
        expected = {
            dataset.name for dataset in datasets if spec.QC[dataset.qc] <= spec.QC[worst.upper()]
        }
        chosen = lines_of(["get", EID, "--qc", worst, "--dry-run"], user)
        assert {Path(line).name for line in chosen} == expected != set()
    assert run(["get", EID, "--qc", "GOOD"], user).returncode == 2


def test_what_a_search_of_get_does_not_find_is_an_error(user: dict[str, str]) -> None:
    for arguments, code, word in (
        (["--search", "lab=mainenlb"], 1, "did you mean"),
        (["--search", "labb=mainenlab"], 2, "labb"),
        ([], 2, "--from-file"),
        (["--from-file", "/nonexistent"], 2, "nonexistent"),
        ([EID, "--type", "spikes.times", "--qc", "NOT_SET"], 1, "with QC NOT_SET or better"),
    ):
        done = run(["get", *arguments], user)
        assert done.returncode == code, done.stderr
        assert word in done.stderr
        assert "Traceback" not in done.stderr

"""What the benchmarks count and judge by: repetitions, pages, and what strace saw."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

from scripts.benchmarks import jobs_criteria, read_criteria, sources_criteria
from scripts.benchmarks.disk_source import BASELINE
from scripts.benchmarks.generate_tables import PER_LAB, write
from scripts.benchmarks.processes import started
from scripts.benchmarks.programs import MOVED, READ, read_bytes
from scripts.benchmarks.results import LEAST_REPETITIONS, Case, Results
from tests.running import wait_until

_LOG = """\
12 read(3</mnt/a>, ""..., 4096) = 4096
12 read(4</mnt/b>, ""..., 4096) = 4096
13 pread64(5</mnt/a>, ""..., 100, 7 <unfinished ...>
12 read(4</mnt/b>,  <unfinished ...>
12 <... read resumed>""..., 50) = 50
13 <... pread64 resumed>""..., 100, 7) = 100
12 read(3</mnt/a>, "", 4096) = 0
12 read(3</mnt/a>, 0x7ffc, 4096) = -1 EIO (Input/output error)
12 +++ exited with 0 +++
"""


def test_the_bytes_that_a_program_read_are_those_of_its_calls() -> None:
    assert read_bytes(_LOG, "/mnt/a") == 4196
    assert read_bytes(_LOG, "/mnt/b") == 4146
    assert read_bytes(_LOG, "/mnt/c") == 0


def test_strace_says_what_a_program_reads(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        return  # the parser is tested above
    path, log = tmp_path / "file", tmp_path / "log"
    path.write_bytes(b"x" * 5000)
    trace = ["strace", "-f", "-y", "-s", "0", "-e", "trace=read", "-o", str(log)]
    done = subprocess.run([*trace, "cat", path], capture_output=True, timeout=60, check=False)
    if done.returncode == 0:  # a container may forbid it
        assert read_bytes(log.read_text(), str(path)) == 5000


def test_a_case_whose_time_is_over_has_the_least_repetitions() -> None:
    calls: list[int] = []

    def run(number: int) -> float:
        calls.append(number)
        return 1.0

    case = Case("key", "title", "s", seconds=-1.0)
    case.measure({"a": run}, 9)
    assert calls == list(range(LEAST_REPETITIONS))
    Case("key", "title", "s", seconds=math.inf).measure({"a": run}, 5)
    assert calls[LEAST_REPETITIONS:] == [0, 1, 2, 3, 4]


def test_a_part_of_the_cases_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    first = Results()
    case = first.case("small", "Small", "s", "other", 7)
    for name in ("onefs", "other"):
        case.measure({name: lambda number: 1.5 + number}, 3)
        case.spent(name, 0.25)
    stored = {"cases": {key: each.to_json() for key, each in first.cases.items()}}
    (tmp_path / "read.json").write_text(json.dumps(stored))
    second = Results()
    second.keep(tmp_path / "read.json")
    assert {key: each.to_json() for key, each in second.cases.items()} == stored["cases"]
    second.keep(tmp_path / "absent.json")
    (tmp_path / "old.json").write_text('{"cases": {"small": {"title": "Small"}}}')
    second.keep(tmp_path / "old.json")
    assert list(second.cases) == ["small"]


def test_opens_are_judged_by_bindfs_or_a_bare_loop() -> None:
    results = Results()
    known = results.case("open-known", "", "us", "a bare mfusepy loop")
    dropped = results.case("open-dropped", "", "us", "bindfs")
    for ours, bare, bindfs in ((150.0, 100.0, 50.0), (170.0, 100.0, 80.0), (155.0, 100.0, 80.0)):
        for case in (known, dropped):
            case.add("onefs", ours)
            case.add("a bare mfusepy loop", bare)
            case.add("bindfs", bindfs)
    verdicts = {each.wanted: each for each in read_criteria.judge(results)}
    assert verdicts["at most 1.6"].met
    assert verdicts["at most 1.6"].measured.median == 1.55
    assert not verdicts["at most 2"].met


def test_bytes_moved_are_judged_by_what_the_program_read() -> None:
    results = Results()
    for key, title, read, moved in (
        ("program-h5py", "h5py: a column (of 200 MB)", 6.4, 9.0),
        ("program-ffprobe", "ffprobe (of 200 MB)", 0.2, 1.4),
        ("program-head", "head -c 10 (of 500 MB)", 1e-5, 0.53),
    ):
        case = results.case(key, title, "MB")
        case.add(READ, read)
        case.add(MOVED, moved)
    met = {each.wanted: each.met for each in jobs_criteria.judge(results)}
    assert met == {"at most 9.049": True, "at most 1.299": False, "at most 0.525": False}


def test_files_of_a_disk_are_judged_by_bindfs() -> None:
    results = Results()
    for key, ours in (("disk-1", 1.0), ("disk-small", 3.0)):
        case = results.case(key, key, "s", BASELINE)
        case.add("onefs", ours)
        case.add(BASELINE, 2.0)
    assert [each.met for each in sources_criteria.judge(results)] == [True, False]


def test_tables_of_labs_have_the_wanted_sessions(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write(tmp_path / "labs", 6, 2, labs=(1, 2, 3))
    labs = pq.read_table(tmp_path / "labs/sessions.pqt")["lab"].to_pylist()
    assert labs == ["lab000", *2 * ["lab001"], *3 * ["lab002"]]
    write(tmp_path / "even", PER_LAB + 1, 1)
    labs = pq.read_table(tmp_path / "even/sessions.pqt")["lab"].to_pylist()
    assert labs == [*PER_LAB * ["lab000"], "lab001"]


def test_a_program_that_is_given_up_takes_its_children_with_it() -> None:
    script = "sleep 600 & echo $!; wait"
    try:
        with started(["sh", "-c", script], stdout=subprocess.PIPE) as shell:
            assert shell.stdout is not None
            child = int(shell.stdout.readline())
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    wait_until(lambda: _has_ended(child), 30, "the child has ended")


def _has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # it waits for its new parent

"""Sessions that are not cached: ``cp -r``, ``onefs get``, and two files of each of many."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from scripts.benchmarks.bench_run import Bench
from scripts.benchmarks.contenders import ONEFS, Contender, Onefs
from scripts.benchmarks.laboratory import Served, md5_of
from scripts.benchmarks.network import network_of
from scripts.benchmarks.processes import BenchmarkFailed, Command, run, timed

GET = "onefs get"
CURL = "curl --parallel"
CURL_MD5 = "curl --parallel and md5sum"
#: files of one session of which two are read, and the place of the first of these
_OF_SESSION = 40
_FIRST = 7
_CURL_MANY = ["curl", "-sf", "--parallel", "--remote-name-all", "--output-dir"]
#: the folder, then the URLs
_MANY_AND_MD5 = f'd="$1"; shift; {" ".join(_CURL_MANY)} "$d" "$@" && md5sum "$d"/*'
#: the file, then the URL
_ONE_AND_MD5 = 'curl -sf -o "$1" "$2" && md5sum "$1"'


def copy_session(bench: Bench, lab: str) -> None:
    """``cp -r`` of a session whose listing is known, against rclone and curl."""
    plan = bench.plan
    originals = bench.originals_of("copied", plan.session, plan.session_sizes)
    case = bench.results.case(
        f"copy-{lab}",
        f"cp -r of a cold session of {plan.session} files, listing known, {network_of(lab)}",
        "s",
        "rclone off",
        sum(each.size for each in originals),
    )
    sessions = [bench.laboratory.add_session(lab, originals) for _ in range(plan.small_runs)]
    with ExitStack() as stack:
        ours = bench.mount(stack, bench.onefs)
        rivals = [bench.mount(stack, make) for make in bench.rivals(lab, cached=False).values()]
        runs: dict[str, Callable[[int], float]] = {
            CURL: lambda n: _into_folder(bench, [*_CURL_MANY, "{}", *_urls(bench, sessions[n])]),
            **{each.name: partial(_copy, bench, each, sessions) for each in (ours, *rivals)},
        }
        case.measure(runs, plan.small_runs, before=bench.settle_small)
        for file in sessions[0]:
            compare(ours.path(file), file)


def two_of_each(bench: Bench) -> None:
    """Measure the bytes moved by a process that reads two files of each of many sessions."""
    plan = bench.plan
    originals = bench.originals_of("sparse", _OF_SESSION, plan.sparse_sizes)
    title = f"Two of {_OF_SESSION} files of each of {plan.sessions} sessions"
    moved = bench.results.case("sparse", f"{title}: bytes moved, times theirs", "times")
    asked = bench.results.case("sparse-requests", f"{title}: GET", "requests")
    for _ in range(2):
        sessions = [bench.laboratory.add_session("plain", originals) for _ in range(plan.sessions)]
        wanted = [file for session in sessions for file in session[_FIRST : _FIRST + 2]]
        with ExitStack() as stack:
            ours = bench.mount(stack, bench.onefs)
            mark = bench.origin.mark()
            timed(["cat", *(ours.path(file) for file in wanted)])
            sent = [each for each in bench.origin.requests(mark) if each.method == "GET"]
        size = sum(file.original.size for file in wanted)
        moved.add("onefs", sum(each.sent for each in sent) / size)
        asked.add("onefs", len(sent))


def get_large(bench: Bench) -> None:
    """``onefs get`` of a large file that is not cached, against curl followed by md5sum."""
    plan = bench.plan
    original = bench.original("large", plan.large)
    baseline = "curl, then md5sum"
    case = bench.results.case(
        "get-large", "A cold large file in a folder, verified", "s", baseline, plan.large
    )
    files = bench.laboratory.add_session("plain", [original] * plan.transfers)
    home = _home(bench)

    def get(number: int) -> float:
        seconds = timed([ONEFS, "get", files[number].in_mount], environment=home.environment)
        _release(home.cache / files[number].lab / "Subjects" / files[number].inside, original.size)
        return seconds

    def curl(number: int) -> float:
        target = bench.work / "curl.out"
        script = ["sh", "-c", _ONE_AND_MD5, "sh"]
        seconds = timed([*script, target, bench.url(files[number])])
        _release(target, original.size)
        return seconds

    case.measure({baseline: curl, GET: get}, plan.transfers, before=bench.settle)


def get_small(bench: Bench) -> None:
    """``onefs get`` of a session of many small files, against curl and md5sum."""
    plan = bench.plan
    originals = bench.originals_of("small", plan.small, plan.small_sizes)
    size = sum(each.size for each in originals)
    case = bench.results.case(
        "get-small", f"{plan.small} cold small files in a folder, verified", "s", CURL_MD5, size
    )
    sessions = [bench.laboratory.add_session("plain", originals) for _ in range(plan.small_runs)]
    home = _home(bench)
    script = ["sh", "-c", _MANY_AND_MD5, "sh", "{}"]

    def get(number: int) -> float:
        folder = os.path.dirname(os.path.dirname(sessions[number][0].in_mount))
        seconds = timed([ONEFS, "get", folder], environment=home.environment)
        for file in sessions[number]:
            _release(home.cache / file.lab / "Subjects" / file.inside, file.original.size)
        return seconds

    runs: dict[str, Callable[[int], float]] = {
        CURL_MD5: lambda n: _into_folder(bench, [*script, *_urls(bench, sessions[n])]),
        GET: get,
    }
    case.measure(runs, plan.small_runs, before=bench.settle_small)


def _home(bench: Bench) -> Onefs:
    """A home folder whose user is logged in, as after a first command."""
    [tiny] = bench.laboratory.add_session("plain", [bench.original("tiny", 1000)])
    home = Onefs(Path(tempfile.mkdtemp(dir=bench.work)), bench.servers)
    home.run("get", tiny.in_mount)
    return home


def _urls(bench: Bench, session: list[Served]) -> list[str]:
    return [bench.url(file) for file in session]


def _copy(bench: Bench, contender: Contender, sessions: list[list[Served]], number: int) -> float:
    folder = contender.path(sessions[number][0]).parents[1]
    run(["ls", "-lR", folder])
    seconds = _into_folder(bench, ["cp", "-r", folder, "{}"])
    contender.discard() if contender.name != "onefs" else None
    return seconds


def _into_folder(bench: Bench, command: Command) -> float:
    """Seconds of a program that fills a new folder, whose name replaces ``{}``.

    The files stay, without their bytes: see ``network.py``.
    """
    folder = Path(tempfile.mkdtemp(dir=bench.work))
    seconds = timed([folder if each == "{}" else each for each in command])
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        raise BenchmarkFailed("nothing was copied")
    for path in files:
        os.truncate(path, 0)
    return seconds


def _release(path: Path, size: int) -> None:
    """Give back the disk space of a file that must be there whole."""
    if path.stat().st_size != size:
        raise BenchmarkFailed(f"{path.name} has {path.stat().st_size} bytes, not {size}")
    os.truncate(path, 0)


def compare(path: Path, file: Served) -> None:
    """Raise BenchmarkFailed if a copy has other bytes than the original."""
    if md5_of(path) != file.original.md5:
        raise BenchmarkFailed(f"{file.in_mount} gave other bytes than the original")

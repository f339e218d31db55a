"""Cold reads over the network: whole files, first bytes, slices of arrays, many small files."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from scripts.benchmarks.bench_run import Bench, Make
from scripts.benchmarks.contenders import Contender
from scripts.benchmarks.laboratory import Served, md5_of
from scripts.benchmarks.memory import drop_pages
from scripts.benchmarks.processes import ROOT, BenchmarkFailed, Command, run, timed, wait_until
from scripts.benchmarks.results import Case

#: loads a header and one MiB from the place (0 to 1) given, one way or the other; prints its md5
_SLICE = """
import hashlib, sys
import numpy as np
path, way, place = sys.argv[1], sys.argv[2], float(sys.argv[3])
with open(path, "rb") as file:
    version = np.lib.format.read_magic(file)
    (count,), _, dtype = np.lib.format.read_array_header_1_0(file)
    header = file.tell()
start, length = int(count * place), (1 << 20) // dtype.itemsize
if way == "memmap":
    part = np.array(np.load(path, mmap_mode="r")[start : start + length])
else:
    part = np.fromfile(path, dtype, length, offset=header + start * dtype.itemsize)
print(hashlib.md5(part.tobytes()).hexdigest())
"""
_READERS = 8
_BARE = ROOT / "scripts/benchmarks/bare_download.py"
#: fetches URLs over one connection, a file each in a folder of its own, and hashes them
_IN_C = 'cd "$(mktemp -dp "$0")" && curl -sf --remote-name-all "$@" && md5sum -- *'


def sequential(bench: Bench, lab: str) -> None:
    """A large file that nobody has, from end to end, against curl."""
    plan = bench.plan
    repetitions = plan.transfers if lab == "plain" else plan.slow_transfers
    size = plan.large if lab == "plain" else plan.slow_large
    original = bench.original("large" if lab == "plain" else "slow-large", size)
    case = bench.results.case(
        f"sequential-{lab}", f"Cold sequential read, {network_of(lab)}", "s", "curl", size
    )
    files = bench.laboratory.add_session(lab, [original] * repetitions)
    with ExitStack() as stack:
        ours = bench.mount(stack, bench.onefs)
        runs: dict[str, Callable[[int], float]] = {
            "curl": lambda n: _curl(bench, files[n]),
            "onefs": lambda n: _whole(case, ours, files[n]),
        }
        few: dict[str, Callable[[int], float]] = {}
        for name, make in bench.rivals(lab).items():
            rival = bench.mount(stack, make)
            target = few if name == "httpdirfs" or lab == "slow" else runs
            target[name] = _reader(case, rival, files)
        case.measure(runs, repetitions, few, plan.few, bench.settle)


def first_byte(bench: Bench, lab: str) -> None:
    """From the start of a program to the first 64 KiB of a large file that nobody has."""
    plan = bench.plan
    original = bench.original("large", plan.large)
    case = bench.results.case(
        f"first-byte-{lab}", f"First 64 KiB of a cold large file, {network_of(lab)}", "s", "curl"
    )
    files = bench.laboratory.add_session(lab, [original] * plan.pairs)
    with ExitStack() as stack:
        runs: dict[str, Callable[[int], float]] = {
            "curl": lambda n: timed(
                ["curl", "-sf", "-r", "0-65535", "-o", "/dev/null", bench.url(files[n])]
            )
        }
        makes: dict[str, Make] = {"onefs": bench.onefs, **bench.rivals(lab)}
        for name, make in makes.items():
            runs[name] = _head(bench.mount(stack, make), files)
        case.measure(runs, plan.pairs)


def slices(bench: Bench, size: str, repetitions: int = 2) -> None:
    """MB that cross the network for the header of an array and one MiB from its middle.

    Each repetition is a mount that knows nothing; its listing counts.
    """
    wanted = bench.plan.array if size == "large" else bench.plan.medium
    original = bench.original(f"array-{size}", wanted, array=True)
    megabytes = round(original.size / 1e6)
    first = bench.results.case(
        f"slice-{size}", f"Header and 1 MiB of a cold {megabytes} MB array, and listing", "MB"
    )
    second = bench.results.case(
        f"second-slice-{size}", f"Then another MiB of the {megabytes} MB array", "MB"
    )
    makes: dict[tuple[str, str], Make] = {
        ("onefs", "fromfile"): bench.onefs,
        ("onefs", "memmap"): bench.onefs,
        **{(name, "fromfile"): make for name, make in bench.rivals("plain").items()},
    }
    [file] = bench.laboratory.add_session("plain", [original])
    right = {place: _read_slice(original.path, "fromfile", place) for place in (0.5, 0.8)}
    for _ in range(repetitions):
        for (name, way), make in makes.items():
            label = f"{name}, {way}" if name == "onefs" else name
            moved = _TransferCounter(bench)
            with ExitStack() as stack:
                path = bench.mount(stack, make).path(file)
                for case, place in ((first, 0.5), (second, 0.8)):
                    case.attempt(label, partial(_slice, moved, path, way, place, right[place]))


def small_files(bench: Bench, lab: str, *, listed: bool) -> None:
    """Many small files that nobody has, by eight readers; onefs compares each with its md5."""
    plan = bench.plan
    known = "listing known" if listed else "listing included"
    case = bench.results.case(
        f"small-{lab}{'' if listed else '-listing'}",
        f"{plan.small} cold small files, {_READERS} readers, {known}, {network_of(lab)}",
        "s",
        "rclone off",
    )
    originals = bench.originals_of("small", plan.small, plan.small_sizes)
    case.size = sum(original.size for original in originals)
    sessions = [bench.laboratory.add_session(lab, originals) for _ in range(plan.small_runs)]
    requests: list[tuple[int, int]] = []
    with ExitStack() as stack:
        ours = bench.mount(stack, bench.onefs)
        runs: dict[str, Callable[[int], float]] = {
            "a bare loop, no mount": lambda n: _bare(bench, sessions[n]),
            "curl and md5sum, no mount": lambda n: _in_c(bench, sessions[n]),
            "onefs": lambda n: _counted(bench, case, ours, sessions[n], requests, listed=listed),
        }
        for name, make in bench.rivals(lab, cached=False).items():
            runs[name] = _all_of(case, bench.mount(stack, make), sessions, listed=listed)
        case.measure(runs, plan.small_runs, before=bench.settle_small)
        for session in sessions[: len(requests)]:
            _verify(ours, session)
            _forget_pages(ours, session)
            again = partial(_seconds, ours, session)
            case.attempt("onefs, when it has them", again)
    counted = bench.results.case(f"{case.key}-requests", f"Requests for: {case.title}", "requests")
    for gets, others in requests:
        counted.add("onefs, GET", gets)
        counted.add("onefs, other than GET", others)


def connections(bench: Bench) -> None:
    """What the slow proxy itself can carry: eight connections of curl at once."""
    original = bench.original("large", bench.plan.large)
    [file] = bench.laboratory.add_session("slow", [original])
    part = original.size // _READERS
    case = bench.results.case(
        "proxy", "Eight connections of curl through the slow proxy", "s", size=original.size
    )
    commands = [
        f"curl -sf -r {n * part}-{(n + 1) * part - 1} -o /dev/null '{bench.url(file)}' &"
        for n in range(_READERS)
    ]
    case.measure({"curl": lambda n: timed(["sh", "-c", " ".join([*commands, "wait"])])}, 3)


def network_of(lab: str) -> str:
    added = {"slow": "20 ms", "far": "100 ms"}
    return f"{added[lab]} and 50 MB/s a connection" if lab in added else "loopback"


def _curl(bench: Bench, file: Served) -> float:
    target = bench.work / "curl.out"
    seconds = timed(["curl", "-sf", "-o", target, bench.url(file)])
    target.unlink()
    return seconds


def _whole(case: Case, ours: Contender, file: Served) -> float:
    """onefs: what matters is when the reader has the bytes; when they are proved is noted."""
    path = ours.path(file)
    path.stat()
    began, spent = time.perf_counter(), ours.cpu()
    seconds = _cat(path)
    wait_until(lambda: os.getxattr(path, "user.onefs.state") == b"cached", 120, "verified")
    case.add("onefs, until verified", time.perf_counter() - began)
    case.spent("onefs", ours.cpu() - spent)
    ours.discard()
    return seconds


def _reader(case: Case, rival: Contender, files: list[Served]) -> Callable[[int], float]:
    def read(number: int) -> float:
        path = rival.path(files[number])
        path.stat()
        spent = rival.cpu()
        seconds = _cat(path)
        case.spent(rival.name, rival.cpu() - spent)
        rival.discard()
        return seconds

    return read


def _cat(path: Path) -> float:
    return timed(["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"])


def _head(contender: Contender, files: list[Served]) -> Callable[[int], float]:
    def read(number: int) -> float:
        path = contender.path(files[number])
        path.stat()
        return timed(["head", "-c", "65536", path])

    return read


class _TransferCounter:
    """Bytes that the file server and Alyx have sent since the last question."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._mark = bench.origin.mark()
        bench.servers.clear_requests()

    def megabytes(self) -> float:
        sent = sum(request.sent for request in self._bench.origin.requests(self._mark))
        sent += sum(request.bytes for request in self._bench.servers.requests)
        self._mark = self._bench.origin.mark()
        self._bench.servers.clear_requests()
        return sent / 1e6


def _slice(moved: _TransferCounter, path: Path, way: str, place: float, right: str) -> float:
    if _read_slice(path, way, place) != right:
        raise BenchmarkFailed(f"{path} gave other bytes than the original")
    return moved.megabytes()


def _read_slice(path: Path, way: str, place: float) -> str:
    return run([sys.executable, "-c", _SLICE, path, way, str(place)])


def _bare(bench: Bench, session: list[Served]) -> float:
    return _fetched(bench, session, lambda folder: [sys.executable, _BARE, folder, str(_READERS)])


def _in_c(bench: Bench, session: list[Served]) -> float:
    each = str(-(-len(session) // _READERS))
    readers = ["xargs", "-P", str(_READERS), "-n", each, "sh", "-c", _IN_C]
    return _fetched(bench, session, lambda folder: [*readers, folder])


def _fetched(bench: Bench, session: list[Served], command: Callable[[Path], Command]) -> float:
    """Seconds of a program that puts what it fetches into a folder.

    The files stay, without their bytes: an ext4 without a journal makes new ones slowly for
    minutes after others were deleted, and those who come next would pay for it.
    """
    folder = Path(tempfile.mkdtemp(dir=bench.work))
    urls = "\n".join(bench.url(file) for file in session)
    seconds = timed(command(folder), given=urls)
    for path in folder.rglob("*.npy"):
        os.truncate(path, 0)
    return seconds


def _all_of(
    case: Case, contender: Contender, sessions: list[list[Served]], *, listed: bool
) -> Callable[[int], float]:
    return lambda number: _read_session(case, contender, sessions[number], listed=listed)


def _read_session(
    case: Case, contender: Contender, session: list[Served], *, listed: bool
) -> float:
    if listed:
        run(["ls", "-l", contender.path(session[0]).parent])
    spent = contender.cpu()
    seconds = _seconds(contender, session)
    case.spent(contender.name, contender.cpu() - spent)
    return seconds


def _seconds(contender: Contender, session: list[Served]) -> float:
    """What eight readers take for all files of a session, each for its share."""
    paths = "\n".join(str(contender.path(file)) for file in session)
    each = str(-(-len(session) // _READERS))
    return timed(["xargs", "-P", str(_READERS), "-n", each, "cat"], given=paths)


def _forget_pages(contender: Contender, session: list[Served]) -> None:
    """What the kernel has of these files by now, it asks for again."""
    for file in session:
        drop_pages(contender.path(file))


def _counted(
    bench: Bench,
    case: Case,
    ours: Contender,
    session: list[Served],
    requests: list[tuple[int, int]],
    *,
    listed: bool,
) -> float:
    mark = bench.origin.mark()
    seconds = _read_session(case, ours, session, listed=listed)
    paths = {"/" + file.on_server for file in session}
    found = [each.method for each in bench.origin.requests(mark) if each.path in paths]
    gets = found.count("GET")
    requests.append((gets, len(found) - gets))
    return seconds


def _verify(ours: Contender, session: list[Served]) -> None:
    for file in session:
        if md5_of(ours.path(file)) != file.original.md5:
            raise BenchmarkFailed(f"{file.in_mount} gave other bytes than the original")

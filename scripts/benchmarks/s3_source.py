"""Files of a bucket: onefs against boto3, s3fs and rclone's mount of the same server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from scripts.benchmarks import contenders
from scripts.benchmarks.bench_run import Bench
from scripts.benchmarks.contenders import RCLONE_MODES, Contender, Onefs, installed
from scripts.benchmarks.copies import compare
from scripts.benchmarks.laboratory import ACCESS_KEY, BUCKET, SECRET_KEY, Original, Served
from scripts.benchmarks.processes import (
    BenchmarkFailed,
    free_port,
    listens,
    module_command,
    run,
    running,
    wait_until,
)

BOTO3, S3FS, HTTP = "boto3", "s3fs", "onefs, same files over HTTP (nginx)"
_LABS = (BUCKET, "plain")
#: sessions by lab and repetition
_Sessions = dict[str, list[list[Served]]]


def s3_large(bench: Bench) -> None:
    """A large file that nobody has, against boto3's ``download_file``."""
    plan = bench.plan
    sessions = _sessions(bench, [bench.original("large", plan.large)], plan.transfers)
    case = bench.results.case(
        "s3-large", "A cold large file of a bucket, one reader", "s", BOTO3, plan.large
    )
    with _bucket_server(bench) as endpoint, ExitStack() as stack:
        library = {BOTO3: partial(_library, bench, BOTO3, endpoint, sessions)}
        mounts = _mounts(bench, stack, endpoint, sessions)
        case.measure({**library, **mounts}, plan.transfers, before=bench.settle)


def s3_small(bench: Bench) -> None:
    """Many small files that nobody has, one after another, against s3fs."""
    plan = bench.plan
    originals = bench.originals_of("small", plan.small, plan.small_sizes)
    sessions = _sessions(bench, originals, plan.small_runs)
    title = f"{plan.small} cold small files of a bucket, one after another, listing known"
    size = sum(each.size for each in originals)
    case = bench.results.case("s3-small", title, "s", S3FS, size)
    with _bucket_server(bench) as endpoint, ExitStack() as stack:
        libraries = {
            kind: partial(_library, bench, kind, endpoint, sessions) for kind in (S3FS, BOTO3)
        }
        mounts = _mounts(bench, stack, endpoint, sessions)
        case.measure({**libraries, **mounts}, plan.small_runs, before=bench.settle_small)


def _sessions(bench: Bench, originals: list[Original], repetitions: int) -> _Sessions:
    add = bench.laboratory.add_session
    return {lab: [add(lab, originals) for _ in range(repetitions)] for lab in _LABS}


@contextmanager
def _bucket_server(bench: Bench) -> Iterator[str]:
    """The folder of the file server as buckets, by ``rclone serve s3``, which checks signatures."""
    if not installed("rclone"):
        raise BenchmarkFailed("rclone is not installed")
    port = free_port()
    command: list[str | Path] = [
        "rclone", "serve", "s3", bench.origin.root, "--addr", f"127.0.0.1:{port}", "--read-only",
        "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-read-chunk-size", "0",
        # or it reads a whole object before each answer; files are new, so it looks at each
        "--etag-hash", "", "--dir-cache-time", "0", "--config", bench.work / "none.conf",
    ]  # fmt: skip
    with running(command, bench.work / "s3.log"):
        wait_until(lambda: listens(port), 20, "rclone serves the bucket")
        yield f"http://127.0.0.1:{port}"


def _mounts(
    bench: Bench, stack: ExitStack, endpoint: str, sessions: _Sessions
) -> dict[str, Callable[[int], float]]:
    """Return what reads through onefs, from the bucket and from nginx, and through rclone."""
    ours = bench.mount(stack, partial(_onefs, bench, endpoint))
    runs: dict[str, Callable[[int], float]] = {
        "onefs": partial(_mounted, bench, ours, sessions[BUCKET]),
        HTTP: partial(_mounted, bench, ours, sessions["plain"]),
    }
    server = [
        ":s3:", "--s3-provider", "Rclone", "--s3-endpoint", endpoint,
        "--s3-access-key-id", ACCESS_KEY, "--s3-secret-access-key", SECRET_KEY,
    ]  # fmt: skip
    for mode in RCLONE_MODES:
        rival = bench.mount(stack, partial(contenders.rclone, server=server, mode=mode))
        runs[rival.name] = partial(_mounted, bench, rival, sessions[BUCKET])
    return runs


def _onefs(bench: Bench, endpoint: str, work: Path) -> AbstractContextManager[Contender]:
    work.mkdir(parents=True)
    return contenders.mounted(Onefs(work, bench.servers, ONEFS_S3_ENDPOINT=endpoint))


def _mounted(
    bench: Bench, contender: Contender, sessions: list[list[Served]], number: int
) -> float:
    """Seconds in which a program reads the files of a mount whose listing is known."""
    files = [contender.path(file) for file in sessions[number]]
    run(["ls", "-lR", files[0].parent])
    seconds = _read(bench, "files", "", bench.work, list(map(str, files)))
    if contender.name == "onefs":
        compare(files[0], sessions[number][0])
    contender.discard()
    return seconds


def _library(bench: Bench, kind: str, endpoint: str, sessions: _Sessions, number: int) -> float:
    """Seconds in which a library reads the objects."""
    if find_spec(kind) is None:
        raise BenchmarkFailed(f"{kind} is not installed")
    objects = [file.on_server for file in sessions[BUCKET][number]]
    folder = Path(tempfile.mkdtemp(dir=bench.work))
    seconds = _read(bench, kind, endpoint, folder, objects)
    if kind == BOTO3:
        first = sessions[BUCKET][number][0]
        compare(folder / Path(first.on_server).name, first)
    shutil.rmtree(folder)
    return seconds


def _read(bench: Bench, kind: str, endpoint: str, folder: Path, paths: list[str]) -> float:
    return float(run(module_command("s3_readers", kind, endpoint, folder, *paths)))

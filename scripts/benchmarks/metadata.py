"""What listing costs: onefs over the embedded server, bindfs, and HTTP mounts over nginx listings.

Rows of one table were measured in one run, in turns; compare them with one another only. Times are
medians, in seconds. "kernel cold": the kernel's own caches were dropped (root only).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

LAB = "lab00"
#: the folder of 10,000 files: 5 subjects of 50 sessions of 40 datasets
SUBJECTS = [f"{LAB}_{number:03d}" for number in range(5)]
ONEFS = [sys.executable, "-c", "from onefs.cli import main; main()"]
COMMANDS = {
    "ls -lR": ["ls", "-lR"],
    "find": ["find"],
    "find -printf %s": ["find", "-printf", "%s\\n"],
}


def timed(command: list[str], folders: list[Path]) -> float:
    """Seconds that ``command`` takes over folders."""
    began = time.perf_counter()
    subprocess.run(
        [command[0], *(command[1:] if command[0] == "ls" else []), *map(str, folders)]
        + (command[1:] if command[0] == "find" else []),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def drop_caches() -> bool:
    """Make the kernel forget names and attributes; False where that is not allowed."""
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError:
        return False
    return True


@contextmanager
def demo(folder: Path, sessions: int) -> Iterator[tuple[dict[str, str], Path]]:
    """The embedded servers in a process of their own: where they are, and their access log."""
    log = folder / "access.log"
    command = [sys.executable, "-m", "onefs.demo", "--sessions", str(sessions), "--datasets", "40"]
    with subprocess.Popen(
        [*command, "--access-log", str(log), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield json.loads(process.stdout.readline()), log
        process.stdin.close()


def requests(log: Path) -> Counter[str]:
    """How often each list was asked for so far."""
    lines = map(json.loads, log.read_text().splitlines())
    return Counter(line["path"].partition("?")[0] for line in lines)


@contextmanager
def onefs(folder: Path, ready: dict[str, str]) -> Iterator[tuple[Path, int, float]]:
    """A mount: its folder, its daemon, and the seconds that mounting took."""
    place = folder / "onefs"
    environment = os.environ | {
        "ONEFS_URL": ready["alyx_url"],
        "ONEFS_USERNAME": ready["username"],
        "ONEFS_PASSWORD": ready["password"],
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    began = time.perf_counter()
    subprocess.run([*ONEFS, "mount", str(place)], env=environment, check=True)
    seconds = time.perf_counter() - began
    status = subprocess.run(
        [*ONEFS, "status", "--json"], env=environment, check=True, capture_output=True
    ).stdout
    pid = next(m["pid"] for m in json.loads(status)["mounts"] if m["mountpoint"] == str(place))
    try:
        yield place, pid, seconds
    finally:
        subprocess.run([*ONEFS, "umount", str(place)], env=environment, check=True)


@contextmanager
def fuse(place: Path, command: list[str]) -> Iterator[Path]:
    """Another program's mount at ``place``; ``command`` returns once it is there."""
    place.mkdir()
    subprocess.run(command, check=True)
    try:
        end = time.monotonic() + 20
        while not os.path.ismount(place) and time.monotonic() < end:
            time.sleep(0.05)
        yield place
    finally:
        subprocess.run(["fusermount3", "-u", str(place)], check=True)


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    """``root`` as listings of nginx: its URL."""
    port = 8899
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; user {Path.home().owner()}; pid {folder}/nginx.pid; error_log stderr error;"
        f"events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {root};"
        f" autoindex on; }} }}"
    )
    with subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        time.sleep(1)
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


def copy_shape(source: Path, target: Path) -> int:
    """The same folders and files, of the same sizes and without contents: how many files."""
    count = 0
    for folder, _, names in os.walk(source):
        here = target / os.path.relpath(folder, source)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            with (here / name).open("wb") as file:
                file.truncate(os.stat(os.path.join(folder, name)).st_size)
            count += 1
    return count


def resident(pid: int) -> float:
    """MiB of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def kernel_inodes() -> int:
    """Inodes of FUSE that the kernel holds, 0 where it does not say."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("fuse_inode")), 0)


def measure(mounts: dict[str, Path], repeats: int, *, cold: bool) -> dict[str, dict[str, float]]:
    """Medians of each command on 10,000 files of each mount, in turns."""
    found: dict[str, dict[str, list[float]]] = {}
    for command in COMMANDS:
        for _ in range(repeats):
            for name, root in mounts.items():
                if cold and not drop_caches():
                    return {}
                seconds = timed(COMMANDS[command], [root / LAB / subject for subject in SUBJECTS])
                found.setdefault(command, {}).setdefault(name, []).append(seconds)
    return {
        command: {name: statistics.median(times) for name, times in row.items()}
        for command, row in found.items()
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}")
    for command, row in rows.items():
        base = row.get("bindfs")
        cells = (f"{n} {t:.3f}" + (f" ({t / base:.2f})" if base else "") for n, t in row.items())
        print(f"  {command:18}", "   ".join(cells))


def stat_rate(root: Path) -> float:
    """``stat`` calls a second on the files of one session, as the kernel answers them itself."""
    folder = next((root / LAB / SUBJECTS[0]).iterdir()) / "001" / "alf"
    names = [path for path in folder.iterdir() if path.is_file()]
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 1:
        for path in names:
            os.stat(path)
        count += len(names)
    return count / (time.perf_counter() - began)


def first_walks(place: Path, pid: int, log: Path, ready_in: float) -> None:
    """The lab of 1,000 sessions, cold and warm, and what the server was asked for."""
    before = requests(log)
    cold = timed(["find"], [place / LAB])
    asked = requests(log) - before
    warm = timed(["find"], [place / LAB])
    again = requests(log) - before - asked
    print(f"mounted in {ready_in:.2f} s")
    print(f"find of {LAB}: cold {cold:.2f} s, {sum(asked.values())} requests {dict(asked)}")
    print(f"               again {warm:.2f} s, {sum(again.values())} requests")
    session = next((place / LAB / SUBJECTS[0]).iterdir()) / "001"
    print(f"ls -lR of a session: {timed(['ls', '-lR'], [session]):.3f} s")
    print(f"stat: {stat_rate(place):,.0f} a second")
    inodes = kernel_inodes()
    own = resident(pid) - inodes * 300 / 2**20
    print(
        f"memory: {resident(pid):.0f} MiB, less 300 B for each of {inodes:,} inodes {own:.0f} MiB"
    )


def everything(place: Path, pid: int, log: Path) -> None:
    """A ``find`` over all labs: time, requests, and the daemon's memory on the way."""
    before, began = requests(log), time.perf_counter()
    process = subprocess.Popen(["find", str(place)], stdout=subprocess.DEVNULL)
    curve = []
    while process.poll() is None:
        time.sleep(2)
        own = resident(pid) - kernel_inodes() * 300 / 2**20
        curve.append(f"{own:.0f}")
    seconds = time.perf_counter() - began
    asked = requests(log) - before
    print(f"\nfind of everything: {seconds:.0f} s, {sum(asked.values())} requests")
    print("memory less 300 B an inode, MiB, every 2 s:", " ".join(curve))


def one_search(ready: dict[str, str], place: Path, folder: Path) -> None:
    """ONE-api's search of a subject, and ``ls`` of it."""
    try:
        from one.api import ONE
    except ImportError:
        return
    one: Any = ONE(
        base_url=ready["alyx_url"],
        username=ready["username"],
        password=ready["password"],
        cache_dir=folder / "one",
        silent=True,
        mode="remote",
    )
    subject = f"{LAB}_010"
    began = time.perf_counter()
    one.search(subject=subject, query_type="remote")
    search = time.perf_counter() - began
    print(f"\nONE-api search(subject) {search:.3f} s; ", end="")
    print(f"ls of the subject {timed(['ls'], [place / LAB / subject]):.3f} s")


def peers(stack: ExitStack, folder: Path, real: Path) -> dict[str, Path]:
    """The other programs' mounts of the real tree."""
    found: dict[str, Path] = {}
    makers: dict[str, Callable[[str, str], list[str]]] = {
        "rclone": lambda url, place: [
            "rclone", "mount", "--daemon", "--read-only", f":http,url='{url}':", place,
        ],
        "httpdirfs": lambda url, place: ["httpdirfs", url, place],
    }  # fmt: skip
    if shutil.which("bindfs"):
        place = folder / "bindfs"
        found["bindfs"] = stack.enter_context(fuse(place, ["bindfs", str(real), str(place)]))
    if shutil.which("nginx"):
        url = stack.enter_context(nginx(folder, real))
        for name, make in makers.items():
            if shutil.which(name):
                place = folder / name
                found[name] = stack.enter_context(fuse(place, make(url, str(place))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--everything", action="store_true", help="also find over all labs")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ready, log = stack.enter_context(demo(folder, given.sessions))
        place, pid, seconds = stack.enter_context(onefs(folder, ready))
        first_walks(place, pid, log, seconds)
        one_search(ready, place, folder)
        real = folder / "real"
        for subject in SUBJECTS:
            copy_shape(place / LAB / subject, real / LAB / subject)
        real.chmod(0o755)
        folder.chmod(0o755)
        others = peers(stack, folder, real)
        both = {"onefs": place, **{n: p for n, p in others.items() if n == "bindfs"}}
        show(
            "10,000 files, kernel cold (in brackets: of bindfs)",
            measure(both, given.repeats, cold=True),
        )
        show("10,000 files, kernel warm", measure(both, given.repeats, cold=False))
        slow = {n: p for n, p in others.items() if n != "bindfs"}
        show("10,000 files over nginx listings, kernel cold", measure(slow, 1, cold=True))
        if given.everything:
            everything(place, pid, log)


if __name__ == "__main__":
    main()

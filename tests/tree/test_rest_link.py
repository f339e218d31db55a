"""Tests of ``.rest``: its folder, and the removal of folders that no process can still use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import pytest

from onefs.lowlevel.pids import UNUSED_DAYS, pid_namespace_id
from onefs.tree.rest_link import RestLink
from tests.running import run

ROOT = Path(__file__).parents[2]
OLD = time.time() - (UNUSED_DAYS + 1) * 86400
#: what a folder of another host, boot or container is named
ELSEWHERE = "0123456789ab"


def ended() -> int:
    """Return the pid of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def follow(root: Path, caller: int = 0) -> Path:
    return Path(RestLink(root, 0.0).read_target(caller or os.getpid()))


def made(root: Path, name: str, used: float = 0.0) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "answer").write_text("kept")
    if used:
        os.utime(folder, (used, used))
    return folder


def test_the_folder_of_an_ended_process_is_removed(tmp_path: Path) -> None:
    space = pid_namespace_id()
    gone = made(tmp_path, f"{ended()}-{space}")
    running = made(tmp_path, f"{os.getppid()}-{space}", OLD)
    unknown = made(tmp_path, f"0-{space}")
    assert follow(tmp_path).is_dir()
    assert not gone.exists()
    assert running.exists()
    assert unknown.exists()


@pytest.mark.parametrize("end", [f"-{ELSEWHERE}", ""], ids=["another host", "before"])
def test_the_folder_of_the_same_pid_elsewhere_stays(tmp_path: Path, end: str) -> None:
    recent = [made(tmp_path, f"{ended()}{end}"), made(tmp_path, f"{os.getppid()}{end}")]
    unused = made(tmp_path, f"{os.getpid()}{end}", OLD)
    mine = follow(tmp_path)
    assert mine not in (*recent, unused)
    assert all((each / "answer").read_text() == "kept" for each in recent)
    assert not unused.exists()


def test_other_folders_stay(tmp_path: Path) -> None:
    names = ["notes", f"-{ELSEWHERE}", "12x", f"²-{ELSEWHERE}", ".hidden"]
    others = [made(tmp_path, name, OLD) for name in names]
    follow(tmp_path)
    assert all(each.exists() for each in others)


def test_a_folder_is_marked_as_used_once_a_day(tmp_path: Path) -> None:
    mine = follow(tmp_path)
    os.utime(mine, (OLD, OLD))
    assert follow(tmp_path) == mine
    assert mine.stat().st_mtime > time.time() - 3600
    before = mine.stat().st_mtime_ns
    follow(tmp_path)
    assert mine.stat().st_mtime_ns == before


def test_two_containers_with_the_same_pids_have_separate_folders(tmp_path: Path) -> None:
    """Two pid namespaces share the folder. Each has a process 1 that is invisible to the other."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no pid namespaces here")
    code = (
        "import os, sys; from pathlib import Path; from onefs.tree.rest_link import RestLink\n"
        "link = RestLink(Path(sys.argv[1]), 0.0)\n"
        "print(os.getpid(), link.read_target(os.getpid()), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [*unshare, sys.executable, "-c", code]
    pipe = subprocess.PIPE
    first = subprocess.Popen([*command, tmp_path], stdin=pipe, stdout=pipe, cwd=ROOT)
    try:
        assert first.stdout is not None
        pid, folder = first.stdout.readline().decode().split()
        second = run([*command, str(tmp_path)], cwd=ROOT)
        other_pid, other_folder = second.stdout.split()
        assert pid == other_pid == "1"
        assert folder != other_folder
        follow(tmp_path)  # of this process, in a third
        assert Path(folder).is_dir()
    finally:
        first.communicate(b"", timeout=60)

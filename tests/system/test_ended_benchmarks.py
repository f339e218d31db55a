"""A benchmark that is ended by a signal leaves no mount, no process and no folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cleanup import mounts_below, sweep
from tests.required_programs import require_program
from tests.running import wait_until

ROOT = Path(__file__).parents[2]
#: seconds for a busy machine to get to the first mount, and to undo everything
_PATIENCE_SECONDS = 120


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that have to do with ``folder``."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                command = (process / "cmdline").read_bytes()
                place = os.fsencode(os.readlink(process / "cwd"))
                home = (process / "environ").read_bytes()
            except OSError:  # it has ended, or is the kernel's
                continue
            wanted = os.fsencode(folder)
            if wanted in command or place.startswith(wanted) or b"=" + wanted in home:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("benchmark", "case", "number"),
    [("read", "open", signal.SIGTERM), ("read", "small", signal.SIGINT),
     ("walks", "growth", signal.SIGTERM)],
)  # fmt: skip
def test_a_signal_undoes_mounts_servers_and_folders(
    benchmark: str, case: str, number: signal.Signals, tmp_path: Path
) -> None:
    if benchmark == "read":
        require_program("nginx", "nginx-light")
    work = tmp_path / "work"
    work.mkdir()
    command: list[str | Path] = [
        sys.executable,
        ROOT / f"scripts/benchmarks/{benchmark}.py",
        "--quick",
    ]
    environment = os.environ | {"TMPDIR": str(work), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "--only", case, "--out", tmp_path / "out"],
            env=environment,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until(
                lambda: mounts_below(work) or process.poll() is not None,
                _PATIENCE_SECONDS,
                "something is mounted",
            )
            assert process.poll() is None, log.read_text()
            process.send_signal(number)
            code = process.wait(_PATIENCE_SECONDS)
            said = log.read_text()
            assert (code, "Traceback" in said) == (128 + number, False), said
            assert mounts_below(work) == []
            # a daemon ends on its own once it has nothing to serve
            wait_until(lambda: not processes_of(work), 30, f"all end: {processes_of(work)}")
            assert os.listdir(work) == []
        finally:
            process.kill()
            sweep(work)

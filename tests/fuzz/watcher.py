"""The watching process: runs inputs in a child, and notices what a child cannot say of itself."""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from onefs.lowlevel.files import wait_readable
from tests.fuzz.faults import is_harmless
from tests.fuzz.server import LyingLaboratory, Record
from tests.fuzz.specs import Json

_CHECKOUT = Path(__file__).parents[2]
#: seconds of the child's own CPU time in which no other thread of it ran
FROZEN_SECONDS = 2.0
#: the same by the clock, for a child that neither runs nor computes
STUCK_SECONDS = 60.0
#: seconds that one operation may take; its deadlines are below two
LONGEST_OPERATION_SECONDS = 45.0
MOST_MEMORY_BYTES = 300 << 20
#: seconds within which all is right again; pauses are below one
HEALING_SECONDS = 4.0
#: the same for an input that was wrong once, and runs alone
CONFIRM_HEALING_SECONDS = 20.0
#: a child as large is ended at once
_KILL_AT_BYTES = 1500 << 20
#: a child that has become so large by itself is replaced, so that each input meets the same
_LARGE_BYTES = 160 << 20
_POLL_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")
_UUID = re.compile(r"\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=\.|$)")
_FRAME = re.compile(r'File "([^"]*)", line \d+,? in (\S+)')
#: what a thread does that waits
_WAITING = ("threading.py", "selectors.py", "socket.py", "child.py", "queue.py", "connection.py")


@dataclass(frozen=True)
class Finding:
    """What is wrong with an input."""

    #: freeze, memory, hang, traceback, raised, harmless, lasting ...
    kind: str
    #: where or what, without what differs from input to input
    where: str
    detail: str = ""

    @property
    def signature(self) -> str:
        """What tells faults apart."""
        return f"{self.kind}: {self.where}"


class _Ended(Exception):
    """The child was ended, or has ended."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.signature)
        self.finding = finding


class Watcher:
    """Runs inputs against one laboratory, one after the other. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._laboratory = LyingLaboratory(folder / "files")
        self._child: _Child | None = None
        self._truth: Json = None

    def __enter__(self) -> Watcher:
        self._laboratory.__enter__()
        found = self.run({"faults": [], "operations": [], "early": False, "reopen": False})
        if found is not None or not self._truth:
            raise RuntimeError(f"the laboratory is not right without any fault: {found}")
        return self

    def __exit__(self, *_: object) -> None:
        self._end_child()
        self._laboratory.__exit__()

    def confirm(self, found: Json) -> Finding | None:
        """What is wrong with an input that runs alone, in a fresh child, with time to heal."""
        self._end_child()
        try:
            return self.run(found, CONFIRM_HEALING_SECONDS)
        finally:
            self._end_child()

    def run(self, found: Json, healing: float = HEALING_SECONDS) -> Finding | None:
        """Run one input: what is wrong, if anything; ``healing`` seconds after its faults."""
        work = self._folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        child = self._child = self._child or _Child(self._folder)
        child.begin()
        try:
            finding = self._talk(child, found, work, healing)
        except _Ended as ended:
            finding = ended.finding
            self._end_child()
        finally:
            self._laboratory.stop_lying()
        if self._child is not None:
            finding = finding or child.traceback()
            if child.peak() > MOST_MEMORY_BYTES:
                finding = finding or Finding("memory", "peak", f"{child.peak() >> 20} MiB")
            if finding is not None or child.resident() > _LARGE_BYTES:
                self._end_child()
        return finding

    def _talk(self, child: _Child, found: Json, work: Path, healing: float) -> Finding | None:
        laboratory = self._laboratory
        harmless = all(is_harmless(fault) for fault in found["faults"])
        child.send(
            {
                "input": found,
                "folder": str(work),
                "healing": healing,
                "login": asdict(laboratory.login),
                "alyx_url": laboratory.alyx_url,
                "data_url": laboratory.data_url,
                "truth": self._truth,
                "harmless": harmless and self._truth is not None and bool(found["faults"]),
            }
        )
        while True:
            said = child.receive()
            if "seen" in said:
                self._truth = said["seen"]
            elif "findings" in said:
                return _finding(said["findings"][0]) if said["findings"] else None
            elif said["at"] == "open":
                child.send({})
            elif said["at"] == "lie":
                laboratory.lie(found["faults"])
                child.send({})
            elif said["at"] == "right":
                record = laboratory.stop_lying()
                child.send(
                    {
                        "alyx": record.alyx,
                        "tables": record.tables,
                        "spared": _paths_with_proof(record),
                    }
                )

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _Child:
    def __init__(self, folder: Path) -> None:
        self._beat = folder / "beat"
        self._beat.write_bytes(bytes(8))
        self._file = self._beat.open("r+b")
        self._count = mmap.mmap(self._file.fileno(), 8)
        self._log = (folder / "log").open("wb+", buffering=0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.child", str(self._beat)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=_CHECKOUT,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._wishes, self._reports = self._process.stdin, self._process.stdout
        self._doing = "start"
        self._buffer = b""
        self._below = 0

    def begin(self) -> None:
        """Forget what was logged and how much memory there was."""
        self._below = 0
        self._log.seek(0)
        self._log.truncate()
        with suppress(OSError):
            Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def send(self, message: Json) -> None:
        """Tell the child something."""
        try:
            self._wishes.write(json.dumps(message).encode() + b"\n")
            self._wishes.flush()
        except OSError:
            raise _Ended(Finding("died", self._doing, self.log_text())) from None

    def receive(self) -> Json:
        """What it says next. Raises _Ended when it froze, grew, hung or died before."""
        began = last_beat = time.monotonic()
        count, cpu = self._beats(), self._cpu()
        while b"\n" not in self._buffer:
            if wait_readable(self._reports, _POLL_SECONDS):
                piece = os.read(self._reports.fileno(), 1 << 20)
                if not piece:
                    raise _Ended(Finding("died", self._doing, self.log_text()[-500:]))
                self._buffer += piece
            now = time.monotonic()
            if (beats := self._beats()) != count or not count:
                count, cpu, last_beat = beats, self._cpu(), now
            self._judge(now - began, now - last_beat, self._cpu() - cpu)
        line, _, self._buffer = self._buffer.partition(b"\n")
        said = json.loads(line)
        self._doing = said.get("at", self._doing)
        return said

    def traceback(self) -> Finding | None:
        """What the log has of exceptions that were not foreseen."""
        text = self.log_text()
        if "Traceback (most recent call last)" not in text:
            return None
        ours = [frame for frame in _FRAME.findall(text) if "/onefs/" in frame[0]]
        where = f"{Path(ours[-1][0]).name}:{ours[-1][1]}" if ours else "elsewhere"
        names = re.findall(r"^([\w.]*(?:Error|Exception|Interrupt|Exit)\w*)\b", text, re.M)
        return Finding("traceback", f"{names[-1] if names else '?'} in {where}", text[-1500:])

    def peak(self) -> int:
        """Bytes of memory at the most since :meth:`begin`, of it or a process that it started."""
        return max(_status(self._process.pid, "VmHWM"), self._below)

    def resident(self) -> int:
        """Bytes of memory now."""
        return _status(self._process.pid, "VmRSS")

    def end(self) -> None:
        """Kill it, and the processes that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for each in (self._wishes, self._reports, self._log, self._file):
            with suppress(OSError):
                each.close()

    def log_text(self) -> str:
        """What it has logged of this input."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def _judge(self, running: float, since_beat: float, computed: float) -> None:
        if computed > FROZEN_SECONDS or since_beat > STUCK_SECONDS:
            detail = f"{self._doing}: no other thread ran for {since_beat:.1f} s"
            raise _Ended(Finding("freeze", self._where(), detail))
        for started in self._started() if self._doing == "sync" else ():
            self._below = max(self._below, _status(started, "VmHWM"))
        if self.resident() > _KILL_AT_BYTES:
            raise _Ended(Finding("memory", "peak", f"{self.peak() >> 20} MiB in {self._doing}"))
        if running > LONGEST_OPERATION_SECONDS:
            raise _Ended(Finding("hang", self._doing, self._where()))

    def _where(self) -> str:
        """The function that the child is in, as well as its stacks tell."""
        before = len(self.log_text())
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR2)
        time.sleep(1.0)
        for stack in re.split(r"\n(?=(?:Current t|T)hread )", self.log_text()[before:]):
            frames = _FRAME.findall(stack)
            if not frames or Path(frames[0][0]).name in _WAITING:
                continue
            ours = [frame for frame in frames if "/onefs/" in frame[0]]
            if ours:
                return f"{Path(ours[0][0]).name}:{ours[0][1]}"
        return "unknown"

    def _beats(self) -> int:
        number: int = struct.unpack("Q", self._count[:8])[0]
        return number

    def _cpu(self) -> float:
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return 0.0
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _started(self) -> Iterator[int]:
        """The processes that it has started, and that run."""
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid != int(name):
                    yield int(name)


def _status(pid: int, name: str) -> int:
    """Bytes that the kernel states of a process; 0 of one that has gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    match = re.search(rf"{name}:\s*(\d+) kB", text)
    return int(match[1]) << 10 if match else 0


def _finding(text: str) -> Finding:
    """A finding of the child. What differs from input to input is no part of its place."""
    if text.startswith("raised "):
        kind, where = "raised", text.removeprefix("raised ").partition(": ")[0]
    else:
        kind, _, where = text.partition(": ")
        where = _where(where)
    return Finding(kind, where, text)


def _where(difference: str) -> str:
    """Of a difference what kind of thing it is about, and the error that is seen."""
    match = re.match(r"(.*?) (is|should not be there:) ((?:error )?\w+)", difference)
    if match is None:
        return re.sub(r"\d+", "N", difference)[:80]
    path, _, seen = match.groups()
    if not path.startswith("/"):
        return f"{seen} at {path}"
    return f"{seen} at a {'file' if '.' in path.rpartition('/')[2] else 'folder'}"


def _paths_with_proof(record: Record) -> list[str]:
    """Paths of the tree about which more was said than a single mishap."""
    found = []
    for path, lies in record.lies.items():
        parts = unquote(path).split("/")
        if lies > 1 and "Subjects" in parts:
            at = parts.index("Subjects")
            name = _UUID.sub("", parts[-1])
            found.append("/" + "/".join([parts[at - 1], *parts[at + 1 : -1], name]))
    return found

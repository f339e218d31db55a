"""Progress at a terminal: a bar for each file and a total, below what is printed. Else nothing."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from onefs.cli.options import say, say_path
from onefs.cli.status import format_size
from onefs.printable import plural, printable

#: seconds between two looks, and how far back the rate looks
REDRAW_SECONDS = 0.1
RATE_WINDOW_SECONDS = 5.0
#: characters of a bar
BAR_CHARACTERS = 20
#: characters below which no bar is drawn, and that a file's name gets before a bar does
NARROWEST = 5
NAME = 24
#: bars of files at once
MAX_BARS = 8


class ProgressBars:
    """How far files are. Thread-safe. Counts everywhere, and shows it only at a terminal.

    ``count`` and ``total`` are files and bytes in all. ``look`` is called before each redrawing,
    for who has to ask how far things are.
    """

    def __init__(
        self, count: int, total: int, poll: Callable[[ProgressBars], None] = lambda progress: None
    ) -> None:
        self._count = count
        self._total = total
        self._poll = poll
        self._lock = threading.RLock()
        #: files under way: bytes done and in all, by name
        self._files: dict[str, tuple[int, int]] = {}
        self._ended_files = 0
        #: bytes of files that have ended, and bytes that came while we looked
        self._ended_bytes = 0
        self._received_bytes = 0
        self._rate_samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._drawn_lines = 0
        self._stop = threading.Event()
        self._is_enabled = sys.stderr is not None and sys.stderr.isatty()
        self._thread = threading.Thread(
            target=self._redraw_periodically, name="onefs-progress", daemon=True
        )

    def __enter__(self) -> ProgressBars:
        if self._is_enabled:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._is_enabled:
            # no limit: it ends within STEP, unless the terminal takes nothing more
            self._thread.join()
            with self._lock:
                self._clear()

    def update(self, name: str, done: int, whole: int) -> None:
        """So many bytes of a file are done, of ``whole`` (0 when nobody knows)."""
        with self._lock:
            before = self._files.get(name)
            if before is not None:
                self._received_bytes += max(0, done - before[0])
            self._files[name] = (done, whole)

    def finish(self, name: str, whole: int) -> None:
        """A file is done with, whose part of the total is ``whole``."""
        with self._lock:
            before = self._files.pop(name, None)
            if before is not None:
                self._received_bytes += max(0, whole - before[0])
            self._ended_files += 1
            self._ended_bytes += whole

    def say(self, line: str, *, err: bool = False) -> None:
        """Print a line above the bars."""
        with self._lock:
            self._clear()
            say(line, err=err)

    def say_path(self, path: Path | None) -> None:
        """Print a path above the bars."""
        with self._lock:
            self._clear()
            say_path(path)

    def render_lines(self, columns: int) -> list[str]:
        """Return the bars and the total below them, each within ``columns`` characters."""
        with self._lock:
            files = list(self._files.items())
            done = self._ended_bytes + sum(each for _, (each, _) in files)
            rate = self._bytes_per_second()
            shown = [
                _file_line(each, whole, printable(name), columns)
                for name, (each, whole) in files[:MAX_BARS]
            ]
            left = max(0, self._total - done)
            figures = [
                f"{self._ended_files} of {self._count} {plural(self._count, 'file')}",
                f"{format_size(done)} of {format_size(self._total)}",
                f"{format_size(int(rate))}/s",
            ]
            if rate > 0 and left:
                figures.append(f"{_format_duration(left / rate)} left")
            return [*shown, _total_line(done, self._total, figures, columns)]

    def _bytes_per_second(self) -> float:
        """Bytes a second of late."""
        now = time.monotonic()
        self._rate_samples.append((now, self._received_bytes))
        while len(self._rate_samples) > 2 and self._rate_samples[0][0] < now - RATE_WINDOW_SECONDS:
            self._rate_samples.popleft()
        since, before = self._rate_samples[0]
        return (self._received_bytes - before) / max(now - since, REDRAW_SECONDS)

    def _redraw_periodically(self) -> None:
        while not self._stop.wait(REDRAW_SECONDS):
            self._poll(self)
            lines = self.render_lines(shutil.get_terminal_size().columns - 1)
            with self._lock:
                self._clear()
                sys.stderr.write("".join(f"{line}\n" for line in lines))
                sys.stderr.flush()
                self._drawn_lines = len(lines)

    def _clear(self) -> None:
        if self._drawn_lines:
            sys.stderr.write(
                f"\r\x1b[{self._drawn_lines}A\x1b[J"
            )  # the ^C of Ctrl-C stands in the line
            sys.stderr.flush()
            self._drawn_lines = 0


def sum_known(sizes: Iterable[int | None]) -> int:
    """The sum of those that are known."""
    return sum(each or 0 for each in sizes)


def _format_bar(done: int, whole: int, width: int = BAR_CHARACTERS) -> str:
    """Return a bar and the percentage; the percentage alone where the bar has no width."""
    part = min(1.0, done / whole) if whole else 0.0
    full = int(part * width)
    bar = f"[{'#' * full}{'.' * (width - full)}] " if width else ""
    return f"{bar}{part:4.0%}"


def _file_line(done: int, whole: int, name: str, columns: int) -> str:
    """Return the line of a file: the figures whole, and as much of the name's end as fits."""
    figures = f"{format_size(done)} of {format_size(whole)}  "
    width = _width(columns - len(f"{_format_bar(done, whole, 0)} {figures}") - min(len(name), NAME))
    line = f"{_format_bar(done, whole, width)} {figures}"
    room = columns - len(line)
    if len(name) > room:
        name = f"...{name[3 - room :]}" if room > 3 else ""
    return f"{line}{name}"[: max(columns, 1)]


def _total_line(done: int, whole: int, figures: Sequence[str], columns: int) -> str:
    """Return the total with a bar as wide as fits.

    Where even its figures do not fit they are written shorter, then the last ones are left out.
    """
    short = [figure.replace(" of ", "/") for figure in figures]
    for shown in (figures, *(short[:count] for count in range(len(short), 0, -1))):
        line = ", ".join(shown)
        room = columns - len(f"{_format_bar(done, whole, 0)} {line}")
        if room >= 0:
            break
    return f"{_format_bar(done, whole, _width(room))} {line}"[: max(columns, 1)]


def _width(room: int) -> int:
    """Return the width of a bar that takes at most ``room`` characters with its brackets."""
    return 0 if room < NARROWEST + 3 else min(BAR_CHARACTERS, room - 3)


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

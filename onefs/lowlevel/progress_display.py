"""Display of a long command's progress at a terminal: one line during planning, then bars."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from onefs.printable import format_size, plural, printable

#: seconds from the start to the first drawing
DELAY_SECONDS = 1.0
#: seconds between two drawings
REDRAW_SECONDS = 0.1
#: seconds over which the rate is averaged
RATE_WINDOW_SECONDS = 5.0
#: most characters in a bar
MAX_BAR_CHARACTERS = 20
#: fewest characters in a bar; a shorter bar is left out
MIN_BAR_CHARACTERS = 5
#: characters of a line that the file's name gets before the bar gets characters
MIN_NAME_CHARACTERS = 24
#: most files that have a bar at the same time
MAX_BARS = 8


def terminal_size() -> os.terminal_size:
    """Return the size of the terminal in characters, or 80 x 24 if the terminal has no size."""
    columns, lines = shutil.get_terminal_size()
    # Python 3.10 returns 0 for a terminal without a size, as the serial console of a computer
    return os.terminal_size((columns or 80, lines or 24))


class FileUnderWay(Protocol):
    """A file that is being downloaded."""

    path: str
    done_bytes: int
    #: bytes of the whole file; None if unknown
    size: int | None


class ProgressDisplay:
    """Shows the progress of a command on standard error, and erases it at the end. Thread-safe.

    - After :meth:`show` the display is one line for a phase of the command.
    - After :meth:`expect_files` it is a bar for each file in progress, and a line with the total.

    The first second shows nothing. Nothing is shown if standard error is not a terminal. ``poll``
    is a function that returns the files in progress. A caller of :meth:`update` needs no ``poll``.
    """

    def __init__(self, poll: Callable[[], Iterable[FileUnderWay]] = tuple) -> None:
        self._poll = poll
        self._lock = threading.RLock()
        self._phase: tuple[str, float, float, str] | None = None
        self._expected: dict[str, int] | None = None
        self._expected_files = self._expected_bytes = 0
        #: for the name of each file under way: bytes done, and bytes of the whole file
        self._files: dict[str, tuple[int, int]] = {}
        self._finished: set[str] = set()
        self._finished_files = self._finished_bytes = 0
        #: bytes received since the start
        self._received_bytes = 0
        #: the time of each earlier drawing, and the bytes received until that time
        self._rate_samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._drawn_lines = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onefs-progress", daemon=True)

    def __enter__(self) -> ProgressDisplay:
        if sys.stderr is not None and sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            # no time limit: the thread ends at its next drawing, unless the terminal is blocked
            self._thread.join()
            self._erase()

    def show(self, phase: str, done: float, total: float, unit: str) -> None:
        """Report that ``done`` of ``total`` units of a phase are done.

        ``total`` is 0 if it is unknown. ``unit`` names the units, for example "sessions".
        """
        with self._lock:
            self._phase, self._expected = (phase, done, total, unit), None

    def expect_files(self, files: Iterable[tuple[str, int | None]]) -> None:
        """Begin the phase that handles ``files``.

        Each item of ``files`` is the name of a file and its size in bytes. None means an unknown
        size.
        """
        with self._lock:
            listed = [(name, size or 0) for name, size in files]
            self._expected = dict(listed)
            self._expected_files = len(listed)
            self._expected_bytes = sum(size for _, size in listed)

    def update(self, name: str, done: int, size: int | None = None) -> None:
        """Report that ``done`` bytes of the file ``name`` are done.

        ``size`` is the size of the file in bytes. The default is the size given to
        :meth:`expect_files`.
        """
        with self._lock:
            if name in self._finished:  # the file was finished after ``poll`` had returned it
                return
            if name in self._files:
                self._received_bytes += max(0, done - self._files[name][0])
            self._files[name] = (done, self._size(name) if size is None else size)

    def finish(self, name: str) -> None:
        """Report that the work on a file has ended, with success or failure."""
        with self._lock:
            size = self._size(name)
            done, _ = self._files.pop(name, (size, size))
            self._received_bytes += max(0, size - done)
            self._finished.add(name)
            self._finished_files += 1
            self._finished_bytes += size

    @contextmanager
    def erased(self) -> Iterator[None]:
        """Erase the display during the block, so that the block can print lines above it."""
        with self._lock:
            self._erase()
            yield

    def render_lines(self, columns: int) -> list[str]:
        """Return the lines to draw, each of at most ``columns`` characters."""
        with self._lock:
            if self._expected is not None:
                files = [
                    _file_line(done, size, printable(name), columns)
                    for name, (done, size) in list(self._files.items())[:MAX_BARS]
                ]
                return [*files, self._total_line(columns)]
            return [_phase_line(*self._phase, columns)] if self._phase is not None else []

    def _size(self, name: str) -> int:
        return (self._expected or {}).get(name, 0)

    def _total_line(self, columns: int) -> str:
        done = self._finished_bytes + sum(done for done, _ in self._files.values())
        rate = self._bytes_per_second()
        count = self._expected_files
        figures = [
            f"{self._finished_files} of {count} {plural(count, 'file')}",
            f"{format_size(done)} of {format_size(self._expected_bytes)}",
            f"{format_size(int(rate))}/s",
        ]
        if rate > 0 and done < self._expected_bytes:
            figures.append(f"{_format_duration((self._expected_bytes - done) / rate)} left")
        return _figures_line(done, self._expected_bytes, figures, columns)

    def _bytes_per_second(self) -> float:
        """Return the average of the bytes received per second in the last RATE_WINDOW_SECONDS."""
        now = time.monotonic()
        samples = self._rate_samples
        samples.append((now, self._received_bytes))
        while len(samples) > 2 and samples[0][0] < now - RATE_WINDOW_SECONDS:
            samples.popleft()
        since, before = samples[0]
        return (self._received_bytes - before) / max(now - since, REDRAW_SECONDS)

    def _run(self) -> None:
        pause = DELAY_SECONDS
        while not self._stop.wait(pause):
            pause = REDRAW_SECONDS
            for each in self._poll():
                self.update(each.path, each.done_bytes, each.size)
            with self._lock:
                lines = self.render_lines(terminal_size().columns - 1)
                self._erase()
                self._write("".join(f"{line}\n" for line in lines))
                self._drawn_lines = len(lines)

    def _erase(self) -> None:
        if self._drawn_lines:
            # \r because the terminal may have shown ^C at the beginning of the line
            self._write(f"\r\x1b[{self._drawn_lines}A\x1b[J")
            self._drawn_lines = 0

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _phase_line(phase: str, done: float, total: float, unit: str, columns: int) -> str:
    """Return the line for a phase, with a bar if the total is known.

    A line without a bar omits the beginning of a phase name that is too long.
    """
    if total:
        figures = [f"{phase} {done:,.0f} of {total:,.0f} {unit}"]
        return _figures_line(done, total, figures, columns)
    figure = f" {done:,.0f} {unit}"
    return f"{_cut_start(printable(phase), columns - len(figure))}{figure}"[: max(columns, 1)]


def _file_line(done: int, size: int, name: str, columns: int) -> str:
    """Return the line for a file: a bar, the bytes done, the file's size, and the file's name.

    Only the end of a long name is shown.
    """
    figures = f"{format_size(done)} of {format_size(size)}  "
    spare = columns - len(f"{_format_bar(done, size, 0)} {figures}")
    bar = _format_bar(done, size, _bar_width(spare - min(len(name), MIN_NAME_CHARACTERS)))
    line = f"{bar} {figures}"
    return f"{line}{_cut_start(name, columns - len(line))}"[: max(columns, 1)]


def _figures_line(done: float, total: float, figures: Sequence[str], columns: int) -> str:
    """Return a line with the longest bar that fits, and the texts ``figures`` after it.

    ``figures`` are texts like "3 of 10 files". They are shortened if the line is too long.
    """
    # first "3/10 files" for "3 of 10 files"; then the last texts are left out
    short = [figure.replace(" of ", "/") for figure in figures]
    for shown in (figures, *(short[:count] for count in range(len(short), 0, -1))):
        line = ", ".join(shown)
        spare = columns - len(f"{_format_bar(done, total, 0)} {line}")
        if spare >= 0:
            break
    return f"{_format_bar(done, total, _bar_width(spare))} {line}"[: max(columns, 1)]


def _cut_start(name: str, columns: int) -> str:
    """Return ``name``, or ``...`` and its end if it has more than ``columns`` characters."""
    if len(name) <= columns:
        return name
    # nothing is left of a longer name in 3 columns or less
    return f"...{name[3 - columns :]}" if columns > 3 else ""


def _format_bar(done: float, total: float, width: int) -> str:
    """Return a bar and the percentage. Return only the percentage if ``width`` is 0."""
    part = min(1.0, done / total) if total else 0.0
    full = int(part * width)
    bar = f"[{'#' * full}{'.' * (width - full)}] " if width else ""
    return f"{bar}{part:4.0%}"


def _bar_width(spare: int) -> int:
    """Return the width of a bar. With its brackets and a space, it fits in ``spare`` characters.

    Return 0 if the bar would have less than MIN_BAR_CHARACTERS.
    """
    return 0 if spare < MIN_BAR_CHARACTERS + 3 else min(MAX_BAR_CHARACTERS, spare - 3)


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

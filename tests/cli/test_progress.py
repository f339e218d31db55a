"""The progress display: its numbers fit at every width, and it is shown only at a terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from onefs.lowlevel.progress_display import ProgressDisplay
from tests.cli.commands_table import row
from tests.cli.terminal import TIMEOUT_SECONDS, Terminal

SPIKES = "cortexlab/KS023/2019-12-09/001/alf/probe00/spikes.times.npy"
GIB = 2**30
#: a command that plans for two seconds, prints a line and handles a file for two seconds
COMMAND = """
import sys, time
from onefs.lowlevel.progress_display import ProgressDisplay
try:
    with ProgressDisplay() as progress:
        progress.show("listing lab:", 3, 0, "files so far")
        time.sleep(2)
        progress.expect_files([("lab/x.npy", 2048)])
        progress.update("lab/x.npy", 1024)
        with progress.erased():
            print("printed", flush=True)
        time.sleep(float(sys.argv[1]))
        progress.finish("lab/x.npy")
except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
    sys.exit(130)
print("ended", flush=True)
"""


def display(count: int, *done: int) -> ProgressDisplay:
    """A display for ``count`` files with 3 GiB together. One file of 1 GiB is being downloaded."""
    progress = ProgressDisplay()
    others = count - 1
    sizes = [(f"lab/{number}", 2 * GIB // others) for number in range(others)]
    progress.expect_files([(SPIKES, GIB), *sizes] if others else [(SPIKES, 3 * GIB)])
    for each in done:
        progress.update(SPIKES, each)
    return progress


@pytest.mark.parametrize(
    ("columns", "file", "total"),
    [
        (
            83,
            "[#####...............]  29% 300.0 MiB of 1.0 GiB  ...1/alf/probe00/spikes.times.npy",
            "[#...................]  10% 0 of 29 files, 300.0 MiB of 3.0 GiB, 0 B/s",
        ),
        (
            60,
            "[#.....]  29% 300.0 MiB of 1.0 GiB  ...be00/spikes.times.npy",
            "[..........]  10% 0 of 29 files, 300.0 MiB of 3.0 GiB, 0 B/s",
        ),
        (
            42,
            " 29% 300.0 MiB of 1.0 GiB  ...es.times.npy",
            " 10% 0/29 files, 300.0 MiB/3.0 GiB, 0 B/s",
        ),
        (20, " 29% 300.0 MiB of 1.", " 10% 0/29 files"),
    ],
)
def test_lines_of_each_width_are_exact(columns: int, file: str, total: str) -> None:
    assert display(29, 300 * 2**20).render_lines(columns) == [file, total]


@row("onefs show SESSION")
@pytest.mark.parametrize("columns", [60, 64, 80, 100, 200])
def test_figures_survive_in_a_narrow_terminal(columns: int) -> None:
    file, total = display(29, 0, 300 * 2**20).render_lines(columns - 1)
    assert max(len(file), len(total)) < columns
    assert "300.0 MiB of 1.0 GiB" in file
    assert file.endswith("spikes.times.npy")
    for figure in ("0 of 29 files", "300.0 MiB of 3.0 GiB", "/s", " left"):
        assert figure.replace(" of ", "/") in total.replace(" of ", "/"), total


@pytest.mark.parametrize("columns", range(1, 60))
def test_a_line_is_never_longer_than_the_terminal(columns: int) -> None:
    progress = display(1234, 0, 7 * 2**20)
    assert max(len(line) for line in progress.render_lines(columns)) <= columns
    progress.show("listing lab/subject/2020-01-02/001:", 1234, 0, "files so far")
    assert max(len(line) for line in progress.render_lines(columns)) <= columns
    progress.show("downloading", 12, 345, "MB")
    assert max(len(line) for line in progress.render_lines(columns)) <= columns


def test_one_file_is_no_files() -> None:
    assert "0 of 1 file," in display(1, 0).render_lines(100)[-1]


def test_a_phase_keeps_its_figures_and_the_end_of_its_name() -> None:
    progress = ProgressDisplay()
    assert progress.render_lines(60) == []
    progress.show(f"listing {SPIKES}:", 1234, 0, "files so far")
    assert progress.render_lines(60) == [
        "...2-09/001/alf/probe00/spikes.times.npy: 1,234 files so far"
    ]
    progress.show("downloading", 25, 100, "MB")
    assert progress.render_lines(60) == ["[#####...............]  25% downloading 25 of 100 MB"]
    progress.expect_files([])
    assert progress.render_lines(60) == [
        "[....................]   0% 0 of 0 files, 0 B of 0 B, 0 B/s"
    ]


def test_a_finished_file_counts_once_and_stays_finished() -> None:
    progress = display(2, 300 * 2**20)
    progress.finish(SPIKES)
    progress.update(SPIKES, GIB)
    (total,) = progress.render_lines(80)
    assert " 33% 1 of 2 files, 1.0 GiB of 3.0 GiB, " in total
    progress.finish("lab/0")
    assert "100% 2 of 2 files, 3.0 GiB of 3.0 GiB, " in progress.render_lines(80)[0]


def test_a_file_of_unknown_size_has_the_size_that_the_server_gives() -> None:
    progress = ProgressDisplay()
    progress.expect_files([("a.npy", None)])
    progress.update("a.npy", 512, 1024)
    assert "50% 512 B of 1.0 KiB  a.npy" in progress.render_lines(80)[0]


def test_planning_and_work_are_drawn_and_erased(environ: Mapping[str, str]) -> None:
    with Terminal(["2"], environ, command=[sys.executable, "-c", COMMAND]) as terminal:
        assert terminal.exit_code() == 0
    drawn = terminal.shown
    assert drawn.startswith("listing lab: 3 files so far\n")
    assert "\r\x1b[1A\x1b[Jprinted\n" in drawn
    assert "50% 1.0 KiB of 2.0 KiB  lab/x.npy\n" in drawn
    assert drawn.endswith("\r\x1b[2A\x1b[Jended\n")


def test_ctrl_c_erases_the_display_and_ends(environ: Mapping[str, str]) -> None:
    with Terminal(["60"], environ, command=[sys.executable, "-c", COMMAND]) as terminal:
        terminal.expect("0 of 1 file")
        terminal.interrupt()
        assert terminal.exit_code() == 130
    assert terminal.shown.endswith("\r\x1b[2A\x1b[Jstopped\n")


def test_nothing_is_written_where_standard_error_is_no_terminal(environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "2"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env=dict(environ),
        check=True,
    )
    assert (done.stdout, done.stderr) == ("printed\nended\n", "")

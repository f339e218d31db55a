"""The bars of a terminal: their figures fit at every width."""

from __future__ import annotations

import pytest

from onefs.cli.progress_bars import ProgressBars
from tests.cli.commands_table import row


def progress(count: int, done: int) -> ProgressBars:
    made = ProgressBars(count, 3 * 2**30)
    made.update("cortexlab/KS023/2019-12-09/001/alf/probe00/spikes.times.npy", 0, 2**30)
    made.update("cortexlab/KS023/2019-12-09/001/alf/probe00/spikes.times.npy", done, 2**30)
    return made


@row("onefs show SESSION")
@pytest.mark.parametrize("columns", [60, 64, 80, 100, 200])
def test_figures_survive_in_a_narrow_terminal(columns: int) -> None:
    file, total = progress(29, 300 * 2**20).render_lines(columns - 1)
    assert max(len(file), len(total)) < columns
    assert "300.0 MiB of 1.0 GiB" in file
    assert file.endswith("spikes.times.npy")
    for figure in ("0 of 29 files", "300.0 MiB of 3.0 GiB", "/s", " left"):
        assert figure.replace(" of ", "/") in total.replace(" of ", "/"), total


@pytest.mark.parametrize("columns", range(1, 60))
def test_a_line_is_never_longer_than_the_terminal(columns: int) -> None:
    assert max(len(line) for line in progress(1234, 7 * 2**20).render_lines(columns)) <= columns


def test_one_file_is_no_files() -> None:
    assert "0 of 1 file," in progress(1, 0).render_lines(100)[-1]

"""The picture of a run: every case's contenders as bars, with their spread."""

from __future__ import annotations

import math
from pathlib import Path

from scripts.benchmarks.results import Case, Results

_OURS, _OTHERS = "#1b6ca8", "#b8bfc6"
_COLUMNS = 3


def draw(results: Results, path: Path) -> None:
    """Write a PNG: medians as bars, lowest to highest as lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    cases = [case for case in results.cases.values() if case.unit != "requests"]
    rows = max(1, math.ceil(len(cases) / _COLUMNS))
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(15, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(cases) :]:
        axis.axis("off")
    for axis, case in zip(axes.flat, cases, strict=False):
        _bars(axis, case)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _bars(axis: object, case: Case) -> None:
    names = list(case.values)[::-1]
    spreads = [case.spread(name) for name in names]
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    colours = [_OURS if name.startswith("onefs") else _OTHERS for name in names]
    axis.barh(names, medians, xerr=[below, above], color=colours, ecolor="#444444")  # type: ignore[attr-defined]
    axis.set_title(_wrapped(case.title), fontsize=9)  # type: ignore[attr-defined]
    axis.set_xlabel({"s": "seconds, less is better"}.get(case.unit, case.unit), fontsize=8)  # type: ignore[attr-defined]
    axis.tick_params(labelsize=8)  # type: ignore[attr-defined]


def _wrapped(title: str, width: int = 48) -> str:
    import textwrap

    return textwrap.fill(title, width)

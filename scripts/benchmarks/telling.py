"""The results of ``metadata.py`` as a page of tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TITLES = {
    "first walks": "A lab of 1,000 sessions of 40 datasets, over the embedded server",
    "searches": "Searches, seconds",
    "kernel cold": "The same files of onefs and of bindfs, kernel cold, seconds",
    "kernel warm": "The same, kernel warm, seconds",
    "over nginx listings": "The same files over nginx listings, kernel cold, seconds",
}


def tell(results: dict[str, Any]) -> str:
    """All of it, in Markdown."""
    machine = results["machine"]
    load = machine["load_average"]["median"]
    lines = [
        "# Listings and walks, measured",
        "",
        f"Made by `scripts/bench metadata` on {machine['date']}, onefs at {machine['onefs']}, on",
        f"{machine['processors']} x {machine['processor']}, load average {load:.1f} at the start.",
    ]
    for key, title in _TITLES.items():
        if results.get(key):
            lines += ["", f"## {title}", "", *_table(results[key])]
    lines += ["", "## Single numbers", "", "| | |", "|---|---|"]
    for key, value in results.items():
        if isinstance(value, (int, float)):
            lines.append(f"| {key} | {_cell(value)} |")
    everything = results.get("find of everything")
    if everything is not None:
        curve = " ".join(map(str, everything["curve"]))
        took = f"{everything['seconds']:.0f} s, {everything['requests']} requests"
        lines.append(f"| find of everything | {took} |")
        lines.append(f"| its memory without 300 B an inode, MiB, every 2 s | {curve} |")
    return "\n".join([*lines, *_tables(results["tables"])]) + "\n"


def _tables(found: dict[str, Any]) -> Iterator[str]:
    load, ready = found["load"], found["ready"]
    yield from ("", "## From cache tables", "", "| | |", "|---|---|")
    yield f"| datasets loaded | {load['datasets']:,} in {load['seconds']} s |"
    yield f"| rows a second | {load['rows_a_second']:,} |"
    yield f"| memory of the process that loads, MB | {load['peak_MB']} |"
    yield f"| mounted on a small catalogue, and on this one, s | {ready['small']}, {ready['big']} |"
    for name, seconds in found["listings"].items():
        yield f"| {name} | {_cell(seconds)} |"
    for name in ("find", "ls_lR"):
        walk = found[name]
        curve = " ".join(f"{rss - inodes:.0f}" for _, rss, inodes in walk["curve"])
        yield f"| {name.replace('_', ' -')}: {walk['lines']:,} lines | {walk['seconds']} s |"
        yield f"| memory without 300 B an inode, MB, at most | {walk['ours_at_most_MB']} |"
        yield f"| its curve | {curve} |"


def _table(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    yield "| | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        cells = [_cell(row.get(column)) for column in columns]
        base, ours = row.get("bindfs"), row.get("onefs")
        if base and ours:
            cells[columns.index("onefs")] += f" ({ours / base:.2f})"
        yield f"| {name} | " + " | ".join(cells) + " |"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
    return str(value)

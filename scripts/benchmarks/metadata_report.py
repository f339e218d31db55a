"""The results of ``metadata.py`` as a page of tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from scripts.benchmarks.machine import lines as machine_lines
from scripts.benchmarks.read_criteria import Criterion
from scripts.benchmarks.read_criteria import to_markdown as criteria_to_markdown
from scripts.benchmarks.results import Spread, number

_HOW = """\
Made by `scripts/bench metadata`: one machine, programs in turn, each table from one run. Times are
seconds, medians where there are repeats. "Kernel cold": the kernel's names and attributes were
dropped before; "warm": they were not. "Nothing known": the catalogue had never asked for it. All
talk to servers on the loopback; onefs runs as it comes, with extended attributes.
"""
_TABLES = {
    "first walks": "A lab of 1,000 sessions of 40 datasets, over the embedded server",
    "searches": "Searches, seconds",
    "over nginx listings": "10,000 files over HTTP, kernel cold, seconds",
}
_NOTES = {
    "over nginx listings": "onefs asks Alyx, and walks 10,000 other files of the same shape; "
    "rclone and httpdirfs read the listings that nginx makes of a real tree. "
    '"hung": not ended in time.',
    "searches": 'Clients are open already. "first": the first time it was asked.',
}


def to_markdown(results: dict[str, Any], judgements: Sequence[Criterion]) -> str:
    """All of it, in Markdown."""
    lines = ["# Listings and walks, measured", "", _HOW]
    if not results["complete_run"]:
        lines += ["This is no complete run.", ""]
    parts = "; ".join(f"{name}: {when}" for name, when in results["parts"].items())
    lines += [f"Measured in these parts: {parts}.", ""]
    lines += [*machine_lines(results["machine"]), *criteria_to_markdown(judgements)]
    for key, title in _TABLES.items():
        if results.get(key):
            lines += ["", f"## {title}", "", *_table(results[key])]
            if key in _NOTES:
                lines += ["", _NOTES[key]]
    for when in ("cold", "warm"):
        if results.get(f"kernel {when}"):
            lines += ["", *_comparison(results[f"kernel {when}"], when)]
    lines += ["", *_numbers(results), *_from_tables(results.get("tables", {}))]
    steps = ", ".join(f"{name} {seconds:.0f}" for name, seconds in results["steps, s"].items())
    return "\n".join([*lines, "", f"Seconds of each step: {steps}."]) + "\n"


def _comparison(walks: dict[str, Any], when: str) -> Iterator[str]:
    yield f"## The same 10,000 files in onefs and in bindfs over a real tree, kernel {when}"
    yield ""
    names = list(dict.fromkeys(name for walk in walks.values() for name in walk["contenders"]))
    yield "| | " + " | ".join(f"{name}, s" for name in names) + " | times bindfs's time |"
    yield "|---" * (len(names) + 2) + "|"
    for walk, case in walks.items():
        cells = [_spread(case["contenders"].get(name)) for name in names]
        yield f"| {walk} | " + " | ".join([*cells, _spread(case["ratio"])]) + " |"
    yield ""
    yield (
        "`ls -lR` asks for two extended attributes of each file; `find -ls` shows the same without "
        "them. bindfs runs with its defaults."
    )


def _numbers(results: dict[str, Any]) -> Iterator[str]:
    yield from ("## Single numbers", "", "| | |", "|---|---|")
    for name, seconds in results.get("start-up", {}).items():
        yield f"| start-up, s: {name} | {_cell(seconds)} |"
    for name, rate in results.get("stat", {}).items():
        yield f"| stat, a second, {name} | {_cell(rate)} |"
    everything = results.get("find of everything")
    if everything is not None:
        curve = " ".join(map(str, everything["curve"]))
        took = f"{everything['seconds']:.0f} s, {everything['requests']} requests"
        took += "" if everything["ended"] else ", then it was ended"
        yield f"| `find` of the whole embedded laboratory, one lab known | {took} |"
        yield f"| the daemon's MiB meanwhile, less 300 B an inode, every 2 s | {curve} |"


def _from_tables(found: dict[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield from ("", "## From cache tables", "", "| | |", "|---|---|")
    load, ready = found.get("load"), found.get("ready")
    if load is not None:
        yield f"| datasets loaded, ONE's tables written | {load['datasets']:,} |"
        yield f"| in s | {load['seconds']} |"
        yield f"| rows a second | {load['rows_a_second']:,} |"
        yield f"| memory of the process, MB | {load['peak_MB']} |"
        yield f"| size of the catalogue's tables, MB | {load['file_MB']} |"
    if ready is not None:
        times = f"{ready['small']}, {ready['big']}"
        yield f"| mounted on a small catalogue, and on this one, s | {times} |"
    for name, seconds in found.get("listings", {}).items():
        yield f"| {name} | {_cell(seconds)} |"
    for key, name in (("ls_lR", "`ls -lR` of a lab"), ("find", "`find` of everything")):
        if key in found:
            yield from _walk(name, found[key])


def _walk(name: str, walk: dict[str, Any]) -> Iterator[str]:
    curve = " ".join(f"{rss - inodes:.0f}" for _, rss, inodes in walk["curve"])
    whole = " ".join(f"{rss:.0f}" for _, rss, _ in walk["curve"])
    times = " ".join(f"{moment:.0f}" for moment, _, _ in walk["curve"])
    ended = "" if walk["ended"] else ", then it was ended"
    yield f"| {name}: {walk['lines']:,} lines, s | {walk['seconds']}{ended} |"
    yield f"| the daemon's MB less 300 B an inode, at most | {walk['ours_at_most_MB']} |"
    yield f"| its curve | {curve} |"
    yield f"| all of its memory | {whole} |"
    yield f"| at, s | {times} |"


def _table(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    yield "| | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        yield f"| {name} | " + " | ".join(_cell(row.get(column)) for column in columns) + " |"


def _spread(found: dict[str, float] | None) -> str:
    return str(Spread(found["median"], found["low"], found["high"])) if found else ""


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else number(value)
    return str(value)

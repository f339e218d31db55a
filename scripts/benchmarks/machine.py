"""The machine and the programs that a measurement was made with."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from scripts.benchmarks.contenders import versions
from scripts.benchmarks.processes import ROOT, BenchmarkFailed, run


def describe(loads: list[float]) -> dict[str, Any]:
    """Processor, memory, kernel, versions, date, and the load average while it was measured."""
    return {
        "date": _now(),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "load_average": {
            "lowest": min(loads, default=0.0),
            "median": sorted(loads)[len(loads) // 2] if loads else 0.0,
            "highest": max(loads, default=0.0),
        },
        "onefs": _commit(),
        "versions": {
            "python": platform.python_version(),
            **versions(
                {
                    "nginx": ["nginx", "-v"],
                    "curl": ["curl", "--version"],
                    "rclone": ["rclone", "version"],
                    "httpdirfs": ["dpkg-query", "-W", "httpdirfs"],
                    "bindfs": ["bindfs", "--version"],
                    "ffmpeg": ["ffmpeg", "-version"],
                    "libfuse": ["fusermount3", "--version"],
                }
            ),
        },
    }


def measured_with() -> str:
    """The present time and the version of onefs, for a page."""
    return f"{_now()}, onefs at {_commit()}"


def busy_seconds() -> float:
    """Processor time that everything on this machine has taken so far, the kernel included."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _waiting, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def lines(machine: dict[str, Any]) -> list[str]:
    """What :func:`describe` gives, in Markdown."""
    load = machine["load_average"]
    versions = ", ".join(f"{name}: {text}" for name, text in machine["versions"].items())
    processor = f"{machine['processors']} x {machine['processor']}"
    between = f"{load['lowest']:.1f} to {load['highest']:.1f}"
    return [
        f"- Date: {machine['date']}; onefs at {machine['onefs']}",
        f"- Machine: {processor}, {machine['memory_gib']} GiB, Linux {machine['kernel']}",
        f"- Load average while it was measured: {between}, median {load['median']:.1f}",
        f"- {versions}",
        "",
    ]


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    try:
        return run(["git", "-C", ROOT, "describe", "--always", "--dirty"]).strip()
    except (BenchmarkFailed, OSError):
        return ""

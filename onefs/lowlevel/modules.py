"""Import of all modules of a package."""

from __future__ import annotations

import importlib
import pkgutil


def import_all(package: str) -> None:
    """Import all modules of a package and of the packages in it."""
    folders = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(folders, f"{package}."):
        __import__(module.name)

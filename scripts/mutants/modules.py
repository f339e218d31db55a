"""The modules that are tested with mutants, and the tests of each module."""

from __future__ import annotations

#: the tests of each module. Only these are run: they are quick, and should not need the others
MODULES = {
    "alf": "tests/test_alf.py",
    "cache/verify": "tests/cache/test_verify.py",
    "blocks/block_map": "tests/blocks/test_block_map.py",
    "catalogue/ttl": "tests/catalogue/test_ttl.py",
}


def chosen_modules(names: list[str]) -> list[str]:
    """Return the named modules, or all modules if none is named. Exits if a name is unknown."""
    for name in names:
        if name not in MODULES:
            raise SystemExit(f"unknown module {name}; the modules are: {', '.join(MODULES)}")
    return names or list(MODULES)


def source_path(module: str) -> str:
    """Return the path of a module's source in the checkout."""
    return f"onefs/{module}.py"

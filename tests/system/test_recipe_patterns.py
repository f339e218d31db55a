"""The scripts of docs/recipes/patterns print the same with onefs's ONE and with ONE-api.

``scripts/test --full recipes`` runs this file with IBL's packages.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmarks.patterns import PATTERNS, Client, measure, one_api, onefs, row
from scripts.benchmarks.processes import embedded_servers


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Client]]:
    """ONE-api and onefs, each of a user who is logged in to the embedded laboratory."""
    if importlib.util.find_spec("spikeglx") is None:
        pytest.skip("IBL's packages are not installed: scripts/test --full recipes does it")
    with embedded_servers() as ready:
        yield [maker(tmp_path_factory.mktemp(maker.__name__), ready) for maker in (one_api, onefs)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", sorted(PATTERNS.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_prints_the_same_with_both(script: Path, clients: list[Client]) -> None:
    runs = measure(script, clients, 1)
    assert row(runs)["errors"] == {}
    first, second = (each.output for each in runs.values())
    assert first == second != ""

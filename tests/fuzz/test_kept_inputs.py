"""Inputs that once showed a fault: none shows one any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.campaign import KEPT
from tests.fuzz.watcher import Watcher

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watcher]:
    with Watcher(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.json")), ids=lambda path: path.stem)
def test_a_kept_input_shows_nothing_wrong(watched: Watcher, path: Path) -> None:
    kept = json.loads(path.read_text())
    finding = watched.confirm(kept["input"])
    assert finding is None, f"{finding.signature}\n{finding.detail}"

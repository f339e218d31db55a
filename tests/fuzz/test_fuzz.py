"""The fuzzer, for a moment: always with the same inputs; and long, with others each time."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import KEPT, Campaign
from tests.fuzz.watcher import Watcher

#: the short run, in half a minute: seeds, and inputs of each; of inputs alike one is run
_SEEDS = (11, 12, 13)
_FEW_INPUTS = 40
_LONG_SECONDS = 600.0
_PLAIN = {"early": False, "reopen": False}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watcher]:
    with Watcher(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_few_inputs_that_are_always_the_same(watched: Watcher) -> None:
    campaign = Campaign(watched)
    for number in _SEEDS:
        campaign.batch(number, _FEW_INPUTS)
    assert campaign.inputs_run > _FEW_INPUTS
    assert not campaign.found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_minutes_of_new_inputs(watched: Watcher) -> None:
    campaign = Campaign(watched, KEPT)
    first = random.SystemRandom().randrange(10**9)
    print(f"seed {first}")
    campaign.run(_LONG_SECONDS, first)
    assert not campaign.found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["freeze", "memory", "raised", "traceback", "died"])
def test_the_watching_process_notices(watched: Watcher, kind: str) -> None:
    found = {"faults": [], "operations": [{"do": "misbehave", "how": kind}], **_PLAIN}
    finding = watched.confirm(found)
    assert finding is not None
    assert finding.kind == kind


@pytest.mark.timeout(300)
def test_a_wrong_row_is_right_after_a_refresh(watched: Watcher) -> None:
    """A fault that strikes, and leaves nothing."""
    row = {"what": "body", "how": "field", "key": "file_size", "row": 0, "change": "set"}
    fault = {"at": "datasets", "first": 0, "times": 1, **row, "value": 3}
    found = {"faults": [fault], "operations": [{"do": "walk"}], **_PLAIN}
    assert watched.confirm(found) is None


def test_a_laboratory_without_faults_is_right(watched: Watcher) -> None:
    """Otherwise whatever follows would prove nothing."""
    everything = [{"do": "walk"}, {"do": "load", "types": None}, {"do": "sync"}]
    found = {"faults": [], "operations": everything, **_PLAIN}
    assert watched.run(found) is None

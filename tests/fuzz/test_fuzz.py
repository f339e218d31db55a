"""The fuzzer, for a moment: always with the same inputs; and long, with others each time."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import KEPT, Campaign
from tests.fuzz.watched import Watched

#: inputs of the short run, in half a minute
_FEW = 60
_LONG_SECONDS = 600.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.mark.timeout(900)
def test_a_few_inputs_that_are_always_the_same(watched: Watched) -> None:
    campaign = Campaign(watched)
    campaign.batch(11, _FEW)
    assert campaign.ran >= _FEW
    assert not campaign.found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_minutes_of_inputs_that_nobody_has_seen(watched: Watched) -> None:
    campaign = Campaign(watched, KEPT)
    first = random.SystemRandom().randrange(10**9)
    print(f"seed {first}")
    campaign.run(_LONG_SECONDS, first)
    assert not campaign.found


def test_a_laboratory_without_faults_is_right(watched: Watched) -> None:
    """Otherwise whatever follows would prove nothing."""
    everything = [{"do": "walk"}, {"do": "load", "types": None}, {"do": "sync"}]
    found = {"faults": [], "operations": everything, "early": False, "reopen": True}
    assert watched.run(found) is None

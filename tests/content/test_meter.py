"""The hour's limit of bytes."""

from __future__ import annotations

import pytest

from onefs.content.meter import HOUR, STEP, Meter
from onefs.errors import FetchLimit


def test_an_hour_s_bytes_are_counted_and_old_ones_forgotten() -> None:
    now = [1000.0]
    meter = Meter(100, lambda: now[0])
    meter.count(60)
    now[0] += HOUR / 2
    meter.count(30)
    assert meter.spent() == 90
    assert meter.allows(10)
    assert not meter.allows(11)
    with pytest.raises(FetchLimit, match=r"a\.npy is not fetched: 90 bytes"):
        meter.check(11, "a.npy")
    now[0] += HOUR / 2 + STEP
    assert meter.spent() == 30
    meter.check(70, "a.npy")


def test_without_a_limit_everything_is_allowed() -> None:
    meter = Meter()
    meter.count(1 << 50)
    meter.check(1 << 50, "a.npy")
    assert meter.spent() == 1 << 50

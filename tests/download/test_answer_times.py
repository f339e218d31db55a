"""Which file servers count as slow."""

from __future__ import annotations

from onefs.download.answer_times import SLOW_ANSWER_SECONDS, AnswerTimes


def test_a_server_is_slow_if_even_its_quickest_answer_is_late() -> None:
    times = AnswerTimes()
    for seconds in (0.05, 0.02):
        times.note("https://far.example/a", seconds)
        assert not times.is_any_slow()  # the first answers say little
    times.note("https://far.example/b", SLOW_ANSWER_SECONDS)
    for seconds in (0.05, 0.001, 0.05, 0.05):  # late because the processors are busy
        times.note("https://near.example/a", seconds)
    assert times.is_slow("https://far.example/c")
    assert not times.is_slow("https://near.example/a")
    assert times.is_any_slow()


def test_a_server_that_becomes_quick_is_no_longer_slow() -> None:
    times = AnswerTimes()
    for _ in range(20):
        times.note("https://far.example/a", 1.0)
    times.note("https://far.example/a", 0.001)
    assert not times.is_any_slow()
    for _ in range(20):
        times.note("https://far.example/a", 1.0)
    assert times.is_any_slow()

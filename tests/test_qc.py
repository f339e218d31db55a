"""Outcomes of quality control: their order and their spellings are those of ONE-api."""

from __future__ import annotations

import pandas as pd
import pytest
from one.alf.cache import QC_TYPE
from one.alf.spec import QC as ONE_QC
from one.util import filter_datasets

from onefs.errors import UsageError
from onefs.qc import QC, is_at_most, parse_qc


def test_numbers_and_order_are_those_of_one_api() -> None:
    assert dict(QC.__members__) == dict(ONE_QC.__members__)
    assert list(QC.__members__) == list(QC_TYPE.categories) == [each.name for each in sorted(QC)]


@pytest.mark.parametrize("outcome", QC)
def test_an_outcome_is_read_from_its_name_and_its_number(outcome: QC) -> None:
    name = outcome.name
    for spelling in (name, name.lower(), f" {name.title()} ", name.replace("_", " ")):
        assert parse_qc(spelling) is outcome
    for number in (outcome, int(outcome), str(int(outcome)), ONE_QC[name]):
        assert parse_qc(number) is outcome


@pytest.mark.parametrize("value", ["", "BAD", "20", 20, None, "٣٠", "9" * 5000, [], "PASS,FAIL"])
def test_another_value_is_refused_with_the_outcomes(value: object) -> None:
    with pytest.raises(UsageError, match="is not one of NOT_SET, PASS, WARNING, FAIL, CRITICAL"):
        parse_qc(value)


@pytest.mark.parametrize("ignore_not_set", [False, True])
@pytest.mark.parametrize("limit", QC)
def test_datasets_at_most_that_bad_are_those_of_one_api(limit: QC, ignore_not_set: bool) -> None:
    datasets = pd.DataFrame(
        {
            "rel_path": [f"alf/{name.lower()}.times.npy" for name in QC.__members__],
            "default_revision": True,
            "qc": pd.Categorical(list(QC.__members__), dtype=QC_TYPE),
        }
    )
    filtered = filter_datasets(
        datasets,
        qc=limit.name,
        ignore_qc_not_set=ignore_not_set,
        revision_last_before=False,
        assert_unique=False,
    )
    assert filtered["qc"].tolist() == [
        name for name in QC.__members__ if is_at_most(name, limit, ignore_not_set=ignore_not_set)
    ]


def test_an_unknown_outcome_is_worse_than_all_and_a_missing_one_is_not_set() -> None:
    assert not is_at_most("TERRIBLE", QC.CRITICAL)
    assert is_at_most("", QC.NOT_SET)
    assert not is_at_most("", QC.CRITICAL, ignore_not_set=True)

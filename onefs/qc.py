"""Outcomes of quality control (QC), with Alyx's numbers, and their order. No I/O."""

from __future__ import annotations

from enum import IntEnum

from onefs.errors import UsageError
from onefs.integers import parse_whole_number


class QC(IntEnum):
    """The outcomes, from best to worst, with Alyx's numbers. NOT_SET counts as the best one."""

    NOT_SET = 0
    PASS = 10
    WARNING = 30
    FAIL = 40
    CRITICAL = 50


def parse_qc(value: object) -> QC:
    """Return the outcome with this name, in upper or lower case, or with this number.

    An outcome of another enumeration with the same numbers is accepted, such as ONE-api's.
    Raises UsageError if there is no such outcome.
    """
    number = value
    if isinstance(value, str):
        name = value.strip().upper().replace(" ", "_")
        if name in QC.__members__:
            return QC[name]
        number = parse_whole_number(value.strip())
    try:
        if isinstance(number, bool):  # is an int, too
            raise ValueError
        return QC(number)  # type: ignore[arg-type]  # QC refuses what is no number of it
    except ValueError:
        raise UsageError(f"{value!r:.80} is not one of {', '.join(QC.__members__)}") from None


def is_at_most(dataset_qc: str, limit: int, *, ignore_not_set: bool = False) -> bool:
    """Whether the outcome named ``dataset_qc`` is at most as bad as ``limit``.

    ``ignore_not_set``: whether a dataset without an outcome is left out. A name that is no outcome
    is worse than all of them, as in ONE-api.
    """
    outcome = QC.__members__.get(dataset_qc or "NOT_SET")
    if outcome is None or (ignore_not_set and outcome is QC.NOT_SET):
        return False
    return outcome <= limit

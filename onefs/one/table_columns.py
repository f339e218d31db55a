"""Dataset types that are columns in a table: ``trials.choice`` in ``_ibl_trials.table.pqt``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from onefs import alf
from onefs.model import Dataset

_TYPE_PATTERN = re.compile(
    r"(?P<namespace>_[a-zA-Z0-9]+_)?(?P<object>[^.]+)\.(?P<attribute>.+)", re.DOTALL
)
_NUMBER_SUFFIX = re.compile(r"_[0-9]+\Z")


class TypeParts(NamedTuple):
    """The parts of a dataset type, as the ALF specification defines them.

    The namespace may be ''.
    """

    namespace: str
    object: str
    attribute: str


def parse_type(dataset_type: str) -> TypeParts | None:
    """Return the parts of a text ``[_namespace_]object.attribute``. Return None for other texts."""
    match = _TYPE_PATTERN.fullmatch(dataset_type)
    return TypeParts(*match.groups(default="")) if match is not None else None


def can_hold(table: Dataset, wanted: TypeParts) -> bool:
    """Whether a dataset is a table for the object of the dataset type ``wanted``.

    For example, a table for the object ``trials`` can have the column ``trials.choice``.
    """
    for name in map(parse_type, (table.dataset_type, alf.dataset_type(table.name))):
        if name is None or (name.object, name.attribute) != (wanted.object, "table"):
            continue
        # if both have a namespace, the namespaces must be equal
        if "" in (name.namespace, wanted.namespace) or name.namespace == wanted.namespace:
            return True
    return False


def column_array(table: Any, attribute: str) -> Any:
    """Return the column ``attribute`` of a DataFrame as an array, or None if it is missing.

    The columns ``intervals_0`` and ``intervals_1`` together are the attribute ``intervals``.
    """
    import numpy as np

    if attribute in table.columns:
        return table[attribute].to_numpy()
    parts = list(_numbered_columns(table, attribute))
    return np.column_stack([table[name].to_numpy() for name in parts]) if len(parts) > 1 else None


def attribute_names(table: Any) -> list[str]:
    """Return the names of the attributes that are columns in a table, sorted.

    Number suffixes are removed: ``intervals_0`` is a column of ``intervals``.
    """
    return sorted({_NUMBER_SUFFIX.sub("", str(name)) for name in table.columns})


def _numbered_columns(table: Any, attribute: str) -> Iterator[str]:
    """Yield the names ``<attribute>_0``, ``<attribute>_1`` ... of columns in a table.

    End at the first number for which the table has no column.
    """
    number = 0
    while (name := f"{attribute}_{number}") in table.columns:
        yield name
        number += 1

"""ALF objects: the files of one object, such as ``spikes``, as one dict of arrays.

The rules are those of ``one.alf.io`` in ONE-api 3.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onefs.errors import UsageError
from onefs.one.alf_contents import read_content, read_numbers
from onefs.one.alf_errors import alf_error
from onefs.one.alf_patterns import AlfParts
from onefs.one.bunch import Bunch
from onefs.one.dataset_records import import_pandas
from onefs.one.warn import warn

if TYPE_CHECKING:
    import numpy as np

#: columns of an array with several dimensions that a DataFrame has at most
_MAX_COLUMNS = 10
#: the key of a table, whose columns are attributes of the object
_TABLE_KEY = re.compile(r"table([_.]|$)")
#: the key or column of one of the two parts of an array, such as ``intervals_0``
_SPLIT_KEY = re.compile(r".+?_[01]$")


class AlfBunch(Bunch):
    """The attributes of an ALF object, by name."""

    @property
    def check_dimensions(self) -> int:
        """0 if all arrays have the same length, or one row; otherwise 1."""
        return check_dimensions(self)

    def append(self, b: Mapping[str, Any], inplace: bool = False) -> AlfBunch:
        """Append the arrays and lists of another object with the same attributes.

        Args:
            b: The other object.
            inplace: Whether to change this object. Otherwise a copy is changed.

        Returns:
            The changed object.

        Raises:
            NotImplementedError: The attributes are not the same.
        """
        import numpy as np

        merged = self if inplace else deepcopy(self)
        if not b:
            return merged
        if not merged:
            return AlfBunch(b)
        if set(merged) != set(b):
            raise NotImplementedError(
                "only objects with the same attributes can be appended: use DataFrames otherwise"
            )
        for key, value in merged.items():
            if isinstance(value, np.ndarray):
                merged[key] = np.concatenate((value, b[key]), axis=0)
            elif isinstance(value, list):
                value.extend(b[key])
            else:
                warn(f"the attribute {key} is {type(value).__name__}, which cannot be appended")
        if merged.check_dimensions:
            _warn_of_dimensions("", merged)
        return merged

    def to_df(self) -> Any:
        """Return a DataFrame whose columns are the attributes.

        Of an array with two dimensions, the first 10 columns are used.

        Raises:
            ValueError: The arrays have not the same length.
            MissingLibrary: pandas is not installed.
        """
        return dataframe(self)

    @staticmethod
    def from_df(df: Any) -> AlfBunch:
        """Return the columns of a DataFrame as an object.

        Two columns such as ``intervals_0`` and ``intervals_1`` become one array.
        """
        return _join_split_columns(dict(zip(df.columns, df.values.T, strict=True)))


def _join_split_columns(data: dict[str, Any]) -> AlfBunch:
    import numpy as np

    pairs = iter(sorted(name for name in data if _SPLIT_KEY.match(name)))
    for first, second in zip(pairs, pairs, strict=False):
        data[first[:-2]] = np.c_[data.pop(first), data.pop(second)]
    return AlfBunch(data)


def check_dimensions(data: Mapping[str, Any]) -> int:
    """Return 0 if all arrays and tables have the same length, or one row. Otherwise return 1.

    An array of timestamps may have two rows and two columns instead.
    """
    lengths = []
    for key, value in data.items():
        shape = _shape(value)
        if shape is None:
            continue
        if not key.startswith("timestamps"):
            lengths.append(shape[0])
        elif not _is_array(value):
            continue
        elif len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
            lengths.append(shape[0])
        elif shape != (2, 2):
            return 1
    return int(bool(lengths) and not set(lengths) <= {max(lengths), 1})


def dataframe(data: Mapping[str, Any]) -> Any:
    """Return a DataFrame of the arrays in ``data`` (see :meth:`AlfBunch.to_df`)."""
    pandas = import_pandas("to_df")
    if check_dimensions(data):
        raise UsageError("the attributes have not the same length, so they make no DataFrame")
    if all(len(value.shape) == 1 for value in data.values()):
        return pandas.DataFrame(data)
    return pandas.DataFrame(dict(_columns(data)))


def _columns(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if value.ndim == 1:
            yield key, value
        elif value.ndim == 2 and value.shape[1] == 1:
            yield key, value[:, 0]
        elif value.ndim == 2:
            for index in range(min(value.shape[1], _MAX_COLUMNS)):
                yield f"{key}_{index}", value[:, index]
        else:
            warn(f"the attribute {key} has {value.ndim} dimensions, and is not in the DataFrame")


def interpolate_timestamps(timestamps: np.ndarray[Any, Any], samples: int) -> Any:
    """Return a time for each sample.

    ``timestamps`` has a time for each sample, or two rows, each with a sample and its time.
    """
    import numpy as np

    if timestamps.ndim == 1:
        return timestamps
    if timestamps.ndim == 2 and timestamps.shape[1] == 1:
        return timestamps.flatten()
    if timestamps.ndim > 2 or timestamps.shape[1] != 2:
        raise UsageError(f"timestamps have the shape {timestamps.shape}, not (2, 2)")
    return np.interp(np.arange(samples), timestamps[:, 0], timestamps[:, 1])


def load_files(files: Sequence[tuple[Path, AlfParts]]) -> AlfBunch:
    """Return the content of the files of one ALF object, by attribute.

    The columns of a table, and of an array with a file of metadata, become attributes. If the
    arrays have not the same length, warn.
    """
    if not files:
        raise alf_error("object_not_found", "the object has no files")
    name = files[0][1].object
    keys = [_key(parts) for _, parts in files]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise alf_error(
            "multiple_objects",
            f"the object {name} has several files for the attribute {twice}: "
            "restrict the namespace or another part",
        )
    data = AlfBunch()
    table_key = next(filter(_TABLE_KEY.match, keys), None)
    numbers: dict[str, Any] | None = None
    for key, (path, _) in zip(keys, files, strict=True):
        metadata = _metadata_file(path, files)
        if metadata == path:
            continue
        if key == table_key and metadata is None:
            numbers = read_numbers(path)
            if numbers is not None:
                continue
        data[key] = read_content(path)
        if metadata is not None:
            _add_metadata(data, key, read_content(metadata))
    if numbers is None or table_key is None:
        _merge_table(data)
    else:
        rename = _column_namer(table_key)
        data.update(_join_split_columns({rename(key): each for key, each in numbers.items()}))
    _expand_timestamps(name, data)
    return data


def _key(parts: AlfParts) -> str:
    """Return the key of a file: attribute, timescale and extra parts."""
    attribute = f"{parts.attribute}_{parts.timescale}" if parts.timescale else parts.attribute
    return f"{attribute}.{parts.extra}" if parts.extra else attribute


def _metadata_file(path: Path, files: Sequence[tuple[Path, AlfParts]]) -> Path | None:
    """Return the file with the metadata of a file, which is the file itself for metadata."""
    # also the metadata of an attribute whose name begins with the name of this one, as in ONE-api
    pattern = f"{'.'.join(path.name.split('.')[:2])}*.metadata*.json"
    found = (
        other
        for other, _ in files
        if other.parent == path.parent and fnmatchcase(other.name, pattern)
    )
    return next(found, None)


def _add_metadata(data: AlfBunch, key: str, metadata: Any) -> None:
    """Replace an array by its columns if the metadata name columns. Keep the other metadata."""
    if not isinstance(metadata, dict):
        return
    if "columns" in metadata:
        array = data.pop(key)
        data.update({name: array[:, at] for at, name in enumerate(metadata.pop("columns"))})
    if metadata:
        data[f"{key}metadata"] = metadata


def _merge_table(data: AlfBunch) -> None:
    """Replace a table in ``data`` by its columns."""
    key = next(filter(_TABLE_KEY.match, data), None)
    if key is None or not hasattr(data[key], "columns"):
        return
    data.update(AlfBunch.from_df(data.pop(key).rename(columns=_column_namer(key))))


def _column_namer(key: str) -> Callable[[str], str]:
    """Return the function that gives a column of the table ``key`` the name of an attribute."""
    suffix = key.removeprefix("table")

    def column_key(column: str) -> str:
        # the number of a split column stays last: interval_0 of table_clock is interval_clock_0
        if _SPLIT_KEY.match(column):
            return f"{column[:-2]}{suffix}{column[-2:]}"
        return f"{column}{suffix}"

    return column_key


def _expand_timestamps(name: str, data: AlfBunch) -> None:
    """Give timestamps with two rows a time for each sample. Warn of arrays of other lengths."""
    if data.check_dimensions:
        _warn_of_dimensions(name, data)
        return
    samples = [
        shape[0]
        for key, value in data.items()
        if "timestamps" not in key and "meta" not in key and (shape := _shape(value)) is not None
    ]
    for key, value in data.items() if samples else ():
        if "timestamps" in key and _is_array(value):
            data[key] = interpolate_timestamps(value, samples[0])


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array or a DataFrame. Return None for another value."""
    is_frame = hasattr(value, "columns")
    return value.shape if is_frame or _is_array(value) else None


def _is_array(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray)


def _warn_of_dimensions(name: str, data: Mapping[str, Any]) -> None:
    shapes = {key: _shape(value) for key, value in data.items()}
    sizes = ", ".join(f"{key} {shape}" for key, shape in shapes.items() if shape is not None)
    warn(f"the attributes of the object {name} have not the same length: {sizes}")

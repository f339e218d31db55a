"""A dict whose keys are also attributes, as ONE-api returns it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any


class Bunch(dict[str, Any]):
    """A dict whose keys are also attributes: ``spikes["times"]`` is ``spikes.times``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            ) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *map(str, self)})

    def copy(self, deep: bool = False) -> Bunch:
        """Return a copy. With ``deep``, the values are copied, too."""
        return deepcopy(self) if deep else type(self)(self)

    def save(self, npz_file: Path | str, compress: bool = False) -> None:
        """Save the arrays in an ``.npz`` file."""
        import numpy as np

        (np.savez_compressed if compress else np.savez)(npz_file, **self)

    @staticmethod
    def load(npz_file: Path | str) -> Bunch:
        """Return the arrays in an ``.npz`` file. Raises FileNotFoundError if it is missing."""
        import numpy as np

        with np.load(npz_file, allow_pickle=False) as archive:
            return Bunch({name: archive[name] for name in archive.files})

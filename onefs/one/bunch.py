"""A dict whose keys are also attributes, as ONE-api returns it."""

from __future__ import annotations

from typing import Any


class Bunch(dict[str, Any]):
    """A dict whose keys are also attributes: ``ref["subject"]`` is ``ref.subject``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__dict__ = self

    def copy(self) -> Bunch:
        """Return a copy. The values are not copied."""
        return Bunch(self)

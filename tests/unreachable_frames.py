"""Frames that are not freed at once, because an error that is stored in one of them has them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import onefs

_PACKAGE = onefs.__path__[0]


@contextmanager
def unreachable_frames() -> Iterator[list[str]]:
    """Yield a list. After the ``with`` block, it has the functions of onefs with such frames.

    Only a search for cycles frees these frames, and their variables.
    """
    names: list[str] = []
    flags = gc.get_debug()
    gc.collect()
    gc.disable()
    gc.freeze()  # frames of threads that earlier tests have left are not searched
    try:
        yield names
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        codes = [each.f_code for each in gc.garbage if isinstance(each, FrameType)]
        names += [code.co_name for code in codes if code.co_filename.startswith(_PACKAGE)]
    finally:
        gc.set_debug(flags)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()

"""Absolute paths, with a clear error if the working directory was deleted."""

from __future__ import annotations

import os

from onefs.errors import UsageError


def absolute(path: str | os.PathLike[str]) -> str:
    """Return ``path`` as an absolute path. Expand ``~``, and keep symbolic links.

    Raises UsageError for a relative path if the working directory was deleted.
    """
    text = os.path.expanduser(os.fspath(path))
    try:
        return os.path.abspath(text)
    except FileNotFoundError as error:
        raise _deleted_folder_error(text) from error


def absolute_as_written(path: str) -> str:
    """Return ``path`` as an absolute path. Keep ``~``, ``..`` and symbolic links.

    Raises UsageError if the working directory was deleted.
    """
    try:
        return os.path.join(os.getcwd(), path)
    except FileNotFoundError as error:
        raise _deleted_folder_error(path) from error


def resolved(path: str | os.PathLike[str]) -> str:
    """Return ``path`` as an absolute path without symbolic links. Expand ``~``.

    Raises UsageError for a relative path if the working directory was deleted.
    """
    return os.path.realpath(absolute(path))


def _deleted_folder_error(text: str) -> UsageError:
    folder = os.environ.get("PWD") or "the current folder"
    return UsageError(
        f"{folder} was deleted, and {text} is a path in this folder: change to another folder"
    )

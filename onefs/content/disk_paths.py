"""Paths of datasets on a disk that has the files of a file server. No I/O."""

from __future__ import annotations

import os
from urllib.parse import unquote_to_bytes

from onefs.alf import SUBJECTS, names_with_uuid
from onefs.cache.folder import Place
from onefs.model import Dataset


def paths_on_disk(dataset: Dataset, place: Place | None) -> list[tuple[str, bool]]:
    """Return the paths at which a dataset's file may be, below the folder of the disk.

    Each path comes with whether its name has the dataset's UUID. The first one is the path on the
    file server, which the first replica's URL has; without a replica it is the path in ONE's
    layout, ``place``, with the UUID before the extension. The second one is the same without UUID.
    """
    urls = sorted((each.url for each in dataset.replicas), key=lambda url: url[:4] != "http")
    served = next(filter(None, map(_path_in_url, urls)), "")
    if not served:
        if not place:
            return []
        lab, *folders, name = place
        stem, dot, extension = name.rpartition(".")
        name = f"{stem}.{dataset.uuid}.{extension}" if dot else f"{name}.{dataset.uuid}"
        served = "/".join((lab, SUBJECTS, *folders, name))
    plain = without_uuid(served, dataset.uuid)
    return [(served, True), (plain, False)] if plain != served else [(plain, False)]


def without_uuid(path: str, dataset_id: str) -> str:
    """Return a path without the dataset's UUID in the file's name."""
    folder, slash, name = path.rpartition("/")
    plain = next((clean for uuid, clean in names_with_uuid(name) if uuid == dataset_id), name)
    return f"{folder}{slash}{plain}"


def one_path(path: str, dataset_id: str) -> str:
    """Return the path in ONE's layout, ``lab/Subjects/...``, of a file on a disk."""
    return without_uuid(_from_last_lab(path) or path.lstrip("/"), dataset_id)


def split_at_lab(path: str) -> tuple[str, str]:
    """Return the folder of the disk that has a file, and the path below it, from the lab on."""
    relative = _from_last_lab(path) or path.rpartition("/")[2]
    return path[: -len(relative) - 1] or "/", relative


def _path_in_url(url: str) -> str:
    """Return the path from the lab on, or '' if the URL has another layout."""
    return _from_lab(os.fsdecode(unquote_to_bytes(url.partition("://")[2])))


def _from_last_lab(path: str) -> str:
    """Return the path from the lab on. The folder of the disk may have the name in its path too."""
    folder = path.rpartition(f"/{SUBJECTS}/")[0].rpartition("/")[0]
    return _from_lab(path.removeprefix(folder))


def _from_lab(path: str) -> str:
    above, found, below = path.partition(f"/{SUBJECTS}/")
    lab = above.rpartition("/")[2]
    return f"{lab}/{SUBJECTS}/{below}" if found and lab else ""

"""The verbs of ONE-api for files that a server, or the cache folder, has lost.

Each docstring names what the test follows (see ``test_search.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import CacheError, NotFound
from onefs.one import ONE, OnefsWarning
from onefs.one.alf_contents import read_content
from tests.laboratories import AlteredLaboratory
from tests.one.conftest import EID, arguments
from tests.one.one_api_client import remote_client

pytest.importorskip("one.api")


class LossyLaboratory(AlteredLaboratory):
    """The embedded laboratory, whose file server lacks the files with ``lost`` in their paths."""

    lost = ""

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        if self.lost and self.lost in path:
            return None
        found: Path | bytes | None = self._source.file(path)
        return found


@pytest.fixture(scope="module")
def laboratory() -> LossyLaboratory:
    return LossyLaboratory(SyntheticLaboratory())


@pytest.fixture(scope="module")
def lossy(laboratory: LossyLaboratory) -> Iterator[Servers]:
    with Servers(laboratory) as found:
        yield found


@pytest.fixture
def one(lossy: Servers, laboratory: LossyLaboratory) -> Iterator[ONE]:
    laboratory.lost = ""
    with ONE(**arguments(lossy)) as found:
        yield found


def test_a_lost_file_is_an_error(
    one: ONE, lossy: Servers, laboratory: LossyLaboratory, tmp_path: Path
) -> None:
    """ONE-api: an error, and never an object without the attribute; ours names the file."""
    laboratory.lost = "spikes.amps"
    theirs = remote_client(lossy, tmp_path / "theirs")
    for verb, *values in (
        ("load_object", EID, "spikes"),
        ("load_collection", EID, ""),
        ("load_dataset", EID, "spikes.amps.npy"),
        ("load_datasets", EID, ["spikes.amps.npy", "spikes.times.npy"]),
    ):
        with pytest.raises(Exception, match="404"):
            getattr(theirs, str(verb))(*values)
        with pytest.raises(NotFound, match=r"no server has the datasets .*spikes\.amps\.npy"):
            getattr(one, str(verb))(*values)
    names = ["spikes.amps.npy", "spikes.times.npy"]
    with pytest.warns(OnefsWarning, match=r"no server has the dataset .*spikes\.amps\.npy"):
        contents, records = one.load_datasets(EID, names, assert_present=False)
    assert contents[0] is None
    assert contents[1].shape
    assert [each.rel_path.rpartition("/")[2] for each in records] == names


class Remover:
    """Reads files, and removes each of the first ``count`` files before it is read."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, path: Path) -> Any:
        if self.left:
            self.left -= 1
            path.unlink()
        return read_content(path)


def test_a_file_that_is_removed_before_it_is_read_is_fetched_again(
    one: ONE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: another process may clear the cache at any time."""
    for verb, count in (("load_object", 1), ("load_collection", 1), ("load_object", 2)):
        monkeypatch.setattr("onefs.one.alf_objects.read_content", Remover(count))
        wanted = ("",) if verb == "load_collection" else ("spikes",)
        if count == 1:
            assert getattr(one, verb)(EID, *wanted)
        else:
            with pytest.raises(CacheError, match="No such file") as raised:
                getattr(one, verb)(EID, *wanted)
            assert not isinstance(raised.value, NotFound)

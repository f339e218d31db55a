"""ALF objects of files that the embedded laboratory lacks, compared with ONE-api itself.

Each docstring names what the test follows (see ``test_search.py``).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from onefs.errors import BadContent, CacheError, SeveralDatasets
from onefs.one import OnefsWarning, file_formats
from onefs.one.alf_contents import read_content, read_numbers
from onefs.one.alf_objects import AlfBunch, load_files
from onefs.one.alf_patterns import parse_name
from tests.one.one_api_client import assert_same, outcome
from tests.running import run

alfio = pytest.importorskip("one.alf.io")


def load(paths: Iterable[Path]) -> AlfBunch:
    """Return the object that ours makes of files."""
    named = [(path, parse_name(path.name)) for path in paths]
    return load_files([(path, parts) for path, parts in named if parts is not None])


def write(folder: Path) -> None:
    """Write files of many objects, each with a case of its own."""
    times = np.arange(5.0)
    np.save(folder / "column.times.npy", times[:, np.newaxis])
    np.save(folder / "column.wide.npy", np.ones((5, 2)))
    np.save(folder / "_ibl_wheel.position.npy", times)
    np.save(folder / "_ibl_wheel.timestamps.npy", np.array([[0, 10.0], [4, 18.0]]))
    np.save(folder / "_ibl_wheel.timestamps_bpod.npy", times)
    np.save(folder / "waves.data.npy", np.arange(10.0).reshape(5, 2))
    (folder / "waves.data.metadata.json").write_text('{"columns": ["x", "y"], "unit": "mm"}')
    np.save(folder / "units.data.npy", times)
    (folder / "units.data.metadata.json").write_text('{"unit": "mm"}')
    np.save(folder / "uneven.a.npy", times)
    np.save(folder / "uneven.b.npy", times[:3])
    np.save(folder / "clock.times.npy", times)
    np.save(folder / "clock.times_bpod.raw.v2.npy", times)
    np.savez(folder / "packed.single.npz", times)
    np.savez(folder / "packed.several.npz", a=times, b=times)
    frame = pd.DataFrame(
        {"choice": [1, -1, 0, 1, 1], "intervals_0": times, "intervals_1": times + 1}
    )
    frame.to_parquet(folder / "_ibl_trials.table.pqt")
    frame.to_parquet(folder / "rig.table_bpod.x.pqt")
    frame.to_csv(folder / "texts.metrics.csv", index=False)
    frame.to_csv(folder / "texts.tabs.tsv", index=False, sep="\t")
    frame.to_csv(folder / "texts.spaces.ssv", index=False, sep=" ")
    pd.DataFrame({"label": ["a", "NA", "c", "", "e"]}).to_csv(
        folder / "texts.single.csv", index=False
    )
    (folder / "lines.rows.jsonable").write_text('{"a": 1}\n{"a": 2}\n')
    (folder / "values.json.json").write_text(json.dumps({"a": [1, None]}))
    (folder / "values.invalid.json").write_text("{")
    (folder / "values.empty.npy").write_bytes(b"")
    (folder / "values.some.yaml").write_text("a: 1\nb: [x, y]\n")
    (folder / "values.other.mp4").write_bytes(b"\0\1")
    np.save(folder / "volume.cube.npy", np.zeros((2, 3, 4)))


def objects(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each object, without metadata of another file."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        parts = parse_name(path.name)
        if parts is not None:
            found.setdefault(parts.object, []).append(path)
    return found


def as_dict(loaded: Any) -> Any:
    """Return a result with dicts instead of numpy's archives, to compare it."""
    if isinstance(loaded, dict):
        return {key: as_dict(value) for key, value in loaded.items()}
    return {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else loaded


@pytest.mark.filterwarnings("ignore")
def test_objects_are_those_of_one_api(tmp_path: Path) -> None:
    """ONE-api: keys, arrays, tables, metadata, timestamps, and the reading of each format."""
    write(tmp_path)
    found = objects(tmp_path)
    assert len(found) == 13
    for name, paths in found.items():
        theirs = outcome(lambda paths=paths: alfio.load_object(paths))  # type: ignore[misc]
        if name == "texts":  # ONE-api has no check for a Series among the attributes
            assert set(theirs) == {"metrics", "tabs", "spaces", "single"}
        assert_same(as_dict(load(paths)), as_dict(theirs))


_TIMES = np.arange(6.0)
TABLES = {
    "floats": pd.DataFrame({"a": _TIMES, "b_0": _TIMES + 1, "b_1": _TIMES + 2}),
    "missing": pd.DataFrame({"a": [1.5, np.nan], "b": [np.inf, 2]}),
    "single missing": pd.DataFrame({"a": np.array([np.nan] * 9 + [2], dtype="f4")}),
    "numbers": pd.DataFrame({"a": np.arange(3), "b": np.arange(3, dtype="f4")}),
    "small numbers": pd.DataFrame({"a": np.arange(3, dtype="u1"), "b": np.arange(3, dtype="i2")}),
    "large numbers": pd.DataFrame({"a": [2**63, 1], "b": [-1, 2]}).astype({"a": "uint64"}),
    "truths": pd.DataFrame({"a": [True, False], "b": [1.0, 2.0]}),
    "only truths": pd.DataFrame({"a": [True, False]}),
    "texts": pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]}),
    "no null": pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [1.0, 2.0]}),
    "days": pd.DataFrame({"a": pd.to_datetime(["2020-01-02", None])}),
    "categories": pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "an index": pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}).set_index("a"),
    "no rows": pd.DataFrame({"a": np.zeros(0)}),
    "no columns": pd.DataFrame(),
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["_ibl_trials.table.pqt", "x.table_bpod.pqt"])
def test_columns_of_tables_are_those_of_one_api(tmp_path: Path, name: str, table: str) -> None:
    """ONE-api: ``load_object`` of tables of every kind, in one or several groups of rows."""
    path = tmp_path / name
    TABLES[table].to_parquet(path, row_group_size=4)
    theirs = outcome(lambda: alfio.load_object([path]))
    assert_same(outcome(lambda: load([path])), theirs)


def test_a_table_of_numbers_needs_no_pandas(tmp_path: Path) -> None:
    """Ours: the import of pandas takes longer than everything else."""
    path = tmp_path / "_ibl_trials.table.pqt"
    pd.concat([TABLES["floats"], TABLES["missing"]]).to_parquet(path, index=False)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from onefs.one.alf_objects import load_files\n"
        "from onefs.one.alf_patterns import parse_name\n"
        "path = Path(sys.argv[1])\n"
        "trials = load_files([(path, parse_name(path.name))])\n"
        "print(trials.a[:6].sum(), trials.a.shape, 'pandas' in sys.modules)"
    )
    printed = run([sys.executable, "-c", program, path]).stdout
    assert printed == "15.0 (8,) False\n"


def test_attributes_of_other_lengths_are_named(tmp_path: Path) -> None:
    """ONE-api: a warning with the shapes."""
    write(tmp_path)
    with pytest.warns(OnefsWarning, match=r"uneven have not the same length: a \(5,\), b \(3,\)"):
        load(objects(tmp_path)["uneven"])
    with pytest.warns(OnefsWarning, match="cube has 3 dimensions"):
        load(objects(tmp_path)["volume"]).to_df()


def test_an_attribute_of_two_files_is_refused(tmp_path: Path) -> None:
    """ONE-api: an error; ours names the attribute."""
    for name in ("_ibl_spikes.times.npy", "_other_spikes.times.npy"):
        np.save(tmp_path / name, np.zeros(2))
    with pytest.raises(SeveralDatasets, match="several files for the attribute times"):
        load(sorted(tmp_path.iterdir()))


def test_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    """Ours: reading Python objects may run any code."""
    path = tmp_path / "any.object.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.warns(OnefsWarning, match="allow_pickle"):
        assert read_content(path) == path


def test_files_that_are_damaged(tmp_path: Path) -> None:
    """ONE-api: an error for a file that its name describes wrongly; None for JSON."""
    names = ("a.b.npy", "a.c.pqt", "a.f.npz", "a.g.csv", "a.h.jsonable")
    for name in names:
        path = tmp_path / name
        path.write_bytes(b'"nothing\nof, the, kind')
        with pytest.raises(BadContent, match=re.escape(f"{name} cannot be read: ")):
            read_content(path)
        with pytest.raises(Exception, match=r"\w"):
            alfio.load_file_content(path)
    path = tmp_path / "a.b.json"
    path.write_bytes(b"{")
    with pytest.warns(OnefsWarning, match="not valid JSON"):
        assert read_content(path) is None
    assert alfio.load_file_content(path) is None
    path = tmp_path / "a.d.sparse_npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.warns(OnefsWarning, match="its path is returned: the package sparse"):
        assert read_content(path) == path
    latin = tmp_path / "a.e.csv"
    latin.write_bytes("name\ncafé\n".encode("latin-1"))
    with pytest.warns(OnefsWarning, match="latin-1"):
        assert list(read_content(latin)) == ["café"]


def test_a_table_that_is_gone_is_not_an_error_of_its_own(tmp_path: Path) -> None:
    """The reader of all files then says so, and the file is fetched again."""
    assert read_numbers(tmp_path / "_ibl_trials.table.pqt") is None


@pytest.mark.parametrize("name", ["a.b.npy", "a.b.json", "a.b.csv", "a.b.npz"])
def test_errors_of_the_disk_are_no_content(tmp_path: Path, name: str) -> None:
    """Ours: an error that names the file; ONE-api has None for JSON."""
    path = tmp_path / name
    with pytest.raises(CacheError, match=re.escape(f"{name} cannot be read: No such file")):
        read_content(path)
    path.mkdir()
    (path / "entry").touch()  # its size is not 0
    for read in (read_content, file_formats.read_file):
        with pytest.raises(CacheError, match=re.escape(f"{name} cannot be read: ")):
            read(path)


def test_a_lack_of_memory_is_no_content(tmp_path: Path) -> None:
    """ONE-api: MemoryError."""
    path = tmp_path / "a.b.npy"
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    for read in (read_content, file_formats.read_file):
        with pytest.raises(MemoryError):
            read(path)


def test_archives_are_those_of_numpy(tmp_path: Path) -> None:
    """ONE-api: an archive with ``files``."""
    path = tmp_path / "a.b.npz"
    np.savez(path, a=np.arange(3), b=np.arange(4))
    with read_content(path) as ours, alfio.load_file_content(path) as theirs:
        assert ours.files == theirs.files == ["a", "b"]
        assert (ours["b"] == theirs["b"]).all()

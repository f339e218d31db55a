"""Tests of the readers: an unusual file is read as it was written, or the error says why not."""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from onefs.one import OnefsWarning, file_formats, headers

HERE = Path(__file__).parent.parent / "data"
CASES = HERE / "readers"
RIG = HERE / "rig" / "files" / "iblrig" / "Subjects"
#: six files of each odd kind
SEEDS = range(6)
#: characters that are ends of lines to some readers, and are none
NO_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@pytest.fixture(autouse=True)
def _no_warning() -> Any:
    """Make a warning that a test does not expect an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", OnefsWarning)
        warnings.simplefilter("error", pd.errors.ParserWarning)
        yield


def words(dice: random.Random, letters: str = "") -> str:
    return "w" + "".join(dice.choices("ab c'éµ日" + letters, k=dice.randint(0, 8)))


def described(path: Path) -> dict[str, Any]:
    def first(length: int) -> bytes:
        return path.read_bytes()[:length]

    here = headers.describe_file(path.name, first, path)
    remote = headers.describe_file(path.name, first, None)
    assert {key: value for key, value in here.items() if key in remote} == remote
    return here


# -- JSON


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_json_lines_end_at_newlines_only(tmp_path: Path, seed: int, encoding: str) -> None:
    dice = random.Random(seed)
    rows = [
        {"n": number, words(dice): [words(dice, NO_ENDS[:5]), None, True, dice.random()]}
        for number in range(dice.randint(1, 20))
    ]
    rows[-1]["x"] = math.inf if seed % 2 else -math.inf
    end = "\r\n" if seed % 3 else "\n"
    text = end.join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = tmp_path / "_iblrig_taskData.raw.jsonable"
    path.write_bytes((text + (end * (seed % 4))).encode(encoding))
    assert file_formats.read_file(path) == rows
    whole = tmp_path / "a.b.json"
    whole.write_bytes(json.dumps(rows, ensure_ascii=False, indent=seed).encode(encoding))
    assert file_formats.read_file(whole) == rows


def test_json_files_of_rigs_are_read() -> None:
    rows = file_formats.read_file(CASES / "_iblrig_taskData.raw.jsonable")
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    assert rows[1]["note"] == "line\u2028separator"
    assert rows[2]["note"] == "nel\x85here"
    assert math.isnan(rows[3]["x"])
    assert file_formats.read_file(CASES / "_iblrig_taskSettings.raw.json")["SUBJECT"] == "MW_007"


def test_an_empty_file_of_json_lines_has_no_item(tmp_path: Path) -> None:
    path = tmp_path / "a.raw.jsonable"
    path.write_bytes(b"")
    assert file_formats.read_file(path) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.b.jsonable", b'{"a": 1}\n\n{"a": \n', "line 3 is not JSON"),
        ("a.b.json", b"", "is empty"),
        ("a.b.npy", b"", "is empty"),
        ("a.b.csv", b"", "is empty"),
        ("a.b.pqt", b"", "is empty"),
        ("a.b.csv", b"a,b\n\xff\x00\x01", "neither UTF-8, UTF-16, latin-1 nor cp1252"),
        ("a.b.csv", b"\xff\xfea", "begins like utf-16"),
        ("a.b.csv", b"a,b\n1,2,3\n1\n1,2,3,4\n", "Expected 3 fields in line 4, saw 4"),
        ("a.b.json", b'{"a": \xe9}', "neither|Expecting value"),
    ],
)
def test_an_unreadable_file_is_an_error_with_its_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OnefsWarning)
        with pytest.raises(file_formats.UnreadableFile, match=reason):
            file_formats.read_file(path)


# -- arrays


def arrays() -> list[np.ndarray[Any, Any]]:
    wide = np.dtype([(f"ch_{number:04d}_microvolts", "<f4") for number in range(3000)])
    return [
        np.zeros(3, wide),
        np.ones(2, [("µV", "<f8"), ("日", "<i2", (2, 3)), ("name", "<U5")]),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.empty((0, 5), ">i4"),
        np.array(7, "complex64"),
        np.array(["2020-01-01", "NaT"], "datetime64[ms]"),
    ]


@pytest.mark.parametrize("array", arrays(), ids=lambda each: f"{each.ndim}d-{each.dtype.str[:6]}")
@pytest.mark.parametrize("version", [None, (2, 0), (3, 0)])
@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
def test_arrays_are_read(
    tmp_path: Path, array: np.ndarray[Any, Any], version: tuple[int, int] | None, mmap: bool
) -> None:
    if version == (2, 0) and array.dtype.names is not None and "日" in array.dtype.names:
        pytest.skip("numpy does not write it so")
    path = tmp_path / "wide.values.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, version)
    found = file_formats.read_file(path, mmap=mmap)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes("A") == array.tobytes("A")
    said = described(path)
    assert (said["shape"], said["dtype"]) == (list(array.shape), str(array.dtype))
    with (tmp_path / "a.b.npz").open("wb") as file:
        np.savez(file, x=array)
    inside = file_formats.read_file(tmp_path / "a.b.npz")["x"]
    assert (inside.dtype, inside.tobytes("A")) == (array.dtype, array.tobytes("A"))


SCALARS = ("?", "i1", "<u2", ">i4", "<i8", ">u8", "<f2", ">f4", "<f8", ">c8", "<c16", "S5", "<U3",
           ">U4", "<M8[us]", ">m8[D]", "V6")  # fmt: skip
SHAPES: dict[str, Callable[[random.Random], tuple[int, ...]]] = {
    "0-d": lambda dice: (),
    "empty": lambda dice: tuple(dice.sample([0, dice.randint(1, 5), dice.randint(0, 3)], 3)),
    "1-d": lambda dice: (dice.randint(1, 300),),
    "n-d": lambda dice: tuple(dice.randint(1, 4) for _ in range(dice.randint(2, 8))),
}
DTYPES: dict[str, Callable[[random.Random], Any]] = {
    "plain": lambda dice: dice.choice(SCALARS),
    "big-endian": lambda dice: dice.choice([each for each in SCALARS if each[0] == ">"]),
    "structured": lambda dice: structured(dice, dice.randint(1, 6)),
    "wide": lambda dice: structured(dice, dice.randint(500, 2000)),
}


def structured(dice: random.Random, count: int, depth: int = 1) -> list[tuple[Any, ...]]:
    """Return types with fields of all kinds: nested, with shapes, with names that are not ASCII."""
    fields: list[tuple[Any, ...]] = []
    for number in range(count):
        kind: Any = dice.choice(SCALARS)
        if depth and dice.random() < 0.1:
            kind = structured(dice, 2, depth - 1)
        shape = [(dice.randint(1, 3), 2)] if dice.random() < 0.2 else []
        fields.append((f"{words(dice)} {number}", kind, *shape))
    return fields


def written(path: Path, array: np.ndarray[Any, Any], dice: random.Random) -> None:
    """Write the array to an npy file, in a version that can hold the array's header."""
    versions: list[tuple[int, int] | None] = [None, (1, 0), (2, 0), (3, 0)]
    for version in dice.sample(versions, 4):
        with path.open("wb") as file:
            try:
                np.lib.format.write_array(file, array, version)
            except ValueError:  # UnicodeEncodeError too: not in this version
                continue
        return


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
def test_arrays_of_any_kind_are_read(tmp_path: Path, seed: int, shape: str, kind: str) -> None:
    dice = random.Random(f"{seed} {shape} {kind}")
    dtype, dimensions = np.dtype(DTYPES[kind](dice)), SHAPES[shape](dice)
    if kind == "wide":
        dimensions = dimensions[:2]
    array = filled(dtype, dimensions, dice)
    if dice.random() < 0.5:
        array = np.asfortranarray(array)
    path = tmp_path / "a.values.npy"
    written(path, array, dice)
    for mmap in (False, True):
        found = file_formats.read_file(path, mmap=mmap)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
    said = described(path)
    assert (said["shape"], said["dtype"]) == (list(array.shape), str(array.dtype))
    assert said["rows"] == (array.shape[0] if array.shape else 1)
    assert ("order" in said) == (array.ndim > 1 and not array.flags.c_contiguous)


def filled(
    dtype: np.dtype[Any], shape: tuple[int, ...], dice: random.Random
) -> np.ndarray[Any, Any]:
    """Return an array of random bytes. If a type cannot hold any bytes, use words or zeros."""
    count = math.prod(shape)
    if dtype.kind == "U":
        return np.array([words(dice) for _ in range(count)], dtype).reshape(shape)
    if has_text(dtype):
        return np.zeros(shape, dtype)
    raw = bytes(dice.choices(range(256), k=count * dtype.itemsize))
    return np.frombuffer(raw, dtype, count).reshape(shape)


def has_text(dtype: Any) -> bool:
    """Whether a type holds letters or booleans, so that some bytes are invalid for it."""
    if dtype.subdtype is not None:
        return has_text(dtype.subdtype[0])
    if dtype.names is not None:
        return any(has_text(dtype.fields[name][0]) for name in dtype.names)
    return dtype.kind in "Ub"


def test_an_array_with_a_long_header_is_read() -> None:
    path = CASES / "wide.values.npy"
    found = file_formats.read_file(path)
    assert len(found.dtype.names) > 200
    assert described(path)["shape"] == list(found.shape)


@pytest.mark.parametrize("mmap", [False, True])
def test_python_objects_are_refused(tmp_path: Path, mmap: bool) -> None:
    things = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "a.b.npy", things, allow_pickle=True)
    np.savez(tmp_path / "a.b.npz", x=things, allow_pickle=True)
    mixed = np.array([(1, None)], dtype=[("n", int), ("thing", object)])
    np.save(tmp_path / "c.d.npy", mixed, allow_pickle=True)
    for name in ("a.b.npy", "a.b.npz", "c.d.npy"):
        with pytest.raises(file_formats.UnreadableFile, match="Python objects"):
            file_formats.read_file(tmp_path / name, mmap=mmap)


@pytest.mark.parametrize("dtype", "?bBhHiIlLqQefdFDgGOSUmM")
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_headers_are_described_as_numpy_reads_them(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], order: Literal["<", ">"]
) -> None:
    path = tmp_path / "a.b.npy"
    kind: np.dtype[Any] = np.dtype(dtype)
    array = np.zeros(shape, kind.newbyteorder(order), order="F")
    np.save(path, array, allow_pickle=True)
    wanted = {"shape": list(shape), "dtype": str(array.dtype), "rows": shape[0] if shape else 1}
    fortran = {"order": "Fortran"} if len(shape) > 1 else {}
    assert described(path) == {**wanted, **fortran}


@pytest.mark.parametrize(
    ("header", "shape"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (7,), }", [7]),
        ("{'shape': (7, 2), 'fortran_order': False, 'descr': '<f8'}", [7, 2]),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (07,), }", None),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (7,), }", None),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (7), }", None),
        ("{'descr': '<f8', 'fortran_order': 0, 'shape': (7,), }", None),
    ],
)
def test_headers_of_other_programs_are_described_as_numpy_reads_them(
    tmp_path: Path, header: str, shape: list[int] | None
) -> None:
    path = tmp_path / "a.b.npy"
    text = f"{header}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    found = described(path)
    if shape is None:
        assert "header is invalid" in found["note"]
    else:
        assert (found["shape"], found["dtype"]) == (shape, "float64")


@pytest.mark.parametrize("raw", [b"\x93NUMPY\x01", b"\x93NUMPY\x09\x00" + b"\x10\0\0\0" * 20])
def test_an_invalid_header_is_described_as_such(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.b.npy"
    path.write_bytes(raw)
    assert "note" in described(path)
    with pytest.raises(file_formats.UnreadableFile):
        file_formats.read_file(path)


# -- tables

MISSING_WORDS = ["NA", "nan", "None", "NULL", "null", "N/A", "n/a", "NaN", "<NA>", "#N/A"]


def frame(dice: random.Random, letters: str = "") -> pd.DataFrame:
    """Return a table of numbers, some missing, and of texts such as NA that are not missing."""
    rows = range(dice.randint(2, 40))
    texts = [dice.choice([*MISSING_WORDS, words(dice, letters)]) for _ in rows]
    texts[0] = "word"
    return pd.DataFrame(
        {
            "n": [dice.randint(-(2**62), 2**62) for _ in rows],
            f"x {words(dice)}": [dice.choice([math.nan, math.inf, dice.gauss(0, 1)]) for _ in rows],
            "acronym": texts,
            "flag": [dice.random() < 0.5 for _ in rows],
            "last": [
                dice.choice(["VISp", "NA", 'say "hi"', "a,b\tc d", "two\nlines"]) for _ in rows
            ]
            if "NA" not in letters
            else texts,
        }
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".htsv", ".ssv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_tables_are_read_unchanged(tmp_path: Path, seed: int, suffix: str, encoding: str) -> None:
    source = frame(random.Random(seed), '",#' + NO_ENDS[:3])
    source.loc[0, "last"] = "VISp"  # else the whole column may be words for missing
    text = source.to_csv(
        index=False,
        sep={".csv": ",", ".ssv": " "}.get(suffix, "\t"),
        lineterminator="\r\n" if seed % 2 else "\n",
        na_rep="nan" if seed % 3 else "",
    )
    if seed % 4 == 3:
        text = text.rstrip("\r\n")
    path = tmp_path / f"a.b{suffix}"
    path.write_bytes(text.encode(encoding))
    pd.testing.assert_frame_equal(file_formats.read_file(path), source, check_exact=True)
    assert described(path) == {"columns": list(source.columns), "rows": len(source)}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_tables_in_old_encodings_are_read_and_the_encoding_named(
    tmp_path: Path, seed: int, encoding: str
) -> None:
    letter = "ÿ" if encoding == "latin-1" else "“€"
    source = pd.DataFrame({"µV": [seed, 2], "acronym": ["NA", f"{letter}ü"]})
    path = tmp_path / "a.b.csv"
    path.write_bytes(source.to_csv(index=False).encode(encoding))
    with pytest.warns(OnefsWarning, match=f"is not UTF-8 text: onefs reads the file as {encoding}"):
        found = file_formats.read_file(path)
    pd.testing.assert_frame_equal(found, source)
    assert described(path)["columns"] == ["µV", "acronym"]


@pytest.mark.parametrize("seed", SEEDS)
def test_parquet_files_are_read(tmp_path: Path, seed: int) -> None:
    source = frame(random.Random(seed), NO_ENDS)
    source["maybe"] = pd.array([None, *range(len(source) - 1)], dtype="Int64")
    if seed % 2:
        source.index = pd.Index([f"row {n}" for n in source.index], name="name")
    if seed == 4:
        source = source.iloc[:0]
    source.to_parquet(tmp_path / "a.b.pqt")
    pd.testing.assert_frame_equal(file_formats.read_file(tmp_path / "a.b.pqt"), source)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ending", ["", " "])
def test_a_table_of_the_rigs_keeps_its_first_row(tmp_path: Path, seed: int, ending: str) -> None:
    dice = random.Random(seed)
    kinds: list[Any] = [
        lambda: dice.choice(["Event", "StateMachine"]),
        lambda: dice.randint(-(10**9), 10**9),
        lambda: round(dice.gauss(0, 1e-3), 9),
        lambda: f"2019-07-01T12:15:{dice.randint(10, 59)}.5891968+01:00",
    ]
    columns = [*dice.sample(kinds, 3), kinds[1]]
    rows = [[make() for make in columns] for _ in range(dice.randint(1, 9))]
    path = tmp_path / "_iblrig_encoderEvents.raw.ssv"
    path.write_text("".join(" ".join(map(str, row)) + ending + "\n" for row in rows))
    assert file_formats.read_file(path).to_numpy().tolist() == rows
    assert described(path) == {"rows": len(rows)}


@pytest.mark.parametrize("path", sorted(RIG.rglob("*.ssv")), ids=lambda path: path.name)
def test_tables_of_rigs_are_read(path: Path) -> None:
    lines = path.read_text().splitlines()
    found = file_formats.read_file(path)
    assert found.shape == (len(lines), len(lines[0].split()))
    assert [str(each) for each in found.iloc[0]][-1][:6] == lines[0].split()[-1][:6]


def test_a_rigs_table_without_column_names_is_read() -> None:
    found = file_formats.read_file(CASES / "_iblrig_encoderEvents.raw.ssv")
    assert found.iloc[0].tolist() == ["Event", 0, 0]
    assert found.shape == (5, 3)


def test_a_separator_at_the_end_of_each_line_moves_no_column(tmp_path: Path) -> None:
    path = tmp_path / "a.b.ssv"
    path.write_text("a b\n1 2 \n3 4 \n")
    assert file_formats.read_file(path).to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_a_long_header_row_is_described(tmp_path: Path) -> None:
    names = [f"channel {number}" for number in range(500)]
    path = tmp_path / "a.b.csv"
    pd.DataFrame([[1] * 500], columns=names).to_csv(path, index=False)
    assert described(path) == {"columns": names, "rows": 1}
    path.write_text("a,b")
    assert described(path) == {"columns": ["a", "b"], "rows": 0}
    assert list(file_formats.read_file(path).columns) == ["a", "b"]


def test_a_very_long_field_is_read_but_not_described(tmp_path: Path) -> None:
    path = tmp_path / "a.b.csv"
    path.write_text('a\n"' + "x" * 200_000 + '"\n')
    assert described(path)["columns"] == ["a"]
    assert "cannot be read" in described(path)["note"]
    assert len(file_formats.read_file(path)["a"][0]) == 200_000


def test_names_of_rows_stay_names_of_rows(tmp_path: Path) -> None:
    """R writes names of rows in this form, without a name for their column."""
    path = tmp_path / "a.b.tsv"
    path.write_text("a\tb\n7\t1\tx\n8\t2\tNA\n")
    found = file_formats.read_file(path)
    assert found.index.tolist() == [7, 8]
    assert found.to_dict("list") == {"a": [1, 2], "b": ["x", "NA"]}


def test_an_array_that_ends_early_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.b.npy", np.arange(3))
    path = tmp_path / "c.d.npy"
    path.write_bytes((tmp_path / "a.b.npy").read_bytes()[:-4])
    with pytest.raises(file_formats.UnreadableFile):
        file_formats.read_file(path)

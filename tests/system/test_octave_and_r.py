"""GNU Octave and R read arrays and tables through a mount, by docs/examples/readnpy.m and .R."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from numpy.typing import NDArray

from onefs.demo.alyx_rows import make_id
from tests.laboratories import small_folder
from tests.required_programs import octave, rscript
from tests.running import Home, Mounted, run

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SESSION = "labone/Subjects/mouse.1/2021-03-04/003"
TABLE = [["label", "depth"], ["a,b", "1.5"], ["c", "-2"]]

_RANDOM = np.random.default_rng(5)
#: name -> an array, and the version of the format that it is written in
ARRAYS: dict[str, tuple[NDArray[np.generic], int]] = {
    "vector.f8": (_RANDOM.random(5000), 1),
    "matrix.i2": (_RANDOM.integers(-(2**15), 2**15, (50, 3)).astype("<i2"), 1),
    "fortran.u1": (np.asfortranarray(_RANDOM.integers(0, 256, (4, 6)).astype("u1")), 1),
    "cube.bigF4": (_RANDOM.random((3, 4, 2)).astype(">f4"), 1),
    "second.i8": (_RANDOM.integers(-(2**53), 2**53, (2, 3)).astype("<i8"), 2),
    "second.bigU8": (_RANDOM.integers(0, 2**53, 9).astype(">u8"), 2),
    "third.logical": (_RANDOM.random((7, 2)) < 0.5, 3),
    "ends.i1": (np.array([-128, 127, 0], "i1"), 1),
    "ends.u2": (np.array([0, 2**16 - 1], ">u2"), 1),
    "ends.i4": (np.array([-(2**31), 2**31 - 1, -1], "<i4"), 1),
    "ends.u4": (np.array([2**32 - 1, 2**31, 0], "<u4"), 1),
    "none.f8": (np.empty((0, 3)), 1),
    "scalar.f4": (np.array(1.5, "<f4"), 1),
}
#: arrays for which the programs have no type
REFUSED: dict[str, NDArray[np.generic]] = {
    "records.table": np.zeros(3, [("a", "<i4"), ("b", "<f8")]),
    "objects.list": np.array([None, "x"], object),
    "texts.short": np.array(["ab", "c"]),
    "complex.c16": np.zeros(2, complex),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small_folder(tmp_path_factory.mktemp("data"))
    alf = made / SESSION / "alf"
    alf.mkdir(parents=True)
    for name, (array, version) in ARRAYS.items():
        with open(alf / f"{name}.npy", "wb") as file:
            npy.write_array(file, array, version=(version, 0))
    for name, refused in REFUSED.items():
        np.save(alf / f"{name}.npy", refused, allow_pickle=True)
    (alf / "short.f8.npy").write_bytes((alf / "vector.f8.npy").read_bytes()[:-80])
    (alf / "text.f8.npy").write_text("no array\n" * 20)
    with open(alf / "regions.table.csv", "w", newline="") as table:
        csv.writer(table).writerows(TABLE)
    return made


@pytest.fixture(scope="module")
def mounted(shared_home: Home, folder: Path) -> Mounted:
    return shared_home.mount("--demo", "--demo-data", folder)


def lines_of(command: list[str | Path], script: Path, code: str) -> list[str]:
    """What a program prints that runs this code."""
    script.write_text(code)
    return run([*command, script], timeout=60).stdout.splitlines()


def octave_lines(script: Path, code: str) -> list[str]:
    return lines_of([octave(), "--no-init-file", "--no-history", "--quiet"], script, code)


def r_lines(script: Path, code: str) -> list[str]:
    return lines_of([rscript(), "--vanilla"], script, code)


_OCTAVE = """
addpath('{examples}');
names = {{ {names} }};
for k = 1:numel(names)
  data = readnpy(fullfile('{folder}', [names{{k}} '.npy']));
  printf('%s %s\\n', class(data), mat2str(size(data)));
  fid = fopen(fullfile('{out}', names{{k}}), 'w');
  if islogical(data) data = uint8(data); end
  fwrite(fid, data, class(data));
  fclose(fid);
end
"""
_CLASSES = {"f8": "double", "f4": "single", "b1": "logical"}


def octave_class(dtype: np.dtype[np.generic]) -> str:
    named = _CLASSES.get(dtype.str[1:])
    return named or ("u" if dtype.kind == "u" else "") + f"int{8 * dtype.itemsize}"


def octave_size(shape: tuple[int, ...]) -> list[int]:
    return [*shape, *[1, 1][len(shape) :]]


def test_octave_reads_every_type_order_and_version(mounted: Mounted, tmp_path: Path) -> None:
    code = _OCTAVE.format(
        examples=EXAMPLES,
        names=" ".join(f"'{name}'" for name in ARRAYS),
        folder=mounted.path / SESSION / "alf",
        out=tmp_path,
    )
    shown = octave_lines(tmp_path / "read.m", code)
    for (name, (array, _)), line in zip(ARRAYS.items(), shown, strict=True):
        class_name, size = line.split(" ", 1)
        assert (name, class_name) == (name, octave_class(array.dtype))
        assert json.loads(size.replace(" ", ",")) == octave_size(array.shape)
        found = np.fromfile(tmp_path / name, array.dtype.newbyteorder("="))
        np.testing.assert_array_equal(found, array.ravel(order="F"), name)


_REFUSALS = """
addpath('{examples}');
names = {{ {names} }};
for k = 1:numel(names)
  try
    readnpy(fullfile('{folder}', names{{k}}));
    disp('none');
  catch trouble
    disp(trouble.identifier);
  end
end
"""


def test_octave_says_what_it_cannot_read(mounted: Mounted, tmp_path: Path) -> None:
    expected = {
        **{f"{name}.npy": "readnpy:type" for name in REFUSED},
        "short.f8.npy": "readnpy:short",
        "text.f8.npy": "readnpy:format",
        "absent.f8.npy": "readnpy:open",
    }
    code = _REFUSALS.format(
        examples=EXAMPLES,
        names=" ".join(f"'{name}'" for name in expected),
        folder=mounted.path / SESSION / "alf",
    )
    assert octave_lines(tmp_path / "refuse.m", code) == list(expected.values())


_DIR = """
found = dir('{folder}');
for k = 1:numel(found)
  printf('%d %d %s\\n', found(k).bytes, found(k).isdir, found(k).name);
end
"""


def test_dir_has_exact_sizes_with_the_dots_first(
    mounted: Mounted, folder: Path, tmp_path: Path
) -> None:
    code = _DIR.format(folder=mounted.path / SESSION / "alf")
    rows = [line.split(" ", 2) for line in octave_lines(tmp_path / "dir.m", code)]
    assert [name for _, _, name in rows[:2]] == [".", ".."]
    assert [is_folder for _, is_folder, _ in rows] == ["1", "1", *["0"] * (len(rows) - 2)]
    sizes = {name: int(size) for size, _, name in rows[2:]}
    assert sizes == {
        each.name: each.stat().st_size for each in (folder / SESSION / "alf").iterdir()
    }


# the calls that kwikteam's npy-matlab and IBL's ibllib-matlab make, in their order
_OLD_LOADERS = """
path = '{path}';
printf('%d %d\\n', exist(path, 'file'), numel(dir(path)));
fid = fopen(path);
magic = fread(fid, [1 6], 'uint8=>uint8');
version = fread(fid, [1 2], 'uint8=>uint8');
total = 10 + double(fread(fid, [1 1], 'uint16=>uint16'));
fclose(fid);
fid = fopen(path, 'r', 'l');
[~] = fread(fid, total, 'uint8');
data = fread(fid, {count}, 'double=>double');
printf('%d\\n', feof(fid), ftell(fid), fseek(fid, 0, 'bof'));
fclose(fid);
fid = fopen('{out}', 'w');
fwrite(fid, data, 'double');
fclose(fid);
"""


@pytest.mark.parametrize("name", ["vector.f8.npy", "vector.f8.{id}.npy"])
def test_old_loaders_read_a_name_with_and_without_its_uuid(
    mounted: Mounted, tmp_path: Path, name: str
) -> None:
    inside = f"{SESSION}/alf/{name.format(id=make_id(f'{SESSION}/alf/vector.f8.npy'))}"
    array, out = ARRAYS["vector.f8"][0], tmp_path / "data"
    code = _OLD_LOADERS.format(path=mounted.path / inside, count=array.size, out=out)
    shown = octave_lines(tmp_path / "old.m", code)
    assert shown == ["2 1", "0", str((mounted.path / inside).stat().st_size), "0"]
    np.testing.assert_array_equal(np.fromfile(out), array)


_WALK = """
function found = walk(folder)
  entries = dir(folder);
  found = {{}};
  for k = 1:numel(entries)
    if all(entries(k).name == '.') continue; end
    inner = [entries(k).folder filesep entries(k).name];
    if entries(k).isdir
      found = [found, walk(inner)];
    else
      found{{end + 1}} = inner;
    end
  end
end
printf('%s\\n', walk('{folder}'){{:}});
"""


def test_a_recursive_dir_finds_every_file(mounted: Mounted, folder: Path, tmp_path: Path) -> None:
    code = "1;\n" + _WALK.format(folder=mounted.path / SESSION)
    found = {line.rpartition("/003/")[2] for line in octave_lines(tmp_path / "walk.m", code)}
    session = folder / SESSION
    assert found == {
        str(path.relative_to(session)) for path in session.rglob("*") if path.is_file()
    }


_R = """
source("{examples}/readnpy.R")
for (name in c({names})) {{
  data <- readnpy(file.path("{folder}", paste0(name, ".npy")))
  cat(typeof(data), dim(data), "\\n")
  writeBin(as.double(data), file.path("{out}", name))
}}
table <- read.csv("{folder}/regions.table.csv")
cat(names(table), nrow(table), table$label[1], sum(table$depth), sep = "|")
"""
#: R's integers are of 32 bits, without the least
_R_INTEGERS = ("i1", "i2", "u1", "u2")


def test_r_reads_a_table_and_every_type_of_array(mounted: Mounted, tmp_path: Path) -> None:
    code = _R.format(
        examples=EXAMPLES,
        names=", ".join(f'"{name}"' for name in ARRAYS),
        folder=mounted.path / SESSION / "alf",
        out=tmp_path,
    )
    *shown, table = r_lines(tmp_path / "read.R", code)
    assert table == "label|depth|2|a,b|-0.5"
    for (name, (array, _)), line in zip(ARRAYS.items(), shown, strict=True):
        kind, *dims = line.split()
        expected = "integer" if array.dtype.str[1:] in _R_INTEGERS else "double"
        assert (name, kind) == (name, "logical" if array.dtype == bool else expected)
        assert [int(each) for each in dims] == (list(array.shape) if array.ndim > 1 else [])
        found = np.fromfile(tmp_path / name, float)
        np.testing.assert_array_equal(found, array.ravel(order="F").astype(float), name)


_R_REFUSALS = """
source("{examples}/readnpy.R")
for (name in c({names})) {{
  said <- tryCatch({{ readnpy(file.path("{folder}", name)); "none" }},
                   error = conditionMessage, warning = conditionMessage)
  cat(said, "\\n")
}}
"""


def test_r_says_what_it_cannot_read(mounted: Mounted, tmp_path: Path) -> None:
    expected = {
        **{f"{name}.npy": "no plain array of numbers" for name in REFUSED},
        "short.f8.npy": "ends after 4990 of 5000 values",
        "text.f8.npy": "is no npy file",
        "absent.f8.npy": "No such file",
    }
    code = _R_REFUSALS.format(
        examples=EXAMPLES,
        names=", ".join(f'"{name}"' for name in expected),
        folder=mounted.path / SESSION / "alf",
    )
    said = r_lines(tmp_path / "refuse.R", code)
    for line, words in zip(said, expected.values(), strict=True):
        assert words in line

"""All forms of ``load``. Each docstring names what the test follows (see ``test_search``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import (
    BadContent,
    DataServerCredentials,
    NotFound,
    SeveralDatasets,
    Unreachable,
    UsageError,
)
from onefs.one import ONE, OnefsWarning, SessionDataInfo
from tests.cli.terminal import Terminal
from tests.laboratories import downloads
from tests.one.conftest import EID, FLOWERS, REF, Open, arguments, set_home
from tests.recorded_laboratory import LOGIN, RecordedSource

THREE = ["clusters.templateWaveforms", "clusters.probes", "clusters.depths"]
#: two probes, of which one was sorted three times; the default is the sorting of 2020
TWO_PROBES = "2019-12-20_1_KS023"


def test_elements_are_in_the_order_of_the_types(shared: ONE) -> None:
    """Tutorial."""
    waveforms, probes, depths = shared.load(EID, dataset_types=THREE)
    assert waveforms.ndim == 3
    assert [len(waveforms)] * 2 == [len(probes), len(depths)]
    again = shared.load(EID, THREE[::-1])
    assert np.array_equal(again[2], waveforms)
    twice = shared.load(EID, ["clusters.depths", "clusters.depths"])
    assert len(twice) == 2


def test_one_type_gives_a_list_of_one(shared: ONE) -> None:
    """Old code: a text means a list with this one type. The result is always a list."""
    (depths,) = shared.load(EID, "clusters.depths")
    assert len(depths) == 60
    assert shared.load(EID, []) == []


def test_a_missing_dataset_is_an_empty_list(shared: ONE) -> None:
    """Tutorial: returns an empty list, to keep the order (old code: None). Old code: warns."""
    with pytest.warns(OnefsWarning, match=r"has no dataset of type 'clusters.depth' \(did you"):
        depths, empty, probes = shared.load(
            EID, ["clusters.depths", "clusters.depth", "clusters.probes"]
        )
    assert empty == []
    assert len(depths) == len(probes)


@pytest.mark.parametrize(
    "name",
    [
        EID.upper(),
        UUID(EID),
        f"/sessions/{EID}",
        f"https://alyx.example.org/sessions/{EID}",
        REF,
        "2018-08-24_001_clns0730",
        Path("/data/mainenlab/Subjects/clns0730/2018-08-24/001/alf/spikes"),
        "mainenlab/clns0730/2018-08-24/1",
        [EID],
    ],
)
def test_a_session_is_loaded_by_any_of_its_names(shared: ONE, name: Any) -> None:
    """Old code: accepts UUID, /sessions/UUID, URL. Ours: also ref, path, UUID object, list."""
    assert len(shared.load(name, "clusters.depths")[0]) == 60


def test_a_type_in_two_collections_is_not_two_elements(shared: ONE) -> None:
    """Ours: an error. The old code returned one more element, so that unpacking failed."""
    with pytest.raises(SeveralDatasets) as caught:
        shared.load(TWO_PROBES, ["spikes.times", "probes.description"])
    for words in ("spikes.times", "alf/probe00/#2020-08-31#", "alf/probe01", "collection="):
        assert words in str(caught.value)
    (first,) = shared.load(TWO_PROBES, "spikes.times", collection="alf/probe00")
    (second,) = shared.load(TWO_PROBES, "spikes.times", collection="alf/probe01/")
    assert len(first) != len(second)


def test_the_default_revision_is_loaded(shared: ONE) -> None:
    """Ours: the old ONE had no revisions. ``revision`` picks the last until then, '' the
    original."""
    found = [
        shared.load(
            TWO_PROBES, "spikes.times", collection="alf/probe00", download_only=True, revision=each
        )[0]
        for each in (None, "2020-08-31", "#2021-07-05#", "", "2021-07-04", "2030-01-01", "1999")
    ]
    assert found[0] == found[1]
    first, second = "#2020-08-31#", "#2021-07-05#"
    folders = [first, second, "probe00", first, second, "probe00"]
    assert [path.parent.name for path in found[1:]] == folders
    with pytest.warns(OnefsWarning, match="none in collection 'alf/probe07'"):
        assert shared.load(TWO_PROBES, "spikes.times", collection="alf/probe07") == [[]]


def test_the_dataclass_is_in_the_order_of_the_request_then_of_paths(shared: ONE) -> None:
    """Tutorial: lists in the queried order (the old code: the server's). Ours: all collections,
    what is missing absent, with the warning."""
    with pytest.warns(OnefsWarning, match="'no.such'"):
        info = shared.load(
            TWO_PROBES, ["spikes.times", "no.such", "spikes.amps"], dclass_output=True
        )
    assert info.dataset_type == ["spikes.times"] * 2 + ["spikes.amps"] * 2
    assert info.collection == ["alf/probe00", "alf/probe01"] * 2
    assert info.revision == ["2020-08-31", "", "2020-08-31", ""]
    for times, amps in zip(info.data[:2], info.data[2:], strict=True):
        assert len(times) == len(amps)
    assert set(info.keys()) >= {"data", "dataset_id", "local_path", "dataset_type", "url", "eid"}
    assert all(Path(path).is_file() for path in info.local_path)


def test_without_types_everything_is_loaded(shared: ONE) -> None:
    """Tutorial: all datasets (the old code: those below ``alf``), in a dataclass."""
    info = shared.load(FLOWERS)
    assert isinstance(info, SessionDataInfo)
    assert sorted(info.dataset_type) == shared.list(FLOWERS)
    assert all(isinstance(each, np.ndarray) for each in info.data)
    everything = shared.load("2019-12-13_1_KS023")
    kinds = {Path(p).suffix: d for p, d in zip(everything.local_path, everything.data, strict=True)}
    assert isinstance(kinds[".json"], dict)
    assert isinstance(kinds[".jsonable"], list)
    assert "raw_behavior_data" in everything.collection
    assert shared.load(EID, None, collection="no").dataset_id == []


def test_lists_of_sessions_give_lists_of_answers(shared: ONE) -> None:
    """Ours: a list for each session, in order (old code: only the first type). Tutorial:
    the dataclass concatenates sessions. Old code: a tuple gave None."""
    both = shared.load((EID, FLOWERS), "licks.times")
    assert [len(each) for each in both] == [1, 1]
    info = shared.load([FLOWERS, EID], "licks.times", dclass_output=True)
    assert info.eid == [FLOWERS, EID]
    assert np.array_equal(info.data[1], both[0][0])


def test_download_only_gives_paths_and_mmap_maps_arrays(shared: ONE) -> None:
    """Old code: has download_only. Ours: download_only gives Paths, and mmap is new."""
    (path,) = shared.load(EID, "spikes.times", download_only=True)
    assert path == shared.path(EID) / "spikes.times.npy"
    (mapped,) = shared.load(EID, "spikes.times", mmap=True)
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, np.load(path))
    info = shared.load(EID, ["spikes.times"], dclass_output=True, download_only=True)
    assert info.data == [path]


def test_a_file_is_downloaded_once(opened: Open, servers: Servers) -> None:
    """Old code: a cached file is not downloaded again."""
    one = opened()
    one.load(EID, THREE)
    one.load(EID, THREE)
    again = opened()
    again.load(EID, THREE)
    assert downloads(servers) == []
    assert len(list(one.path(EID).glob("*"))) == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"dataset_types": 5}, "int"),
        ({"dataset_types": [5]}, "not a name"),
        ({"dataset_types": [""]}, "not a name"),
        ({"dataset_types": {"a": 1}}, "dict"),
        ({"dataset_types": iter(["a"] * 2000)}, "1000"),
        ({"dataset_types": "x", "collection": 5}, "collection"),
        ({"dataset_types": "x", "revision": ["a"]}, "revision"),
        ({"dataset_typs": "x"}, "did you mean 'dataset_types'"),
        ({"clobber": True}, "not needed"),
        ({"cache_dir": "/x"}, "ONE\\(cache_dir"),
        ({"keep_uuid": True}, "dataset_id"),
        ({"dry_run": True}, "details=True"),
        ({"offline": True}, "ONE\\(offline"),
    ],
)
def test_invalid_arguments_are_errors_that_name_them(
    shared: ONE, more: dict[str, Any], words: str
) -> None:
    """Ours: for a removed argument, the error names what replaces it."""
    with pytest.raises(UsageError, match=words):
        shared.load(EID, **more)


def test_old_arguments_at_their_defaults_do_no_harm(shared: ONE) -> None:
    """Old code."""
    found = shared.load(
        EID, "clusters.depths", dry_run=False, cache_dir=None, clobber=False, offline=False
    )
    assert len(found[0]) == 60


def test_unknown_sessions_are_not_found(shared: ONE) -> None:
    """Ours: NotFound for an unknown eid, UsageError for an invalid eid (old code: HTTPError)."""
    with pytest.raises(NotFound):
        shared.load("00000000-0000-4000-8000-000000000000", "spikes.times")
    with pytest.raises(NotFound):
        shared.load("2018-08-24_7_clns0730", "spikes.times")
    with pytest.raises(UsageError, match="malformed"):
        shared.load("malformed", "spikes.times")


def test_without_the_file_servers_credentials_the_error_names_the_host(servers: Servers) -> None:
    """Tutorial: three arguments are enough to search and list. Ours: load names missing ones."""
    login = servers.login
    with ONE(login.username, login.password, servers.alyx_url) as one:
        assert one.list(EID)
        with pytest.raises(DataServerCredentials) as caught:
            one.load(EID, "clusters.depths")
    host = servers.data_url.partition("://")[2]
    for words in (host, "data_username", "data_password", "ONEFS_DATA_USERNAME", "onefs setup"):
        assert words in str(caught.value)


def test_a_file_server_that_is_not_named_does_not_get_the_login(
    opened: Open, servers: Servers
) -> None:
    """Ours: like the old code, which sent the login only to the server in its settings."""
    with pytest.raises(DataServerCredentials, match="may not send yours") as caught:
        opened(data_hosts="https://other.org").load(EID, "clusters.depths")
    assert f"add {servers.data_url} to ONEFS_DATA_HOSTS" in str(caught.value)
    assert [each.status for each in servers.requests if each.server == "data"] == [401]


def test_offline_cached_files_load(opened: Open, servers: Servers) -> None:
    """Ours: no request is made. With ``offline``, the old code still sent requests to Alyx."""
    opened().load(EID, ["clusters.depths"])
    away = opened(offline=True)
    assert len(away.load(EID, "clusters.depths")[0]) == 60
    with pytest.raises(Unreachable, match="is not cached"):
        away.load(EID, "spikes.times")
    assert servers.requests == []


@pytest.mark.parametrize("terminal", [True, False])
def test_long_downloads_are_shown_on_a_terminal_only(terminal: bool) -> None:
    """Old code: shows a progress bar. Ours: shows it only on a terminal."""
    code = (
        "import json, sys; from onefs import ONE\n"
        "with ONE(**json.loads(sys.argv[1])) as one:\n"
        f"    print(one.load({EID!r}, 'clusters.templateWaveforms')[0].shape)"
    )
    with Servers(SyntheticLaboratory(), rate=1_200_000) as servers:
        command = [sys.executable, "-c", code, json.dumps(arguments(servers))]
        if terminal:
            with Terminal([], dict(os.environ), command=command) as shown:
                shown.expect("0 of 1 file")
                shown.expect("(60, 82, 128)")
                assert shown.exit_code() == 0
        else:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            assert (done.stdout, done.stderr) == ("(60, 82, 128)\n", "")


# -- what is registered, and cannot be had


@pytest.fixture(scope="module")
def trapping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    source = RecordedSource(folder=tmp_path_factory.mktemp("large"))
    with Servers(source, LOGIN) as servers:
        yield servers


@pytest.fixture(scope="module")
def traps(trapping: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ONE]:
    with pytest.MonkeyPatch.context() as patch:
        set_home(tmp_path_factory.mktemp("traps"), patch)
        with ONE(**arguments(trapping)) as one:
            yield one


K09 = "d6ccedb7-336a-48b5-b348-32b8c5ca9ee1"


def test_a_dataset_on_no_server_is_an_empty_list(traps: ONE) -> None:
    """Tutorial: also if it is not on the FlatIron server. Old code: a search finds its session."""
    assert K09 in traps.search(dataset_types="_ibl_trials.included")
    with pytest.warns(OnefsWarning, match="in Alyx, but on no server"):
        assert traps.load(K09, "_ibl_trials.included") == [[]]
    assert "_ibl_trials.included" not in traps.list(K09)


def test_a_dataset_missing_on_its_server_is_an_empty_list(traps: ONE) -> None:
    """Tutorial: an empty list. Ours: also if Alyx's record says that the file exists."""
    with pytest.warns(OnefsWarning, match="is not on the server"):
        assert traps.load(K09, "_ibl_trials.contrastLeft") == [[]]


def test_wrong_bytes_are_an_error(traps: ONE) -> None:
    """Ours: the error names the file. The old code returned any bytes."""
    path = "cortexlab/KS023/2019-12-09/001/alf/_ibl_trials.contrastRight.npy"
    for _ in range(2):  # downloaded, and known
        with pytest.raises(BadContent, match=f"^{path}: the database says") as caught:
            traps.load(K09, "_ibl_trials.contrastRight")
        assert str(caught.value).count("contrastRight") == 1


def test_wrong_bytes_are_reported_once(trapping: Servers, tmp_path: Path) -> None:
    """Ours: the error reports the bytes. Standard error has no other line about the bytes."""
    given = {**arguments(trapping), "cache_dir": str(tmp_path / "other")}
    code = (
        "import json, sys\nfrom onefs import ONE\n"
        "with ONE(**json.loads(sys.argv[1])) as one:\n"
        f"    one.load({K09!r}, '_ibl_trials.contrastRight')"
    )
    command = [sys.executable, "-c", code, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.count("the file has md5") == 1


def test_loading_everything_leaves_out_unavailable_datasets(traps: ONE) -> None:
    """Ours: if one file is bad, all other files are still loaded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        info = traps.load(K09)
    said = " ".join(str(each.message) for each in caught)
    for name in ("contrastLeft", "contrastRight", "_ibl_wheel.position"):
        assert name in said
        assert not any(name in path for path in info.local_path)
    assert len(info) > 20


def test_two_defaults_are_several_datasets(traps: ONE) -> None:
    """Ours."""
    eid = "6db50f2e-e3d2-49fd-9f0f-de6f6fef1f93"
    where: dict[str, Any] = {"collection": "alf/probe01", "download_only": True}
    with pytest.raises(SeveralDatasets, match="revision=") as caught:
        traps.load(eid, "clusters.metrics", **where)
    revision = str(caught.value).partition("#")[2].partition("#")[0]
    (path,) = traps.load(eid, "clusters.metrics", revision=revision, **where)
    assert path.parent.name == f"#{revision}#"


# -- formats


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Servers, Path]]:
    """A laboratory with one file of each format, good and bad."""
    root = tmp_path_factory.mktemp("formats")
    session = root / "labone" / "Subjects" / "mouse" / "2021-03-04" / "001" / "alf"
    session.mkdir(parents=True)
    write_formats(session)
    with Servers(FolderLaboratory(root, tmp_path_factory.mktemp("digests"))) as servers:
        yield servers, session


def write_formats(folder: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    np.save(folder / "good.npy.npy", np.arange(3))
    np.save(folder / "object.npy.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(folder / "good.npz.npz", x=np.arange(2), y=np.ones(1))
    np.savez(folder / "object.npz.npz", x=np.array([{}], dtype=object), allow_pickle=True)
    (folder / "good.json.json").write_text('{"a": [1]}')
    (folder / "bad.json.json").write_text("{")
    (folder / "good.jsonable.jsonable").write_text('{"a": 1}\n{"a": 2}\n')
    frame.to_csv(folder / "good.csv.csv", index=False)
    frame.to_csv(folder / "good.tsv.tsv", index=False, sep="\t")
    frame.to_csv(folder / "good.ssv.ssv", index=False, sep=" ")
    frame.to_parquet(folder / "good.pqt.pqt")
    (folder / "empty.npy.npy").write_bytes(b"")
    (folder / "bad.npy.npy").write_bytes(b"not numpy at all, but some text")
    (folder / "video.raw.mp4").write_bytes(b"\0\1\2")


@pytest.fixture
def loader(formats: tuple[Servers, Path]) -> Iterator[ONE]:
    with ONE(**arguments(formats[0])) as one:
        yield one


WHERE = "labone/mouse/2021-03-04/001"


def test_each_format_is_read(loader: ONE) -> None:
    """Old code: reads npy, json, jsonable, csv, tsv, ssv. Ours: also reads npz and parquet."""
    names = ["npy", "npz", "json", "jsonable", "csv", "tsv", "ssv", "pqt"]
    npy, npz, text, lines, *tables = loader.load(WHERE, [f"good.{name}" for name in names])
    assert npy.tolist() == [0, 1, 2]
    assert {name: len(each) for name, each in npz.items()} == {"x": 2, "y": 1}
    assert text == {"a": [1]}
    assert lines == [{"a": 1}, {"a": 2}]
    for table in tables:
        assert table.to_dict("list") == {"a": [1, 2], "b": [0.5, 1.5]}


def test_a_file_without_a_reader_is_its_path(loader: ONE, formats: tuple[Servers, Path]) -> None:
    """Old code, 1.4: returns the Path."""
    (found,) = loader.load(WHERE, ["video.raw"])
    assert found.read_bytes() == (formats[1] / "video.raw.mp4").read_bytes()


def test_a_pickled_array_is_its_path(loader: ONE) -> None:
    """Ours: object arrays are never unpickled. The warning says how the user can read the file."""
    for name in ("object.npy.npy", "object.npz.npz"):
        with pytest.warns(OnefsWarning, match=f"numpy.load\\('{name}', allow_pickle=True"):
            (found,) = loader.load(WHERE, name.rpartition(".")[0])
        assert found.name == name


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A laboratory in which attributes are columns of tables."""
    import pandas as pd

    root = tmp_path_factory.mktemp("tabled")
    frame = pd.DataFrame(
        {"choice": [1, -1], "intervals_0": [0.0, 2.0], "intervals_1": [1.0, 3.0], "q_0": [1, 2]}
    )
    for folder in ("alf", "alf/task_00", "other"):
        session = root / "labone" / "Subjects" / "mouse" / "2021-03-04" / "001" / folder
        session.mkdir(parents=True)
        if folder != "other":
            frame.to_parquet(session / "_ibl_trials.table.pqt")
    (session / "_ibl_bad.table.pqt").write_bytes(b"no parquet")
    np.save(session / "trials.own.npy", np.arange(5))
    frame.to_csv(session / "_ibl_passiveGabor.table.csv", index=False)
    with Servers(FolderLaboratory(root, tmp_path_factory.mktemp("digests"))) as servers:
        yield servers


@pytest.fixture
def tabled(trials: Servers) -> Iterator[ONE]:
    with ONE(**arguments(trials)) as one:
        yield one


def test_a_type_that_is_a_column_is_loaded_from_its_table(tabled: ONE, trials: Servers) -> None:
    """Ours, like ONE-api's load_object: ``trials.choice`` may be a column in ``trials.table``."""
    wanted = ["trials.intervals", "trials.own", "trials.choice", "_ibl_trials.choice"]
    trials.clear_requests()
    with pytest.warns(OnefsWarning) as caught:
        found = tabled.load(WHERE, wanted[:1] + wanted[2:], collection="alf")
    assert [each.tolist() for each in found] == [[[0, 1], [2, 3]], [1, -1], [1, -1]]
    (line,) = [str(each.message) for each in caught]
    assert line.startswith("these columns were read from the table ")
    assert "/001/alf/_ibl_trials.table.pqt: " in line
    assert line.endswith(": trials.intervals, trials.choice, _ibl_trials.choice")
    assert len(downloads(trials, "_ibl_trials.table")) == 1
    with pytest.warns(OnefsWarning, match="passiveGabor.table.csv"):
        (csv,) = tabled.load(WHERE, "passiveGabor.q_0")
    assert csv.tolist() == [1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tabled.load(WHERE, "trials.own")[0].tolist() == [0, 1, 2, 3, 4]


def test_a_column_is_in_the_dataclass(tabled: ONE) -> None:
    """Ours: the row describes the table, and its data are the column. Each table has a row."""
    with pytest.warns(OnefsWarning, match="from the table"):
        info = tabled.load(WHERE, "trials.choice", dclass_output=True)
    assert [each.tolist() for each in info.data] == [[1, -1]] * 2
    assert info.collection == ["alf", "alf/task_00"]
    with pytest.warns(OnefsWarning, match="from the table"):
        (path,) = tabled.load(WHERE, "trials.choice", collection="alf", download_only=True)
    assert path.name == "_ibl_trials.table.pqt"


def test_a_missing_column_is_an_empty_list(tabled: ONE) -> None:
    """Ours: the warning names the table."""
    for dclass_output in (False, True):
        with pytest.warns(
            OnefsWarning,
            match=r"no dataset of type 'trials.choices'.*; .*alf/_ibl_"
            r"trials.table.pqt has no column 'choices' \(did you mean 'choice'",
        ):
            found = tabled.load(
                WHERE, "trials.choices", collection="alf", dclass_output=dclass_output
            )
        assert len(found) == (0 if dclass_output else 1)
    with pytest.warns(OnefsWarning, match=r"no dataset of type 'bad.x'.*; .*cannot be read"):
        assert tabled.load(WHERE, "bad.x") == [[]]
    with pytest.raises(SeveralDatasets, match="add collection="):
        tabled.load(WHERE, "trials.choice")
    with pytest.warns(OnefsWarning, match="no dataset of type '_other_trials.choice'"):
        assert tabled.load(WHERE, "_other_trials.choice", collection="alf") == [[]]


@pytest.mark.parametrize("name", ["empty.npy", "bad.npy", "bad.json"])
def test_an_unreadable_file_is_its_path(loader: ONE, name: str) -> None:
    """Old code (1.4.14): an empty file is its Path. Ours: also all unreadable files; it warns."""
    with pytest.warns(OnefsWarning, match="cannot be read"):
        (path,) = loader.load(WHERE, name)
    assert isinstance(path, Path)


def test_tables_without_pandas_are_an_error_or_paths(
    formats: tuple[Servers, Path], tmp_path: Path
) -> None:
    """Ours: the error has the install command. ``load(eid)`` returns Paths, with one warning."""
    code = f"""
import json, sys, warnings
sys.modules["pandas"] = sys.modules["pyarrow"] = None
from onefs import ONE
from onefs.errors import MissingLibrary
with ONE(**json.loads(sys.argv[1])) as one:
    for name in ("good.csv", "good.pqt"):
        try:
            one.load({WHERE!r}, name)
        except MissingLibrary as error:
            assert 'pip install "onefs[pandas]"' in str(error), error
        else:
            raise AssertionError(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        info = one.load({WHERE!r})
    said = [str(each.message) for each in caught if "pip install" in str(each.message)]
    assert len(said) == 1, said
    kinds = dict(zip(info.dataset_type, map(type, info.data)))
    assert kinds["good.csv"].__name__ == "PosixPath", kinds
    assert kinds["good.npy"].__name__ == "ndarray", kinds
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments(formats[0]))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr

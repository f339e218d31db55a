"""Tests of opening ``ONE()``, names of sessions and ``pprint``.

Each docstring names what the test follows (see ``test_search``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from onefs.alyx.auth import fetch_token
from onefs.config import settings
from onefs.config.settings import Profile
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import (
    AlyxCredentials,
    Ambiguous,
    NotConfigured,
    NotFound,
    Unreachable,
    UsageError,
)
from onefs.http import Transport
from onefs.one import ONE, SessionDataInfo, pprint
from tests.cli.terminal import Terminal
from tests.laboratories import TwinSessions, alyx_requests
from tests.one.conftest import EID, FLOWERS, REF, Open, arguments

HEAVY = ("numpy", "requests", "urllib3", "pyarrow", "pandas", "sqlite3", "mfusepy", "flask")


def environment(servers: Servers, **more: str) -> dict[str, str]:
    login = servers.login
    return {
        "ONEFS_URL": servers.alyx_url,
        "ONEFS_USERNAME": login.username,
        "ONEFS_PASSWORD": login.password,
        **more,
    }


# -- opening


def test_the_tutorials_three_arguments_save_nothing(servers: Servers, tmp_path: Path) -> None:
    """Tutorial: arguments for one use do not change the settings."""
    login = servers.login
    with ONE(username=login.username, password=login.password, base_url=servers.alyx_url) as one:
        assert one.search(subject="flowers") == [FLOWERS]
        assert one.list(FLOWERS)
        assert login.username in repr(one)
        assert login.password not in repr(one)
    assert not (tmp_path / "config").exists()
    assert not (tmp_path / ".one_params").exists()


def test_positional_arguments_are_in_the_old_order(servers: Servers) -> None:
    """Old code: the order is username, password, base_url, silent."""
    login = servers.login
    with ONE(login.username, login.password, servers.alyx_url, True) as one:
        assert one.url == servers.alyx_url


def test_a_token_replaces_a_password(servers: Servers) -> None:
    """Ours: so that accounts without a password can be used."""
    login = servers.login
    with Transport() as transport:
        token = fetch_token(transport, servers.alyx_url, login.username, login.password)
    servers.clear_requests()
    with ONE(base_url=servers.alyx_url, token=str(token)) as one:
        assert one.search(subject="flowers") == [FLOWERS]
    assert [each.path for each in servers.requests if "auth-token" in each.path] == []


def test_the_saved_database_is_used(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tutorial: ``ONE()`` uses the default settings. Here these are a profile and variables."""
    login = servers.login
    settings.save_profile(Profile("lab", servers.alyx_url, login.username), default=True)
    monkeypatch.setenv("ONEFS_PASSWORD", login.password)
    for make in (ONE, partial(ONE, profile="lab")):
        with make() as one:
            assert one.search(subject="flowers") == [FLOWERS]
    servers.clear_requests()
    monkeypatch.delenv("ONEFS_PASSWORD")
    with ONE() as one:  # the token was kept: it costs no request
        assert servers.requests == []
        assert one.search(subject="flowers") == [FLOWERS]


def test_a_cache_folder_can_be_named(servers: Servers, tmp_path: Path) -> None:
    """Ours: in the old code, only ``load`` accepted a cache folder."""
    with ONE(**arguments(servers), cache_dir=tmp_path / "mine") as one:
        (path,) = one.load(EID, "clusters.depths", download_only=True)
    assert path.is_relative_to(tmp_path / "mine" / "mainenlab" / "Subjects")
    with pytest.raises(UsageError, match="belongs to"):
        ONE(base_url="http://localhost:1", token="0" * 40, cache_dir=tmp_path / "mine")


def test_without_set_up_and_terminal_an_error_says_what_to_do() -> None:
    """Old code: asked, or wrote defaults with ``silent=True``. Ours: an error says what to do."""
    for silent in (True, False):
        with pytest.raises(NotConfigured) as caught:
            ONE(silent=silent)
        for words in ("onefs setup", "ONEFS_URL", "ONEFS_PASSWORD", "onefs demo serve"):
            assert words in str(caught.value)


def test_without_set_up_a_terminal_is_asked(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old code: asks. Ours: asks like ``onefs setup``, and does not change ``~/.one_params``."""
    before = '{"ALYX_LOGIN": "somebody"}'
    (tmp_path / ".one_params").write_text(before)
    login = servers.login
    code = "from onefs import ONE; print(ONE().search(subject='flowers'))"
    with Terminal([], dict(os.environ), command=[sys.executable, "-c", code]) as terminal:
        terminal.expect("~/.one_params stays untouched")
        terminal.answer("URL", servers.alyx_url)
        terminal.answer("User name", login.username)
        terminal.answer("Password", login.password)
        terminal.answer("File server's user", login.data_username)
        terminal.answer("File server's password", login.data_password)
        terminal.answer("Cache folder", "")
        terminal.expect(FLOWERS)
        assert terminal.exit_code() == 0
    assert (tmp_path / ".one_params").read_text() == before
    with ONE() as one:
        assert len(one.load(EID, "clusters.depths")[0]) == 60


def test_setup_works_without_a_terminal_from_variables(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tutorial: ``one.setup()``. Called on the class and on an object, with variables set."""
    with pytest.raises(NotConfigured):
        ONE.setup()
    login = servers.login
    more = {
        "ONEFS_DATA_USERNAME": login.data_username,
        "ONEFS_DATA_PASSWORD": login.data_password,
    }
    for name, value in environment(servers, **more).items():
        monkeypatch.setenv(name, value)
    with ONE() as one:
        one.setup()
    assert "~/.one_params stays untouched" in capsys.readouterr().out
    assert settings.load_settings_file().default_profile() is not None


def test_wrong_passwords_and_servers_are_named_errors(servers: Servers) -> None:
    """Ours: raises named errors (old code: Exception, ConnectionError)."""
    with pytest.raises(AlyxCredentials, match="test_user"):
        ONE("test_user", "wrong", servers.alyx_url)
    with pytest.raises(Unreachable):
        ONE("test_user", "wrong", "http://127.0.0.1:1")
    with pytest.raises(AlyxCredentials):
        ONE("test_user", base_url=servers.alyx_url, silent=True)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"username": 5}, "username"),
        ({"username": " "}, "username"),
        ({"password": b"x"}, "password"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "ftp://x"}, "ftp://x"),
        ({"base_url": "http://a\0b"}, "base_url"),
        ({"token": 1}, "token"),
        ({"profile": "nosuch"}, "nosuch"),
        ({"cache_dir": 5}, "cache_dir"),
        ({"cache_dir": "a\0"}, "cache_dir"),
        ({"base_url": "http://localhost:1", "password": "x"}, "username="),
        ({"base_url": "http://localhost:1", "data_password": "x"}, "data_username="),
        ({"data_username": "\udcff"}, "data_username"),
        ({"data_hosts": "*.org"}, "data_hosts"),
    ],
)
def test_invalid_arguments_are_errors_that_name_them(given: dict[str, Any], word: str) -> None:
    """Ours."""
    with pytest.raises(UsageError, match=word):
        ONE(**given)


def test_the_catalogue_answers_while_the_server_is_unreachable(servers: Servers) -> None:
    """Ours: the catalogue is searched, also if only a password is given."""
    with ONE(**arguments(servers)) as one:
        one.search(subject="flowers")
    servers.stop()
    try:
        with ONE(**arguments(servers)) as one:
            assert one.search(subject="flowers") == [FLOWERS]
    finally:
        servers.start()


# -- the names of a session


def test_eid_ref_and_paths_lead_to_each_other(shared: ONE, tmp_path: Path) -> None:
    """Old code: path_from_eid and eid_from_path. Ours: also refs, mounts, files in a session."""
    folder = shared.path(EID)
    assert folder == shared.cache_dir / "mainenlab" / "Subjects" / "clns0730" / "2018-08-24" / "001"
    mounted = shared.path(EID, mount="/mnt/ibl")
    assert str(mounted) == "/mnt/ibl/mainenlab/clns0730/2018-08-24/001"
    names: list[Any] = [
        EID,
        EID.upper(),
        UUID(EID),
        REF,
        folder,
        str(folder),
        mounted,
        mounted / "spikes.times.npy",
        "/mnt/ibl/mainenlab/clns0730/2018-08-24/1",
        f"/mnt/ibl/.by-eid/{EID}/spikes.times.npy",
        f"/mnt/ibl/.by-ref/{REF}",
        "mainenlab/clns0730/2018-08-24/001",
        f"{shared.url}/sessions/{EID}",
        shared.list(EID, details=True).url[0],
        [EID],
    ]
    for name in names:
        assert shared.ref(name) == REF
        assert shared.path(name) == folder
        if not isinstance(name, list):
            assert shared.eid(name) == EID


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("mainenlab/clns0730/2018-08-24/007", NotFound),
        ("mainenlab/nobody/2018-08-24/001", NotFound),
        ("nolab/clns0730/2018-08-24/001", NotFound),
        ("/just/a/path", UsageError),
        ("2018-08-24_9_clns0730", NotFound),
        ("2018-08-24_1_clns\x000730", UsageError),
        ("2018-99-24_1_clns0730", NotFound),
        ("/\0/2018-08-24/001/", UsageError),
        ([EID, FLOWERS], UsageError),
        (None, UsageError),
        (3.5, UsageError),
    ],
)
def test_invalid_and_unknown_names_are_errors(
    shared: ONE, name: Any, error: type[Exception]
) -> None:
    """Ours."""
    with pytest.raises(error):
        shared.ref(name)


def test_a_path_in_one_of_two_labs_is_not_ambiguous(tmp_path: Path) -> None:
    """Ours: a ref that two labs have is ambiguous, and the message lists both sessions."""
    from tests.recorded_laboratory import LOGIN, RecordedSource

    with (
        Servers(RecordedSource(folder=tmp_path), LOGIN) as servers,
        ONE(**arguments(servers)) as one,
    ):
        with pytest.raises(Ambiguous, match=r"cortexlab.*mainenlab"):
            one.eid("2022-05-05_1_dup01")
        eids = {one.eid(f"{lab}/dup01/2022-05-05/001") for lab in ("cortexlab", "mainenlab")}
        assert len(eids) == 2


# -- describing


def test_a_dataset_is_described_by_its_header(opened: Open, servers: Servers) -> None:
    """Ours: only the header of the file is used."""
    one = opened()
    path = one.path(TWO := "2019-12-20_1_KS023") / "alf" / "eye.xyPos.npy"
    found = one.describe(path)
    (array,) = one.load(TWO, "eye.xyPos")
    assert found["shape"] == list(array.shape)
    assert (found["dtype"], found["rows"]) == (str(array.dtype), len(array))
    assert (found["state"], one.describe(path)["state"]) == ("remote", "cached")
    assert one.describe("/mnt/.flat/cortexlab/KS023/2019-12-20/1/eye.xyPos.npy") == {
        **found,
        "state": "cached",
    }
    by_uuid = one.describe(path.with_name(f"eye.xyPos.{found['dataset_id']}.npy"))
    assert by_uuid["path"] == found["path"]


def test_a_path_without_its_collection_names_the_real_one(shared: ONE) -> None:
    """Ours."""
    session = "cortexlab/KS023/2019-12-20/1"
    wanted = r"eye\.xyPos\.npy is at alf/eye\.xyPos\.npy$"
    for ask in (shared.describe, shared.list, shared.path, shared.ref):
        with pytest.raises(NotFound, match=wanted):
            ask(f"{session}/eye.xyPos.npy")
    # what is no dataset's name is the user's own, and names the session as ever
    assert shared.ref(f"{session}/results.csv") == shared.ref(session)


def test_two_sessions_on_one_number_have_the_paths_of_their_folders(tmp_path: Path) -> None:
    """Ours."""
    with Servers(twins := TwinSessions(SyntheticLaboratory())) as servers:
        for words in ({"subject": "flowers"}, {"subject": "flowers", "number": 1}):
            with ONE(**arguments(servers), cache_dir=tmp_path / str(len(words))) as one:
                eids, rows = one.search(details=True, **words)
                assert sorted(eids) == sorted(twins.eids)
                found = {row["id"]: row["local_path"] for row in rows}
                assert found == {eid: str(one.path(eid)) for eid in eids}
                assert len(set(found.values())) == 2
                assert found[max(eids)].endswith(f"001~{max(eids)[:8]}")
                assert {eid: one.eid(found[eid]) for eid in eids} == {eid: eid for eid in eids}


def test_one_of_two_sessions_on_one_number_has_its_mark_though_the_other_is_not_found(
    tmp_path: Path,
) -> None:
    """Ours."""
    with Servers(twins := TwinSessions(SyntheticLaboratory(), users=("nate",))) as servers:
        with ONE(**arguments(servers), cache_dir=tmp_path) as one:
            ((marked,), (row,)) = one.search(
                details=True, users="nate", date_range=["2018-07-13", "2018-07-13"]
            )
            assert marked == max(twins.eids)
            assert row["local_path"].endswith(f"001~{marked[:8]}")
        servers.stop()
        with ONE(**arguments(servers), cache_dir=tmp_path, offline=True) as one:
            assert one.path(marked).name == f"001~{marked[:8]}"
            assert one.eid(one.path(marked)) == marked


def test_describing_downloads_the_header_only(opened: Open, servers: Servers) -> None:
    """Ours."""
    one = opened()
    path = one.path("2019-12-20_1_KS023") / "alf" / "probe01" / "templates.waveforms.npy"
    found = one.describe(path)
    received = sum(each.bytes for each in servers.requests if each.server == "data")
    assert 0 < received < 5000 < found["size"]
    assert not path.exists()


def test_describing_a_path_of_a_day_uses_the_revision_of_that_day(opened: Open) -> None:
    """Ours. The path of a session names the same session for all days."""
    one = opened()
    session = "cortexlab/KS023/2019-12-20/001"
    for day, folder in (("2020-01-01", ""), ("2021-01-01", "#2020-08-31#/")):
        inside = f"/mnt/ibl/.as-of/{day}/{session}"
        assert one.ref(inside) == "2019-12-20_1_KS023"
        expected = one.describe(f"{session}/alf/probe00/{folder}spikes.times.npy")
        assert one.describe(f"{inside}/alf/probe00/spikes.times.npy") == expected
        assert one.describe(f"{inside}/alf/probe00/{folder}spikes.times.npy") == expected
    with pytest.raises(NotFound):
        one.describe(
            f"/mnt/ibl/.as-of/2020-01-01/{session}/alf/probe00/#2020-08-31#/spikes.times.npy"
        )


def test_describing_an_unknown_file_is_an_error(shared: ONE) -> None:
    """Ours."""
    with pytest.raises(NotFound, match=r"has no nothing\.npy"):
        shared.describe(shared.path(EID) / "nothing.npy")
    with pytest.raises(UsageError, match="is a session, not a dataset"):
        shared.describe(shared.path(EID))
    for wrong in (5, "nothing", ""):
        with pytest.raises(UsageError):
            shared.describe(wrong)  # type: ignore[arg-type]


# -- pprint, imports


def test_pprint_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Tutorial: prints JSON, indented by 4. Ours: also prints UUIDs, paths and the dataclass."""
    things = [EID, {"a": 1, "b": [None, True, 0.5]}, "é"]
    pprint(things)
    assert capsys.readouterr().out == json.dumps(things, indent=4) + "\n"
    pprint({UUID(EID): Path("/a"), "n": np.int64(3), "x": np.ones(2), "t": (1, {2})})
    assert json.loads(capsys.readouterr().out) == {
        EID: "/a", "n": 3, "x": "float64 (2,)", "t": [1, [2]]
    }  # fmt: skip
    pprint(SessionDataInfo(data=[np.ones((2, 3))], dataset_id=[EID]))
    shown = json.loads(capsys.readouterr().out)
    assert (shown["data"], shown["dataset_id"]) == (["float64 (2, 3)"], [EID])


@pytest.mark.usefixtures("no_coverage")
def test_importing_the_package_loads_nothing_heavy() -> None:
    """Ours."""
    code = f"""
import sys, onefs
assert "ONE" in dir(onefs)
print(sorted(set({HEAVY!r}) & set(sys.modules)))
from onefs import ONE, pprint
import onefs.one
assert ONE is onefs.one.ONE and pprint is onefs.one.pprint
print(sorted({{"numpy", "pandas", "pyarrow", "mfusepy", "flask"}} & set(sys.modules)))
assert not [name for name in sys.modules if name.startswith("onefs.mount")]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "[]\n[]\n", done.stderr
    assert not hasattr(sys.modules["onefs"], "nothing_of_that_name")


def test_importing_one_needs_no_module_of_linux() -> None:
    """Ours: only mounts need fcntl, pwd and FUSE."""
    code = """
import sys
sys.modules.update(dict.fromkeys(("fcntl", "grp", "mfusepy", "pwd", "resource", "termios")))
import onefs
print(onefs.ONE.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "ONE\n", done.stderr


def test_a_search_costs_one_request_and_a_load_two_more(opened: Open, servers: Servers) -> None:
    """Ours."""
    one = opened()
    (eid,) = one.search(subject="clns0730")
    assert len(alyx_requests(servers)) == 1
    one.list(eid)
    assert len(alyx_requests(servers)) == 3  # repositories, and the session's datasets

"""``ONE()`` and ``ONE.setup()`` with ONE-api's arguments, and errors that are also ONE-api's."""

from __future__ import annotations

import ast
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onefs.config.settings import load_settings_file
from onefs.demo.servers import Servers
from onefs.errors import NotFound, SeveralDatasets, Unreachable, UsageError
from onefs.one import ONE
from onefs.one.alf_errors import alf_error
from onefs.one.connect import ConnectionArguments
from tests.one.conftest import EID, Open, arguments

PACKAGE = Path(__file__).parents[2] / "onefs"
KINDS = {
    "object_not_found": ("ALFObjectNotFound", NotFound),
    "multiple_objects": ("ALFMultipleObjectsFound", SeveralDatasets),
    "multiple_collections": ("ALFMultipleCollectionsFound", SeveralDatasets),
    "multiple_revisions": ("ALFMultipleRevisionsFound", SeveralDatasets),
    "invalid": ("ALFInvalid", UsageError),
    "alf": ("ALFError", UsageError),
}


# -- opening


def test_one_apis_arguments_open_the_database(servers: Servers, tmp_path: Path) -> None:
    login = servers.login
    with ONE(
        base_url=servers.alyx_url,
        username=login.username,
        password=login.password,
        cache_dir=tmp_path / "files",
        tables_dir=tmp_path / "tables",
        mode="remote",
        silent=True,
        wildcards=False,
        cache_rest=None,
    ) as one:
        assert one.search(subject="clns0730") == [EID]
        assert (one.mode, one.offline, one.wildcards) == ("remote", False, False)
        assert (one.cache_dir, one.uuid_filenames) == (tmp_path / "files", False)
        assert one.alyx.cache_mode is None
        one.wildcards = True
        assert one.wildcards
    assert not (tmp_path / "tables").exists()


def test_a_token_opens_the_database(servers: Servers, shared: ONE) -> None:
    token = shared.alyx._client._laboratory._token().current_token()  # type: ignore[attr-defined]
    with ONE(base_url=servers.alyx_url, token=str(token)) as one:
        assert one.search(subject="clns0730") == [EID]
    with ONE(base_url=servers.alyx_url, token={"token": str(token)}) as one:
        assert one.search(subject="clns0730") == [EID]
    with pytest.raises(UsageError, match="token"):
        ONE(base_url=servers.alyx_url, token={"key": str(token)})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "refresh"}, "mode is 'refresh': give 'local', to send no request, or 'remote'"),
        ({"mode": ""}, "mode"),
        ({"mode": 1}, "mode"),
        ({"mode": "remote", "offline": True}, "contradicts"),
        ({"wildcards": "yes"}, "wildcards"),
        ({"silent": 1}, "silent"),
        ({"offline": None}, "offline"),
        ({"tables_dir": 3}, "tables_dir"),
        ({"tables_dir": ""}, "tables_dir"),
        ({"cache_rest": True}, "cache_rest"),
        ({"cache_dir": b"\0"}, "cache_dir"),
    ],
)
def test_an_invalid_argument_is_an_error(
    servers: Servers, given: dict[str, Any], words: str
) -> None:
    servers.clear_requests()
    with pytest.raises(UsageError, match=words):
        ONE(**{**arguments(servers), **given})
    assert servers.requests == []


def test_mode_local_sends_no_request(opened: Open, servers: Servers) -> None:
    with opened() as one:
        one.search(subject="clns0730")
        one.list(EID)
    with opened(mode="local") as one:
        assert (one.mode, one.offline) == ("local", True)
        assert one.search(subject="clns0730") == [EID]
        assert one.list(EID)
        with pytest.raises(Unreachable):
            one.load(EID, ["spikes.times"])
        assert servers.requests == []


def test_the_mode_can_be_changed(opened: Open, servers: Servers) -> None:
    with opened() as one:
        one.list(EID)
        servers.clear_requests()
        one.mode = "local"
        assert (one.mode, one.offline, one.list(EID)) == ("local", True, one.list(EID))
        with pytest.raises(Unreachable):
            one.alyx.rest("insertions", "list")
        with pytest.raises(Unreachable):
            one.load(EID, ["spikes.times"])
        assert servers.requests == []
        one.mode = one.mode = "remote"
        assert one.alyx.rest("labs", "list")
        assert not one.offline
        with pytest.raises(UsageError, match="mode is 'auto'"):
            one.mode = "auto"
    with opened(offline=True) as one, pytest.raises(UsageError, match=r"ONE\(mode='remote'\)"):
        one.mode = "remote"


def test_file_names_never_have_uuids(shared: ONE) -> None:
    with pytest.raises(AttributeError):
        shared.uuid_filenames = True  # type: ignore[misc]


def test_ibls_public_alyx_has_a_user_whom_everybody_may_be() -> None:
    url = "https://openalyx.internationalbrainlab.org/"
    assert ConnectionArguments(base_url=url, password="x").flags()["username"] == "intbrainlab"
    assert (
        ConnectionArguments(base_url=url, password="x", username="me").flags()["username"] == "me"
    )
    assert ConnectionArguments(base_url=url).flags()["username"] is None
    other = ConnectionArguments(base_url="https://alyx.example.org", password="x")
    assert other.flags()["username"] is None


# -- setup


def test_a_silent_setup_is_used_by_the_next_client(servers: Servers, tmp_path: Path) -> None:
    login = servers.login
    servers.clear_requests()
    ONE.setup(
        base_url=servers.alyx_url,
        silent=True,
        username=login.username,
        cache_dir=tmp_path / "files",
    )
    assert servers.requests == []
    with ONE(password=login.password) as one:
        assert one.search(subject="clns0730") == [EID]
        assert one.cache_dir == tmp_path / "files"
    ONE.setup(base_url="https://second.example.org", silent=True)
    saved = load_settings_file()
    default = saved.default_profile()
    assert default is not None
    assert default.url == servers.alyx_url
    ONE.setup(base_url="https://second.example.org", silent=True, make_default=True)
    default = load_settings_file().default_profile()
    assert default is not None
    assert (default.name, default.url) == ("second.example.org", "https://second.example.org")
    ONE.setup(silent=True, username="somebody")
    default = load_settings_file().default_profile()
    assert default is not None
    assert (default.url, default.username) == ("https://second.example.org", "somebody")


def test_a_silent_setup_without_an_address_is_that_of_ibls_public_alyx() -> None:
    ONE.setup(silent=True)
    default = load_settings_file().default_profile()
    assert default is not None
    assert (default.url, default.username) == (
        "https://openalyx.internationalbrainlab.org",
        "intbrainlab",
    )


@pytest.mark.parametrize("given", [{"base_url": "no url"}, {"username": ""}, {"cache_dir": 3}])
def test_a_silent_setup_refuses_invalid_values(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ONE.setup(silent=True, **given)
    assert load_settings_file().default_profile() is None


# -- searches


@pytest.mark.parametrize(
    "terms",
    [
        {"subj": "clns0730"},
        {"laboratory": "mainenlab", "subject": "clns0730"},
        {"proj": "ibl_tutorial", "subj": "clns0730"},
        {"task": "spontaneous", "nickname": "clns0730"},
        {"task_prot": "spontaneous", "subj": "clns0730"},
        {"datasets": ["licks.times.npy", "spikes.times.npy"], "subject": "clns0730"},
        {"date": "2018-08-24", "num": 1, "labor": "mainenlab"},
        {"dataset_q": "CRITICAL", "datasets": "licks.times.npy", "subject": "clns0730"},
    ],
)
def test_a_search_takes_one_apis_spellings(shared: ONE, terms: dict[str, Any]) -> None:
    assert shared.search(**terms) == shared.search(query_type="remote", **terms) == [EID]


def test_an_ambiguous_or_double_spelling_is_an_error(shared: ONE, servers: Servers) -> None:
    servers.clear_requests()
    with pytest.raises(UsageError, match="dataset_qc_lte or datasets or date_range"):
        shared.search(dat="x")
    with pytest.raises(UsageError, match="twice"):
        shared.search(subj="a", subject="b")
    with pytest.raises(UsageError, match="query_type"):
        shared.search(subject="a", query_type="sometimes")
    with pytest.raises(UsageError, match="userz"):
        shared.search(userz="a")
    assert servers.requests == []


def test_a_local_search_sends_no_request(shared: ONE, servers: Servers) -> None:
    eids, rows = shared.search(True, subject="clns0730")
    servers.clear_requests()
    assert shared.search(subject="clns0730", query_type="local") == eids == [EID]
    assert shared.search(True, "local", subject="clns0730") == (eids, rows)
    assert servers.requests == []


# -- errors


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_also_one_apis(kind: str) -> None:
    exceptions = pytest.importorskip("one.alf.exceptions")
    name, own = KINDS[kind]
    error = alf_error(kind, "what\n is wrong")
    assert isinstance(error, getattr(exceptions, name))
    assert isinstance(error, own)
    assert error.errno == own.errno
    assert str(error).startswith("what")
    assert "\n" not in str(error)
    assert (error.message, error.terse) == ("what\n is wrong", True)  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args) == (type(error), error.args)


def test_a_script_catches_what_it_caught_before(shared: ONE) -> None:
    exceptions = pytest.importorskip("one.alf.exceptions")
    with pytest.raises(exceptions.ALFObjectNotFound):
        shared.get_details("00000000-0000-4000-8000-000000000000")
    with pytest.raises(NotFound):
        shared.get_details("00000000-0000-4000-8000-000000000000")


_LOAD_PICKLES = """
import pickle, sys
for kind, text in pickle.load(sys.stdin.buffer):
    error = pickle.loads(text)
    print(kind, type(error).__name__, error.errno, error)
assert not [name for name in sys.modules if name == "one" or name.startswith("one.")]
"""


def test_errors_are_loaded_where_one_api_is_absent() -> None:
    pytest.importorskip("one.alf.exceptions")
    errors = [(kind, pickle.dumps(alf_error(kind, "no"))) for kind in KINDS]
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_PICKLES],
        input=pickle.dumps(errors),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.decode().splitlines() == [
        f"{kind} {own.__name__} {own.errno} no" for kind, (_, own) in KINDS.items()
    ]


# -- what is imported


def _imported_names(tree: ast.AST) -> set[str]:
    """Return the first parts of all modules that a module imports, also in functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and "import" in str(
            getattr(node.func, "attr", getattr(node.func, "id", ""))
        ):
            found.update(
                each.value.partition(".")[0]
                for each in node.args
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )
    return found


def test_no_module_imports_one_api() -> None:
    for text in ("import one.api", "from one import x", "def f():\n import_module('one.api')"):
        assert "one" in _imported_names(ast.parse(text))
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 300
    for path in files:
        assert not _imported_names(ast.parse(path.read_text("utf-8"))) & {"one", "ibllib"}, path


_USE = """
import json, sys
from onefs import ONE
ONE.path2ref("/lab/Subjects/x/2020-01-01/001")
ONE.is_exp_ref("2020-01-01_1_x")
one = ONE(silent=True, mode="local", **json.loads(sys.argv[1]))
one.wildcards = False
one.eid2path("cf264653-2deb-44cb-aa84-89b82507028a")
one.path2eid(one.eid2path("cf264653-2deb-44cb-aa84-89b82507028a"))
one.eid2ref("cf264653-2deb-44cb-aa84-89b82507028a")
one.alyx.rest("labs", "list")
one.close()
print(json.dumps(sorted(sys.modules)))
"""


def test_names_and_rows_need_no_numpy_or_pandas(opened: Open, servers: Servers) -> None:
    with opened() as one:
        one.path(EID)
        one.alyx.rest("labs", "list")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _USE,
            json.dumps({"base_url": servers.alyx_url, "username": "test_user"}),
        ],
        capture_output=True,
        timeout=60,
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"numpy", "pandas", "pyarrow", "one", "requests"}

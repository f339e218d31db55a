"""``onefs search``, ``list``, ``show``, ``path``, ``get``: output, exit codes, hostile words."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onefs.cli import main
from onefs.cli.output import EXIT_CREDENTIALS, EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE
from onefs.cli.search import _TERM_FLAGS
from onefs.demo.servers import Servers
from onefs.search.vocabulary import VOCABULARY
from tests.cli.terminal import ONEFS, Terminal, run
from tests.laboratories import account, alyx_requests, data_requests, downloads
from tests.one.test_fuzz import assert_no_unfiltered_request, texts
from tests.running import ALYX_DEADLINE_SECONDS

EID = "cf264653-2deb-44cb-aa84-89b82507028a"
REF = "2018-08-24_1_clns0730"
SESSION = "mainenlab/clns0730/2018-08-24/001"
DAY = ["search", "--user", "olivier", "--date", "2018-08-24"]


@pytest.fixture
def user(environ: dict[str, str], laboratory: Servers) -> dict[str, str]:
    """The environment of a user with an account."""
    laboratory.clear_requests()
    return {**environ, **account(laboratory)}


def output_of(user: dict[str, str], *arguments: str, code: int = 0) -> str:
    """Return the output of a command. Fails if the command does not exit with ``code``."""
    found = run(arguments, user)
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    return found.stdout


def error_of(user: dict[str, str], *arguments: str, code: int = EXIT_USAGE) -> str:
    """Return the error sentence that a failing command prints."""
    found = run(arguments, user)
    assert found.returncode == code, found.stderr
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    return line.removeprefix("onefs: ")


# -- search


def test_search_for_people(user: dict[str, str]) -> None:
    header, line = output_of(user, *DAY).splitlines()
    assert header.split() == ["ref", "lab", "eid"]
    assert line.split() == [REF, "mainenlab", EID]
    assert "spontaneous_wheel1.0.0" in output_of(user, *DAY, "--details")


def test_search_for_programs(user: dict[str, str], home: Path) -> None:
    (found,) = json.loads(output_of(user, *DAY, "--format", "json"))
    path = found.pop("path")
    assert found == {
        "eid": EID, "ref": REF, "lab": "mainenlab", "subject": "clns0730", "date": "2018-08-24",
        "number": 1,
    }  # fmt: skip
    assert Path(path).parts[-5:] == ("mainenlab", "Subjects", "clns0730", "2018-08-24", "001")
    (more,) = json.loads(output_of(user, *DAY, "--format", "json", "--details"))
    assert more["details"]["task_protocol"] == "spontaneous_wheel1.0.0"
    assert output_of(user, *DAY, "--format", "eids") == EID + "\n"
    assert output_of(user, *DAY, "--format", "paths") == path + "\n"
    assert json.loads(output_of(user, "search", "--subject", "none", "--format", "json")) == []


def test_users_and_subjects_that_are_repeated(user: dict[str, str]) -> None:
    both = ["search", "--user", "olivier", "--user", "test_user", "--format", "eids"]
    assert len(output_of(user, *both).split()) == 2
    either = ["search", "--subject", "clns0730", "--subject", "flowers", "--format", "eids"]
    assert len(output_of(user, *either).split()) == 2
    one = ["search", "--lab", "cortexlab", "--limit", "1", "--format"]
    assert len(output_of(user, *one, "eids").split()) == 1
    assert "/cortexlab/" in output_of(user, *one, "paths")


def test_terms_need_no_account(environ: dict[str, str]) -> None:
    assert output_of(environ, "search", "--terms").split() == list(VOCABULARY)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--date", "yesterday"], "date_range"),
        (["--date", ","], "date_range"),
        (["--number", "x"], "number"),
        (["--user", ""], "users"),
        (["--qc", "PAS"], "'PASS'"),
        (["--limit", "0"], "limit"),
        (["--django", "x"], "django"),
        ([], "--subject"),
    ],
)
def test_a_wrong_value_is_named(user: dict[str, str], arguments: list[str], word: str) -> None:
    assert word in error_of(user, "search", *arguments)


def test_one_commands_have_the_exit_codes(user: dict[str, str], environ: dict[str, str]) -> None:
    assert "onefs setup" in error_of(environ, *DAY)
    wrong = {**user, "ONEFS_PASSWORD": "wrong"}
    assert "test_user" in error_of(wrong, *DAY, code=EXIT_CREDENTIALS)
    away = {**user, "ONEFS_URL": "http://127.0.0.1:1"}
    assert "127.0.0.1:1" in error_of(away, *DAY, code=EXIT_UNREACHABLE)
    unknown = "00000000-0000-4000-8000-000000000000"
    assert unknown in error_of(user, "list", unknown, code=EXIT_FAILED)


def test_flags_apply_to_one_command_only(
    user: dict[str, str], laboratory: Servers, home: Path
) -> None:
    away = {**user, "ONEFS_URL": "http://127.0.0.1:1"}
    login = laboratory.login
    secret = {**user, "ONEFS_URL": laboratory.alyx_url}
    cache = home / "mine"
    out = output_of(
        secret, *DAY, "--url", laboratory.alyx_url, "--username", login.username, "--cache-dir",
        str(cache), "--format", "paths",
    )  # fmt: skip
    assert out.startswith(str(cache))
    assert not (home / ".config" / "onefs" / "settings.json").exists()
    assert "127.0.0.1:1" in error_of(away, *DAY, code=EXIT_UNREACHABLE)


@pytest.mark.parametrize(
    "arguments",
    [DAY, ["list", REF], ["show", f"{SESSION}/licks.times.npy"], ["path", REF], ["get", REF]],
    ids=lambda arguments: arguments[0],
)
def test_every_verb_takes_the_five_flags(
    user: dict[str, str], laboratory: Servers, home: Path, arguments: list[str]
) -> None:
    """The values of the five flags are not saved."""
    verb = main.get_command(Context(main), arguments[0])
    assert verb is not None
    flags = {flag for each in verb.params for flag in each.opts}
    assert {"--url", "--username", "--profile", "--cache-dir", "--offline"} <= flags
    url = user.pop("ONEFS_URL")
    username = user.pop("ONEFS_USERNAME")
    given_flags = ["--url", url, "--username", username, "--cache-dir", str(home / "mine")]
    output_of({**user, "ONEFS_URL": url}, *arguments, *given_flags)
    assert not list(home.rglob("settings.json"))


def test_an_offline_search_asks_no_server(user: dict[str, str], laboratory: Servers) -> None:
    output_of(user, *DAY)
    laboratory.clear_requests()
    found = run([*DAY, "--offline", "--format", "eids"], user)
    assert found.stdout == EID + "\n"
    assert "because onefs is in offline mode" in found.stderr
    assert laboratory.requests == []
    assert "users" in error_of(user, "search", "--user", "anne", "--offline", code=EXIT_UNREACHABLE)


def test_a_similar_name_is_suggested(user: dict[str, str]) -> None:
    output_of(user, *DAY)
    found = run(["search", "--subject", "clns073"], user)
    assert (found.returncode, found.stdout) == (0, "")
    assert "did you mean 'clns0730'" in found.stderr


def test_output_in_a_pipe_is_exact_and_may_end_early(user: dict[str, str]) -> None:
    command = [sys.executable, "-c", ONEFS[2], "search", "--limit", "40", "--format", "paths"]
    with subprocess.Popen(
        command, env=user, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.wait(60)
    out = output_of(user, "search", "--limit", "40", "--format", "paths")
    counted = subprocess.run(
        ["xargs", "-n1", "basename"], input=out, capture_output=True, text=True, check=True
    )
    assert set(counted.stdout.split()) == {"001", "002"}


def test_long_lists_go_through_a_pager(user: dict[str, str]) -> None:
    pager = {**user, "PAGER": "head -n 2", "TERM": "xterm"}
    with Terminal(["search", "--limit", "45"], pager) as terminal:
        assert terminal.exit_code() == 0
    assert len(terminal.shown.splitlines()) == 2


# -- list, show, path, get


def test_list_prints_datasets_and_types(user: dict[str, str]) -> None:
    types = output_of(user, "list", EID).split()
    assert len(types) == 29
    assert output_of(user, "list", REF).split() == types
    assert output_of(user, "list", SESSION).split() == types
    assert json.loads(output_of(user, "list", EID, "--format", "json")) == types
    table = output_of(user, "list", EID, "--details").splitlines()
    assert len(table) == 30
    rows = json.loads(output_of(user, "list", EID, "--details", "--format", "json"))
    assert {"dataset_type", "dataset_id", "url", "size", "md5"} <= rows[0].keys()
    assert json.loads(output_of(user, "list", EID, "--all"))[0]["users"] == ["olivier", "test_user"]


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--users", "olivier"),
        ("--subjects", "flowers"),
        ("--labs", "mainenlab"),
        ("--dataset-types", "spikes.times"),
    ],
)
def test_list_prints_names(user: dict[str, str], flag: str, name: str) -> None:
    assert name in output_of(user, "list", flag).split()


def test_refresh_invalidates_lists_of_names(user: dict[str, str], laboratory: Servers) -> None:
    names = output_of(user, "list", "--labs")
    assert output_of(user, "list", "--labs") == names
    asked = [each.path for each in alyx_requests(laboratory)]
    assert len([path for path in asked if path.startswith("/labs?")]) == 1
    output_of(user, "refresh")
    laboratory.clear_requests()
    assert output_of(user, "list", "--labs") == names
    asked = [each.path for each in alyx_requests(laboratory)]
    assert len([path for path in asked if path.startswith("/labs?")]) == 1


def test_list_refuses_several_subjects(user: dict[str, str]) -> None:
    assert "--users" in error_of(user, "list")
    assert "--users" in error_of(user, "list", EID, "--users")
    assert "--all" in error_of(user, "list", "--users", "--all")


def test_show_reads_only_the_header(user: dict[str, str], laboratory: Servers) -> None:
    shown = output_of(user, "show", f"{SESSION}/spikes.times.npy").splitlines()
    found = {line.split()[0]: line.split(None, 1)[1] for line in shown}
    assert found["dtype"] == "float64"
    assert found["shape"] == f"({found['rows']},)"
    assert found["state"] == "remote"
    assert len(found["md5"]) == 32
    assert found["url"].startswith(laboratory.data_url)
    assert sum(each.bytes for each in data_requests(laboratory)) < 2000
    table = json.loads(
        output_of(user, "show", f"{SESSION}/probes.description.tsv", "--format", "json")
    )
    assert table["columns"] == ["description"]
    assert "none.npy" in error_of(user, "show", f"{SESSION}/none.npy", code=1)


def test_get_and_path(user: dict[str, str], laboratory: Servers) -> None:
    (folder,) = output_of(user, "path", REF).split()
    out = output_of(user, "get", REF, "--type", "clusters.depths", "--type", "spikes.times").split()
    # the paths are printed when the files are complete, in any order
    wanted = [f"{folder}/{name}.npy" for name in ("clusters.depths", "spikes.times")]
    assert sorted(out) == wanted
    assert all(Path(each).is_file() for each in out)
    output_of(user, "get", EID, "--type", "clusters.depths")
    assert len(downloads(laboratory, "clusters.depths")) == 1
    shown = output_of(user, "show", out[0])
    assert "cached" in shown
    assert output_of(user, "path", out[0], "--cache") == folder + "\n"


def test_get_offline(user: dict[str, str], laboratory: Servers) -> None:
    """Cached files are printed, and files that are not cached fail. No server is asked."""
    there = output_of(user, "get", REF, "--type", "licks.times")
    laboratory.clear_requests()
    assert output_of(user, "get", REF, "--type", "licks.times", "--offline") == there
    both = ["get", REF, "--type", "licks.times", "--type", "clusters.depths", "--offline"]
    found = run(both, user)
    assert (found.returncode, found.stdout) == (EXIT_UNREACHABLE, there)
    assert "clusters.depths.npy" in found.stderr
    assert "clusters.depths" in output_of(user, *both, "--dry-run")
    unknown = "2018-07-13_1_flowers"
    assert unknown in error_of(user, "get", unknown, "--offline", code=EXIT_UNREACHABLE)
    assert laboratory.requests == []


def test_cache_commands_offline(user: dict[str, str], laboratory: Servers) -> None:
    """Commands that usually ask a server use the catalogue, and fail for anything else."""
    path = f"{SESSION}/licks.times.npy"
    output_of(user, "cache", "pin", path)  # now the path is in the catalogue
    laboratory.clear_requests()
    output_of(user, "cache", "pin", path, "--offline")
    output_of(user, "cache", "unpin", path, "--offline")
    assert "there is nothing to accept" in error_of(
        user, "cache", "accept", path, "--offline", code=EXIT_FAILED
    )
    for command in ("pin", "unpin", "accept"):
        error_of(user, "cache", command, "2018-07-13_1_flowers", "--offline", code=EXIT_UNREACHABLE)
    assert laboratory.requests == []
    for name in main.get_command(Context(main), "cache").commands:  # type: ignore[union-attr]
        assert "--offline" in output_of(user, "cache", name, "--help")


# -- hostile words

check = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FLAGS = sorted(flag for flags, _ in _TERM_FLAGS.values() for flag in flags)


@pytest.fixture(scope="module")
def inside(laboratory: Servers, tmp_path_factory: pytest.TempPathFactory) -> CliRunner:
    folder = tmp_path_factory.mktemp("inside")
    environment = {
        **account(laboratory),
        "HOME": str(folder),
        "ONEFS_DEADLINE": ALYX_DEADLINE_SECONDS,
        **{f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "CACHE", "CONFIG")},
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    return CliRunner(env=environment)


def survives(runner: CliRunner, arguments: list[str], *codes: int) -> int:
    """Check that a command succeeds, or says in a sentence which words are wrong or name nothing.

    The command may also end with one of the exit codes in ``codes``, such as those for a refused
    account or an unreachable server. Return the exit code.
    """
    result = runner.invoke(main, arguments, prog_name="onefs")
    told = (arguments, result.exit_code, result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        *told,
        result.exception,
    )
    assert "Traceback" not in result.output, told
    assert result.exit_code in (0, EXIT_FAILED, EXIT_USAGE, *codes), told
    if result.exit_code != 0:
        # the second text is click's, for wrong flags
        assert re.search(r"^(onefs|Error): \S", result.output, re.MULTILINE), told
    return result.exit_code


@check
@given(pairs=st.lists(st.tuples(st.sampled_from(FLAGS), texts), min_size=1, max_size=3))
def test_hostile_searches(
    inside: CliRunner, laboratory: Servers, pairs: list[tuple[str, str]]
) -> None:
    """A search finds something or nothing, or its words are wrong: it does not fail otherwise."""
    laboratory.clear_requests()
    code = survives(inside, ["search", *(f"{flag}={value}" for flag, value in pairs)])
    assert code != EXIT_FAILED, pairs
    assert_no_unfiltered_request(laboratory)


@check
@given(
    verb=st.sampled_from(["list", "show", "path"]),
    word=texts,
    more=st.lists(st.sampled_from(["--details", "--all", "--cache", "--format=json"]), max_size=2),
)
def test_hostile_names(
    inside: CliRunner, laboratory: Servers, verb: str, word: str, more: list[str]
) -> None:
    """Only names of the session succeed, and only types that one of its datasets has."""
    types = json.loads(inside.invoke(main, ["list", EID, "--format", "json"]).output)
    laboratory.clear_requests()
    code = survives(inside, [verb, *more, "--", word])
    assert code == EXIT_USAGE or (code == 0 and word.strip() in (EID, REF)), word
    code = survives(inside, ["get", "--type", word, "--", REF])
    assert (code == 0) == any(fnmatch.fnmatchcase(each, word) for each in types), word
    assert_no_unfiltered_request(laboratory)


@check
@given(
    flag=st.sampled_from(
        ["--url", "--username", "--profile", "--cache-dir", "--limit", "--format"]
    ),
    # an argument of a process cannot contain a NUL
    word=texts.filter(lambda text: text.strip() not in ("", ".") and not {*"/\0"} & {*text}),
)
def test_hostile_settings(inside: CliRunner, flag: str, word: str, tmp_path: Path) -> None:
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        words = ["search", f"{flag}={word}", "--subject", "x", "--offline"]
        assert survives(inside, words, EXIT_UNREACHABLE) != EXIT_FAILED, words
    finally:
        os.chdir(before)

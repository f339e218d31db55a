"""Hostile words as arguments of the commands for files and mounts.

Each command must end with a documented exit code and a sentence. There must never be a traceback,
nor a query for a whole table. ``search``, ``list``, ``show`` and ``path`` are in ``test_verbs.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onefs.cli import COMMANDS, main
from onefs.cli.output import EXIT_CREDENTIALS, EXIT_UNREACHABLE, EXIT_USAGE
from onefs.demo.servers import Servers
from tests.cli.test_verbs import REF, SESSION, survives
from tests.laboratories import account
from tests.one.test_fuzz import assert_no_unfiltered_request, texts

check = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: the file that is cached for the user of :func:`inside`
CACHED = f"{SESSION}/licks.times.npy"


def can_be_an_argument(text: str) -> bool:
    """Whether a text can be an argument: it has no NUL, and its surrogates represent bytes."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


words = st.one_of(texts.filter(can_be_an_argument), st.just("\udcff/\udc80"))
paths = st.one_of(
    words,
    words.map(lambda text: f"mainenlab/clns0730/{text}"),
    words.map(lambda text: f"mainenlab/clns0730/2018-08-24/001/{text}"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def inside(laboratory: Servers, folder: Path) -> CliRunner:
    """A user with an account and one cached file."""
    runner = runner_of(folder, account(laboratory))
    survives(runner, ["get", REF, "--type", "licks.times"])
    return runner


@pytest.fixture
def away(tmp_path: Path) -> CliRunner:
    """A user whose server is unreachable and whose catalogue is empty, so that no mount starts."""
    return runner_of(tmp_path / "away", {"ONEFS_URL": "http://127.0.0.1:1", "ONEFS_USERNAME": "x",
                                         "ONEFS_PASSWORD": "x"})  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path) -> Iterator[None]:
    """Run the test in an empty folder, so that words that are paths lead into this folder."""
    before = os.getcwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def runner_of(home: Path, environment: dict[str, str]) -> CliRunner:
    return CliRunner(
        env={
            **environment,
            "HOME": str(home),
            **{f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "CACHE", "CONFIG")},
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }
    )


@pytest.mark.parametrize("word", ["", " ", "\t\n"])
@pytest.mark.parametrize(
    "command",
    [
        *(["cache", name] for name in ("list", "verify", "pin", "unpin", "evict", "accept")),
        ["get"], ["refresh"], ["umount"], ["mount", "--demo"], ["sync", "--sizes"],
        ["list"], ["list", "--details"], ["path"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_empty_argument_does_not_mean_everything(
    inside: CliRunner, laboratory: Servers, command: list[str], word: str
) -> None:
    """As with a variable that is not set: no server is asked, cached and pinned files stay."""
    survives(inside, ["cache", "pin", CACHED])
    kept = inside.invoke(main, ["cache", "list", "--json"]).output
    laboratory.clear_requests()
    beside_a_path = [] if command[0] in ("refresh", "umount", "mount", "list", "sync") else [CACHED]
    result = inside.invoke(main, [*command, *beside_a_path, word], prog_name="onefs")
    assert result.exit_code == EXIT_USAGE, result.output
    assert result.output.startswith("onefs: ")
    assert ascii(word)[:3] in result.output
    assert laboratory.requests == []
    assert inside.invoke(main, ["cache", "list", "--json"]).output == kept
    assert '"pinned": true' in kept


@pytest.mark.parametrize("flag", ["--url", "--username", "--profile", "--cache-dir", "--state-dir"])
def test_a_flag_without_a_value_does_not_mean_another_folder(
    inside: CliRunner, laboratory: Servers, flag: str
) -> None:
    """If $X was not set, `cache clear --cache-dir "$X"` cleared the default cache folder."""
    laboratory.clear_requests()
    result = inside.invoke(main, ["cache", "clear", flag, ""], prog_name="onefs")
    assert result.exit_code == EXIT_USAGE, result.output
    assert "an argument is empty" in result.output
    assert laboratory.requests == []
    assert CACHED.split("/")[-1] in inside.invoke(main, ["cache", "list"]).output


@settings(check, max_examples=15)  # the word `*` names the whole database
@given(
    path=paths,
    flag=st.sampled_from(
        ["--type", "--jobs", "--profile", "--username", "--search", "--qc", "--from-file"]
    ),
    word=words,
)
def test_get(inside: CliRunner, laboratory: Servers, path: str, flag: str, word: str) -> None:
    laboratory.clear_requests()
    survives(inside, ["get", "--dry-run", f"{flag}={word}", "--", path], EXIT_CREDENTIALS)
    survives(inside, ["get", "--offline", "--", path], EXIT_UNREACHABLE)
    assert_no_unfiltered_request(laboratory)


@check
@given(
    command=st.sampled_from(["list", "verify", "pin", "unpin", "evict", "accept", "adopt"]),
    path=paths,
    more=st.lists(st.sampled_from(["--json", "--trust", "--link", "--profile=x"]), max_size=2),
)
def test_cache(
    inside: CliRunner, laboratory: Servers, command: str, path: str, more: list[str]
) -> None:
    laboratory.clear_requests()
    survives(inside, ["cache", command, *more, "--", path], EXIT_UNREACHABLE)
    assert_no_unfiltered_request(laboratory)


@check
@given(
    flag=st.sampled_from(["--url", "--username", "--profile", "--cache-dir", "--state-dir"]),
    word=words,
)
def test_cache_settings(away: CliRunner, flag: str, word: str) -> None:
    survives(away, ["cache", "info", f"{flag}={word}"])
    survives(away, ["cache", "clear", f"{flag}={word}"])
    survives(away, ["tags", f"{flag}={word}"], EXIT_CREDENTIALS, EXIT_UNREACHABLE)


@check
@given(flag=st.sampled_from(["--since", "--until", "--search", "--from", "--format"]), word=words)
def test_changes(away: CliRunner, flag: str, word: str) -> None:
    since = [] if flag == "--since" else ["--since=2024-05-01"]
    survives(away, ["changes", *since, f"{flag}={word}"], EXIT_CREDENTIALS, EXIT_UNREACHABLE)


@check
@given(path=paths, word=words)
def test_refresh_and_sync(inside: CliRunner, laboratory: Servers, path: str, word: str) -> None:
    laboratory.clear_requests()
    survives(inside, ["refresh", "--", path])
    survives(inside, ["refresh", f"--profile={word}"])
    survives(inside, ["tags", f"--profile={word}"])
    survives(inside, ["sync", f"--tag={word}"])
    assert survives(inside, ["sync", f"--tables={path}"]) != 0
    assert survives(inside, ["sync", f"--tables={path}", f"--sizes={word}"]) != 0
    assert_no_unfiltered_request(laboratory)


MOUNT_FLAGS = [
    "--url", "--username", "--profile", "--cache-dir", "--state-dir", "--cache-size", "--min-free",
    "--small-file", "--max-fetch", "--log-level", "--demo-data", "--demo-rate", "--demo-latency",
]  # fmt: skip


@check
@given(
    pairs=st.lists(st.tuples(st.sampled_from(MOUNT_FLAGS), words), min_size=1, max_size=2),
    plain=st.lists(st.sampled_from(["--demo", "--sync", "--strict", "--allow-other"]), max_size=2),
)
def test_flags_of_mount(
    away: CliRunner, pairs: list[tuple[str, str]], plain: list[str], tmp_path: Path
) -> None:
    """The mount point is invalid, so that no mount starts if the flags are valid."""
    point = tmp_path / "file"
    point.touch()
    given_flags = [f"{flag}={word}" for flag, word in pairs]
    words = ["mount", *plain, *given_flags, str(point)]
    assert survives(away, words, EXIT_UNREACHABLE, EXIT_CREDENTIALS) != 0, words


@check
@given(word=words.filter(lambda text: text.strip(" .") != ""))
def test_mount_points(away: CliRunner, word: str) -> None:
    assert survives(away, ["mount", "--", word], EXIT_UNREACHABLE) != 0
    assert survives(away, ["umount", "--", word]) != 0


@check
@given(word=words)
def test_names_of_saved_searches_and_logins(
    inside: CliRunner, laboratory: Servers, word: str
) -> None:
    laboratory.clear_requests()
    survives(inside, ["search", "--subject", "flowers", f"--save={word}"])
    survives(inside, ["search", f"--forget={word}"])
    survives(inside, ["login", f"--profile={word}"])
    survives(inside, ["logout", f"--profile={word}"])
    assert survives(inside, ["profile", "use", "--", word]) != 0
    assert survives(inside, ["profile", "remove", "--", word]) != 0
    survives(inside, ["log", f"--profile={word}"])
    survives(inside, ["log", "--", word])
    assert_no_unfiltered_request(laboratory)


def test_every_verb_is_fuzzed() -> None:
    """A new command must be added here or in ``test_verbs.py``."""
    texts_of_tests = "".join(
        (Path(__file__).parent / name).read_text() for name in ("test_hostile.py", "test_verbs.py")
    )
    # status takes no value; setup and demo have tests of their own
    for verb in COMMANDS.keys() - {"status", "setup", "demo"}:
        assert f'"{verb}"' in texts_of_tests, (
            f"no test gives `onefs {verb}` hostile words: add it to test_verbs.py if it reads a "
            "database, else to test_hostile.py (see `survives`)"
        )

"""A search that finds no session is reported, with a suggestion."""

from __future__ import annotations

from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.one import ONE, OnefsWarning
from tests.cli.commands_table import row
from tests.cli.terminal import run
from tests.laboratories import account


@row("onefs search --user oliv;")
@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--user", "oliv"], "users 'oliv' is not known (did you mean 'olivier'?)"),
        (["--user", "olivier", "--user", "nobody"], "users 'nobody' is not known"),
        (["--lab", "mainenlb"], "lab 'mainenlb' is not known (did you mean 'mainenlab'?)"),
        (["--location", "100%"], "location '100%' is not known"),
        (["--project", "no such"], "project 'no such' is not known"),
        (["--dataset-type", "spikes.time"], "did you mean 'spikes.times'?"),
    ],
)
def test_a_search_that_finds_nothing_names_the_unknown_term(
    environ: dict[str, str], laboratory: Servers, flags: list[str], hint: str
) -> None:
    done = run(["search", *flags], {**environ, **account(laboratory)})
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("onefs: the search found nothing: ")
    assert hint in line


def test_a_search_for_known_names_that_finds_nothing_is_reported(
    environ: dict[str, str], laboratory: Servers
) -> None:
    user = {**environ, **account(laboratory)}
    terms = ["--user", "olivier", "--date", "1999-01-01"]
    done = run(["search", *terms], user)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "onefs: no session matches all search terms\n"
    assert run(["search", *terms, "--format", "json"], user).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("terms", "hint"), [({"users": "oliv"}, "olivier"), ({"location": "100%"}, "not known")]
)
def test_an_unknown_term_is_a_warning_in_python(
    laboratory: Servers, tmp_path: object, terms: dict[str, Any], hint: str,
) -> None:  # fmt: skip
    login = laboratory.login
    with (
        ONE(
            base_url=laboratory.alyx_url,
            username=login.username,
            password=login.password,
            cache_dir=f"{tmp_path}/cache",
        ) as one,
        pytest.warns(OnefsWarning, match=hint),
    ):
        assert one.search(**terms) == []

"""Methods of ``ONE``, and searches in a mount, written as users write them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.laboratories import account, alyx_requests
from tests.running import Home, run

EID = "cf264653-2deb-44cb-aa84-89b82507028a"
LATEST = 20


@pytest.fixture
def user(tmp_path: Path, laboratory: Servers) -> Iterator[Home]:
    with Home(tmp_path, **account(laboratory)) as made:
        yield made


def printed(home: Home, code: str) -> Any:
    """Run ``code`` with ``one``, a ``ONE``. Return the value of ``answer``, and standard error."""
    script = f"""
import json, warnings
from onefs.one import ONE
warnings.simplefilter("always")
with ONE(silent=True) as one:
    {code}
print(json.dumps(answer, default=str))
"""
    done = run([sys.executable, "-c", script], environment=home.environment)
    return json.loads(done.stdout), done.stderr


@row("one.list(20 eids)")
@pytest.mark.parametrize("verb", ["one.list(eids)", "one.load(eids, 'no.such')"])
def test_a_list_of_sessions_is_one_request_a_batch(
    user: Home, laboratory: Servers, verb: str
) -> None:
    eids, _ = printed(user, f"answer = one.search(limit={LATEST})")
    laboratory.clear_requests()
    answer, _ = printed(user, f"eids = {eids}; answer = len({verb})")
    assert answer == LATEST
    asked = [each.path for each in alyx_requests(laboratory)]
    assert len([path for path in asked if path.startswith("/sessions")]) <= 1
    assert len([path for path in asked if path.startswith("/datasets")]) <= 3, asked


@row("one.list(20 eids)")
def test_sessions_that_are_not_cached_are_one_request_too(user: Home, laboratory: Servers) -> None:
    eids, _ = printed(user, f"answer = one.search(limit={LATEST})")
    with Home(user.root / "other", **account(laboratory)) as other:
        laboratory.clear_requests()
        answer, _ = printed(other, f"answer = len(one.list({eids}))")
    assert answer == LATEST
    asked = [each for each in alyx_requests(laboratory) if each.path.startswith("/sessions")]
    assert len(asked) == 1


@row("one.load(..., revision='2020-09-15')")
def test_a_revision_is_the_last_before(user: Home) -> None:
    code = (
        "answer = one.load('2019-12-20_1_KS023', 'spikes.times', "
        "collection='alf/probe00', download_only=True, revision='2020-09-15')"
    )
    (path,), told = printed(user, code)
    assert Path(path).parent.name == "#2020-08-31#"
    assert "Warning" not in told


@row("MNT/.search/limit=3")
@pytest.mark.usefixtures("fuse")
def test_a_limit_is_a_part_of_a_search(user: Home) -> None:
    mount = user.mount().path
    for name in ("limit=3", "limit=3&lab=mainenlab", "lab=mainenlab&limit=3"):
        assert len((mount / ".search" / name / ".eids").read_text().split()) == 3, name
    for name in ("limit=0", "limit=x", "limit=", "limit=3,4", "limit=3&limit=3"):
        assert not (mount / ".search" / name).exists(), name


@row("one.search(datasets='spikes.times.npy')")
def test_datasets_are_file_names(user: Home) -> None:
    code = (
        "answer = [one.search(**{name: value}) for name in ('dataset', 'datasets', "
        "'dataset_names') for value in ('licks.times.npy', ['licks.times.npy'])]"
    )
    answers, _ = printed(user, code)
    assert all(EID in eids and eids == answers[0] for eids in answers)
    answer, told = printed(user, f"one.list('{EID}'); answer = one.search(datasets='licks.times')")
    assert answer == []
    assert "use dataset_types" in told


@row("one.search(date_range=['2020-10-12'])")
def test_a_list_of_one_date_is_refused(user: Home, laboratory: Servers) -> None:
    code = "try: one.search(date_range=['2020-10-12'])\n    except ValueError as e: answer = str(e)"
    laboratory.clear_requests()
    answer, _ = printed(user, code)
    assert "'2020-10-12'" in answer
    assert "['2020-10-12', None]" in answer
    assert not [each for each in alyx_requests(laboratory) if each.path.startswith("/sessions")]

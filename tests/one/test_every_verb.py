"""The list of ONE-api's public names: each is in ``onefs.ONE``, and each is compared by a test."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from onefs.one import ONE
from tests.one.test_verbs_compared import CALLS, WRITING

api = pytest.importorskip("one.api")

TESTS = Path(__file__).parent
#: the attributes that ONE-api sets on its objects, which no class has
ATTRIBUTES = ("mode", "wildcards", "record_loaded")
#: arguments that ONE-api's methods take without showing them, because of a decorator
HIDDEN = {"path2ref": ["parse"], "ref2dict": ["parse"]}
#: arguments that are only here, and why
ADDED = {
    **dict.fromkeys(
        ("load_object", "load_dataset", "load_datasets", "load_collection"),
        (("qc", "ignore_qc_not_set"), "the QC of what is loaded can be chosen"),
    ),
    "search": (("limit",), "the latest sessions are found without a term"),
    "search_terms": (("all",), "the terms that ONE-api lacks are listed"),
    "setup": (("silent", "make_default", "username", "cache_dir"), "ONE-api has them in **kwargs"),
}
#: names that have no result to compare, and the tests of them
OTHERWISE_TESTED = {
    "alyx": "test_alyx_rest.py",
    "cache_dir": "test_door.py",
    "load_cache": "test_dataset_verbs_offline.py",
    "mode": "test_door.py",
    "offline": "test_door.py",
    "record_loaded": "test_dataset_verbs.py",
    "setup": "test_door.py",
    "uuid_filenames": "test_door.py",
}


def _public(of: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(of, name) for name in dir(of) if not name.startswith("_")}


NAMES = sorted({*_public(api.One), *_public(api.OneAlyx)})


def _arguments(method: Any) -> list[tuple[str, Any]]:
    """Return names and defaults of the arguments, in their order."""
    parameters = inspect.signature(method).parameters.values()
    return [
        (each.name, each.default.name if isinstance(each.default, Enum) else each.default)
        for each in parameters
        if each.name != "self" and each.kind is not inspect.Parameter.VAR_KEYWORD
    ]


@pytest.mark.parametrize("name", [*NAMES, *ATTRIBUTES])
def test_every_name_of_one_api_is_here(name: str) -> None:
    assert hasattr(ONE, name), name
    assert len(NAMES) >= 40
    theirs = getattr(api.OneAlyx, name, None)
    if not callable(theirs):
        assert not callable(getattr(ONE, name))
        return
    added, _ = ADDED.get(name, ((), ""))
    expected = [argument for argument, _ in _arguments(theirs)] + HIDDEN.get(name, [])
    ours = _arguments(getattr(ONE, name))
    assert [argument for argument, _ in ours if argument not in added] == expected
    assert set(added) <= {argument for argument, _ in ours}
    defaults = dict(ours)
    assert {argument: defaults[argument] for argument, _ in _arguments(theirs)} == dict(
        _arguments(theirs)
    )
    # an argument that ONE-api lacks is never in the place of one of its arguments
    parameters = inspect.signature(getattr(ONE, name)).parameters
    assert all(parameters[each].kind is inspect.Parameter.KEYWORD_ONLY for each in added)


def test_one_apis_arguments_of_the_constructor_are_here() -> None:
    ours = dict(_arguments(ONE.__init__))
    for each in (api.One, api.OneAlyx):
        for name, default in _arguments(each.__init__):
            # None is the mode of the connection; the first arguments are the tutorial's
            assert (name, ours[name]) in ((name, default), ("mode", None))
    assert {"token", "cache_rest", "silent"} <= set(ours)
    assert list(ours)[:3] == [name for name, _ in _arguments(api.OneAlyx.__init__)][:3]


def test_every_verb_is_compared_with_one_api() -> None:
    assert set(NAMES) - CALLS.keys() - WRITING == set(OTHERWISE_TESTED) - set(ATTRIBUTES)
    for name, file in OTHERWISE_TESTED.items():
        assert re.search(rf"\b{name}\b", (TESTS / file).read_text("utf-8")), name


def _rows() -> Mapping[str, str]:
    text = (TESTS.parents[1] / "docs" / "ONE-SEMANTICS.md").read_text("utf-8")
    _, _, section = text.partition("### What is different from ONE-api\n")
    section = re.split(r"^#{2,3} ", section, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\|(.+)\|.*\[(O[A-Z]\d+)\] \|$", section, re.MULTILINE)
    assert text.count("| ONE-api |") + text.count("| in ONE-api |") == 1
    return {promise: row for row, promise in rows}


def test_there_are_few_differences() -> None:
    rows = _rows()
    assert 8 <= len(rows) <= 12
    assert all(row.count("|") == 2 for row in rows.values())

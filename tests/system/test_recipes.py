"""The programs in docs/recipes run over mounts, unmodified, and print what the pages show.

``scripts/test --full recipes`` installs IBL's packages and runs this file with them.
"""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.documents import RECIPES, ROOT, blocks, steps
from tests.running import Home
from tests.system.test_documents import check

_INDEX = "docs/recipes/README.md"
_PAGES = [name for name in RECIPES if name != _INDEX]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", _PAGES)
def test_a_recipe_prints_what_its_page_shows(name: str, home: Home) -> None:
    if importlib.util.find_spec("spikeinterface") is None:
        pytest.skip("IBL's packages are not installed: scripts/test --full recipes does it")
    check(steps(RECIPES[name]), home)


@pytest.mark.parametrize("name", _PAGES)
def test_every_program_shows_its_output_and_is_run(name: str) -> None:
    page = RECIPES[name]
    found = steps(page)
    assert all(block.language in ("console", "python", "text") for block in blocks(page))
    assert found[0].code.startswith("onefs mount --demo --sync ~/ibl")
    programs = [step for step in found if step.language == "python"]
    assert programs
    assert all(step.output for step in programs)


def test_every_recipe_is_in_the_index() -> None:
    assert sorted(set(re.findall(r"\]\(([\w-]+\.md)\)", RECIPES[_INDEX]))) == sorted(
        name.rpartition("/")[2] for name in _PAGES
    )


def test_the_packages_of_recipes_have_exact_versions() -> None:
    for line in (ROOT / "docs/recipes/requirements.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|-r \S+|\S+==\S+", line), line

"""docs/tutorial.md: every block runs, in order, and prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.one import OnefsWarning
from tests.one.conftest import set_home

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"```(python|text)\n(.*?)```", PAGE, re.DOTALL)


def test_every_block_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_home(tmp_path, monkeypatch)
    names: dict[str, Any] = {}
    printed = ""
    with Servers(SyntheticLaboratory()) as servers, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OnefsWarning)
        for kind, text in BLOCKS:
            if kind == "text":
                assert printed == text
                continue
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                text = text.replace("ALYX_URL", servers.alyx_url)
                exec(text.replace("DATA_URL", servers.data_url), names)
            printed = output.getvalue()
        names["one"].close()
    assert ["no.suchType" in str(each.message) for each in caught] == [True]


def test_the_page_shows_what_every_block_prints() -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds.count("python") > 12
    for (kind, text), after in zip(BLOCKS, [*kinds[1:], ""], strict=True):
        if kind == "python" and "print(" in text:
            assert after == "text"

"""The documentation site: it builds, its links are good, and its API reference is complete."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onefs.one
from onefs import errors
from onefs.one import ONE, DatasetInfo, SessionDataInfo

SCRIPTS = Path(__file__).parents[1] / "scripts"

ERRORS = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.OnefsError)
}
#: public methods that raise no error but those that the docstring of ONE names for every method
WITHOUT_ERRORS = {"folders", "close", "over", "in_mount", "is_exp_ref"}


def public_names(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def callables() -> dict[str, Callable[..., Any]]:
    """Everything in the reference that takes arguments, by its name in the reference."""
    methods = {
        f"{kind.__name__}.{name}": getattr(kind, name)
        for kind in (ONE, SessionDataInfo)
        for name in public_names(kind)
        if callable(getattr(kind, name))
    }
    constructors = {name: kind for name, kind in ERRORS.items() if "__init__" in vars(kind)}
    return {"ONE": ONE, "pprint": onefs.one.pprint, **methods, **constructors}


CALLABLES = callables()


def described(function: Callable[..., Any], section: str) -> list[str]:
    """Return the names that a section of the docstring describes: ``Args`` or ``Raises``."""
    text = inspect.getdoc(function) or ""
    found = re.search(rf"^{section}:\n((?: .*\n|\n)*)", text + "\n", re.MULTILINE)
    return re.findall(r"^ {4}\*{0,2}(\w+): \S", found[1], re.MULTILINE) if found else []


@pytest.mark.parametrize("name", CALLABLES)
def test_docstrings_describe_every_argument_and_no_other(name: str) -> None:
    taken = [each for each in inspect.signature(CALLABLES[name]).parameters if each != "self"]
    assert described(CALLABLES[name], "Args") == taken


@pytest.mark.parametrize("name", [each for each in CALLABLES if each.startswith("ONE")])
def test_docstrings_of_one_name_the_errors(name: str) -> None:
    named = described(CALLABLES[name], "Raises")
    assert set(named) <= set(ERRORS)
    assert bool(named) != (name.partition(".")[2] in WITHOUT_ERRORS)
    function = inspect.unwrap(CALLABLES[name])
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }
    if not inspect.isclass(function):
        assert raised <= set(named)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``scripts/docs`` builds it without a network."""
    if importlib.util.find_spec("sphinx") is None:
        if os.environ.get("ONEFS_REQUIRE_DOCS") == "1":
            pytest.fail("the extra [docs] is not installed")
        pytest.skip("the extra [docs] is not installed")
    folder = tmp_path_factory.mktemp("site")
    nowhere = "http://127.0.0.1:9"
    environment = os.environ | {
        "PYTHON": sys.executable,
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
    }
    done = subprocess.run(
        [SCRIPTS / "docs", folder], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def anchors(page: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', page.read_text("utf-8")))


def test_every_public_method_is_in_the_reference(site: Path) -> None:
    present = anchors(site / "docs" / "reference" / "one.html")
    expected = {f"onefs.ONE.{name}" for name in public_names(ONE)}
    expected |= {f"onefs.one.DatasetInfo.{name}" for name in (*DatasetInfo._fields, "data_url")}
    expected |= {f"onefs.one.SessionDataInfo.{name}" for name in ("keys", "append", "from_rows")}
    expected |= {"onefs.pprint", "onefs.ONE", "onefs.one.OnefsWarning"}
    assert expected <= present


def test_every_error_is_in_the_reference(site: Path) -> None:
    present = anchors(site / "docs" / "reference" / "errors.html")
    assert {f"onefs.errors.{name}" for name in ERRORS} <= present


def test_errors_that_docstrings_name_are_links(site: Path) -> None:
    text = (site / "docs" / "reference" / "one.html").read_text("utf-8")
    assert 'href="errors.html#onefs.errors.SeveralDatasets"' in text


def test_results_are_not_taken_for_types(site: Path) -> None:
    """A colon in the first line of ``Returns`` would make the text before it a type."""
    text = (site / "docs" / "reference" / "one.html").read_text("utf-8")
    assert ">Returns<" in text
    assert ">Return type<" not in text


def test_the_site_has_the_documents_of_the_repository(site: Path) -> None:
    documents = {"README.html", "index.html", "docs/COMMANDS.html", "docs/GLOSSARY.html"}
    for each in (SCRIPTS.parent / "docs").rglob("*.md"):
        documents.add(each.relative_to(SCRIPTS.parent).with_suffix(".html").as_posix())
    assert documents <= {each.relative_to(site).as_posix() for each in site.rglob("*.html")}


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("missing.html", "leads to no file"),
        ("other.html#missing", "anchor"),
        ("#missing", "anchor"),
        ("../outside.html", "out of the site"),
        ("/other.html", "not relative"),
        ("https://", "not a URL of a web page"),
        ("http://[half", "not a URL"),
        ("ftp://example.org/x", "not a URL of a web page"),
        ("other.html#here", ""),
        ("other.html", ""),
        ("#", ""),
        ("data.txt", ""),
        ("https://example.org/a#b", ""),
        ("mailto:a@example.org", ""),
    ],
)
def test_bad_links_are_found(tmp_path: Path, link: str, problem: str) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (tmp_path / "outside.html").write_text("")
    (site / "other.html").write_text('<p id="here">')
    (site / "data.txt").write_text("")
    (site / "index.html").write_text(f'<a href="{link}">x</a>')
    command = [sys.executable, str(SCRIPTS / "check_links.py"), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if problem else 0), done.stderr
    assert problem in done.stderr
    if problem:
        assert done.stderr.startswith(f"index.html: {link!r}")

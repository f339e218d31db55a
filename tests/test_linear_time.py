"""Patterns and texts: for any text of a server, a file or a user, time grows with its length.

The patterns are found, not listed: each compiled pattern of each module, with the methods by which
the code uses it, and each function of the modules about texts that takes one text.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import onefs
from onefs import alf, integers
from onefs.alyx import auth, parsing
from onefs.catalogue.storage import type_guess
from onefs.config import (
    cache_options,
    one_params,
    secret,
    urls,
)
from onefs.download.sources import http_answer
from onefs.errors import OnefsError
from onefs.http import retry
from onefs.one import resolver
from onefs.search import vocabulary
from onefs.tree import as_of

#: characters of the texts, and the seconds of this thread's own time that one may take: what takes
#: time as the square shows with the shorter ones, and is not tried with a million
LENGTHS = ((30_000, 0.3), (1_000_000, 6.0))
SOURCES = Path(onefs.__file__).parent
#: where the pattern itself is what a caller gives: the embedded laboratory's ``__regex`` look-ups
FILES_WITH_EXEMPT_PATTERNS = {
    "onefs/demo/rest/lookups.py",
    "onefs/one/aggregate_records.py",
    "onefs/one/insertions.py",
    # made of the parts of ALF names that a caller gives, and matched with names of files
    "onefs/one/alf_grammar.py",
    "onefs/one/alf_patterns.py",
}
METHODS = ("search", "match", "fullmatch", "sub", "findall", "finditer", "split")
#: letters that any pattern is tried with
COMMON_CHARACTERS = ["a", "0", " ", "_", "/", "é"]
#: marks that combine in another order than they are written
COMBINING = "\u0301\u0316"


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages([str(SOURCES)], "onefs."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def patterns() -> dict[str, tuple[re.Pattern[Any], ModuleType]]:
    """Each compiled pattern at the top of a module, by ``module.name``."""
    return {
        f"{module.__name__}.{name}": (value, module)
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }


PATTERNS = patterns()


def methods_of(name: str, module: ModuleType) -> set[str]:
    """Return the method with which a module uses a pattern; ``search`` if that is unknown."""
    tree = ast.parse(inspect.getsource(module))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    }
    return used & set(METHODS) or {"search"}


def words_of(pattern: str) -> list[str]:
    """Return the words and letters of a pattern: slow texts are those that it begins to match."""
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[a-zA-Z]", " ", pattern))
    letters = sorted(set(re.sub(r"[A-Za-z0-9]", "", pattern)))
    return list(dict.fromkeys([*words, *letters, *COMMON_CHARACTERS]))


def texts(words: list[str], length: int) -> Iterator[str]:
    """Yield each word repeated; and pairs of the shorter words, joined and alternating."""
    for word in words:
        yield word * (length // len(word)) + "\0"
    if length > 100_000:
        return
    for first, second in itertools.permutations(words, 2):
        yield first + second * (length // len(second)) + "\0"
    for first, second in itertools.pairwise(words):
        yield (first + second) * (length // len(first + second)) + "\0"


def in_time(use: Callable[[str], object], words: list[str], what: str) -> None:
    for length, most in LENGTHS:
        for text in texts(words, length):
            began = time.thread_time()
            use(text)
            took = time.thread_time() - began
            assert took < most, f"{what}: {took:.1f} s for {length} characters of {text[:40]!r}"


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_a_pattern_takes_time_as_its_text_is_long(name: str) -> None:
    pattern, module = PATTERNS[name]
    source = pattern.pattern
    binary = isinstance(source, bytes)
    words = words_of(source.decode() if isinstance(source, bytes) else source)
    for method in methods_of(name.rpartition(".")[2], module):
        found = getattr(pattern, method)

        def use(text: str, found: Any = found, method: str = method) -> None:
            given = text.encode() if binary else text
            if method == "sub":
                found(lambda match: match.group(), given)
            elif method == "finditer":
                list(found(given))
            else:
                found(given)

        in_time(use, words, f"{name}.{method}")


def test_every_pattern_is_at_the_top_of_its_module() -> None:
    """A pattern inside a function would not be tried by the test above."""
    hidden = []
    for path in sorted(SOURCES.rglob("*.py")):
        shown = f"onefs/{path.relative_to(SOURCES)}"
        tree = ast.parse(path.read_text())
        top = {
            id(node.value)
            for node in tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Call)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr in {*METHODS, "compile", "subn"}
                and not (node.func.attr == "compile" and id(node) in top)
                and shown not in FILES_WITH_EXEMPT_PATTERNS
            ):
                hidden.append(f"{shown}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "re":
                hidden.append(f"{shown}:{node.lineno}")
    assert hidden == []


#: modules about texts: each function of theirs that takes one text is tried
ABOUT_TEXTS = (
    alf,
    integers,
    one_params,
    secret,
    cache_options,
    urls,
    http_answer,
    retry,
    auth,
    parsing,
    type_guess,
    vocabulary,
    resolver,
    as_of,
)


def of_one_text(module: ModuleType) -> Iterator[tuple[str, Callable[[str], object]]]:
    for name, found in vars(module).items():
        if not inspect.isfunction(inspect.unwrap(found)) if callable(found) else True:
            continue
        if getattr(found, "__module__", "") != module.__name__:
            continue
        parameters = inspect.signature(found).parameters.values()
        needed = [each for each in parameters if each.default is inspect.Parameter.empty]
        if len(needed) == 1 and needed[0].annotation in ("str", "str | None"):
            yield f"{module.__name__}.{name}", found


FUNCTIONS = dict(itertools.chain.from_iterable(map(of_one_text, ABOUT_TEXTS)))


def test_the_functions_about_texts_are_found() -> None:
    wanted = {
        "onefs.config.secret.redact",
        "onefs.config.secret.excerpt",
        "onefs.config.urls.safe_url",
    }
    wanted |= {
        "onefs.config.urls.host_of",
        "onefs.alf.path_component",
        "onefs.search.vocabulary.parse_text",
    }
    wanted |= {"onefs.http.retry.retry_after_seconds", "onefs.one.resolver._split_path"}
    assert wanted <= set(FUNCTIONS)
    assert len(FUNCTIONS) > 40


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_takes_time_as_its_text_is_long(name: str) -> None:
    """It also raises only errors of ``onefs.errors``."""

    def use(text: str) -> None:
        try:
            FUNCTIONS[name](text)
        except OnefsError:
            pass
        except ValueError:
            assert name == "onefs.config.urls.split_url"

    words = ["http://", "?token=", "key", "Token ", "&", "@", "a", "²", COMBINING, "[", "\ud800"]
    in_time(use, words, name)


def test_what_is_redacted_still_is() -> None:
    cases = {
        "http://me:pass@word@host/x": "http://***@host/x",
        "x" * 999 + "http://me:pw@host": "x" * 999 + "http://***@host",
        "Authorization: Token 0123": "Authorization: ***",
        "sent 'Proxy-Authorization' : 'Basic abc' and": "sent 'Proxy-Authorization' : '***' and",
        "Bearer abcdefgh.ijk": "Bearer ***",
    }
    for text, shown in cases.items():
        assert secret.redact(text) == shown


def test_half_a_secret_at_the_end_of_a_cut_text_is_not_shown() -> None:
    token = secret.Secret("f00dcafe" * 5)
    for before in range(400, 800, 7):
        said = secret.excerpt("word " * (before // 5) + token + " more" * 500)
        assert "f00d" not in said
        assert len(said) < 600
    assert secret.excerpt("a\r\n\tb  c") == "a b c"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/x?a=1&token=t&b=2", "http://h/x?a=1&token=***&b=2"),
        ("http://h/x?a=b?token=t?u&c=d", "http://h/x?a=b?token=***&c=d"),
        (
            "http://h/?X-Amz-Signature=s;my_key_id=k;limit=1",
            "http://h/?X-Amz-Signature=***;my_key_id=***;limit=1",
        ),
        ("http://me:pw@h/x#token=t", "http://h/x"),
        ("http://h/x?keykeykey", "http://h/x?keykeykey"),
    ],
)
def test_secrets_of_a_url_are_still_not_shown(url: str, shown: str) -> None:
    assert urls.safe_url(url) == shown


def test_a_long_url_is_shown_cut_and_without_its_secrets() -> None:
    shown = urls.safe_url("http://h/?token=" + "s3cret" * 200 + "&a=" + "b" * 9000)
    assert shown == "http://h/?token=***"
    assert len(urls.safe_url("http://h/" + "b" * 9000)) == 1003
    assert urls.safe_url("http://h/" + "b" * 90_000) == "(a malformed URL)"
    assert urls.host_of("http://[::1/" + "b" * 90_000) == "(a malformed URL)"

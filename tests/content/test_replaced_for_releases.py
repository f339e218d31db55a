"""A file whose dataset has other content now is kept for the releases that list it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from onefs.content.content import Content
from onefs.errors import BadContent
from onefs.model import Dataset, id_in_release
from tests.cache.test_changed_in_place import rewrite
from tests.content.conftest import FileServer, Open, make_rejected, place_of

PUBLISHED, CHANGED = b"published", b"changed since"


def of_release(dataset: Dataset) -> Dataset:
    """Return a dataset of the whole database as a release lists it that has other content."""
    own = id_in_release(dataset.id, dataset.md5, dataset.size)
    return replace(dataset, id=own, published_id=dataset.id)


@pytest.fixture
def content(open_content: Open) -> Content:
    made = open_content()
    made.store.keeps_replaced = lambda: True
    return made


def fetch(content: Content, dataset: Dataset) -> bytes:
    return content.fetch_file(dataset, place_of(dataset)).read_bytes()


def test_a_release_that_is_read_first_keeps_the_file(content: Content, server: FileServer) -> None:
    """The release finds the file of the whole database before this one has the new content."""
    before = server.dataset("a.b.npy", PUBLISHED)
    published = of_release(before)
    assert fetch(content, before) == PUBLISHED
    after = server.dataset("a.b.npy", CHANGED)
    assert fetch(content, published) == PUBLISHED
    assert fetch(content, after) == CHANGED
    assert fetch(content, published) == PUBLISHED
    assert fetch(content, after) == CHANGED
    assert content.total_bytes() == content.store.measure_usage()


def test_a_file_replaces_what_a_release_has_rejected(content: Content, server: FileServer) -> None:
    before = server.dataset("a.b.npy", PUBLISHED)
    published = of_release(before)
    server.dataset("a.b.npy", CHANGED)
    make_rejected(content, published)
    assert fetch(content, server.dataset("a.b.npy", PUBLISHED)) == PUBLISHED
    assert fetch(content, server.dataset("a.b.npy", CHANGED)) == CHANGED
    assert fetch(content, published) == PUBLISHED
    assert content.total_bytes() == content.store.measure_usage()


def test_a_file_that_was_changed_in_place_is_hashed_for_a_release(
    content: Content, server: FileServer
) -> None:
    before = server.dataset("a.b.npy", PUBLISHED)
    path: Path = content.fetch_file(before, place_of(before))
    rewrite(path)
    assert fetch(content, server.dataset("a.b.npy", CHANGED)) == CHANGED
    with pytest.raises(BadContent):
        fetch(content, of_release(before))

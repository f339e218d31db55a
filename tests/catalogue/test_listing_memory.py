"""What stays in memory of listings: their rows, and for longer their versions."""

from __future__ import annotations

import pytest

from onefs.catalogue import listing_memory
from onefs.catalogue.listing import Listing, ListingVersion
from onefs.catalogue.listing_memory import ListingMemory
from onefs.tree import listed_sessions


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ListingMemory:
    monkeypatch.setattr(listing_memory, "MAX_MEMORY_ROWS", 10)
    monkeypatch.setattr(listing_memory, "MAX_MEMORY_VERSIONS", 3)
    return ListingMemory()


def put(memory: ListingMemory, key: str, rows: int) -> ListingVersion:
    version = ListingVersion(1.0)
    memory.put(key, Listing(["row"] * rows, version))
    return version


def test_a_version_stays_when_the_rows_do_not(memory: ListingMemory) -> None:
    version = put(memory, "a", 5)
    put(memory, "b", 5)
    assert memory.get("a") is None
    assert memory.version_of("a") is version


def test_rows_in_memory_have_a_version(memory: ListingMemory) -> None:
    versions = [put(memory, key, 1) for key in "abcde"]
    assert [memory.version_of(key) for key in "abcde"] == versions


def test_each_session_whose_entries_fit_in_memory_has_a_version() -> None:
    memory, version = ListingMemory(), ListingVersion(1.0)
    keys = [
        f"datasets/{number}"
        for number in range(listed_sessions.MAX_BYTES // listed_sessions._SESSION_BYTES)
    ]
    for key in keys:
        memory.put(key, Listing([], version))
    assert all(memory.version_of(key) is version for key in keys)


def test_all_listings_with_a_prefix_are_dropped(memory: ListingMemory) -> None:
    """Those whose version is not kept any more, and those whose rows are not."""
    for number in range(5):
        put(memory, f"datasets/{number}", 1)
    put(memory, "datasets/large", 20)
    put(memory, "labs", 1)
    memory.drop_prefix("datasets/")
    for name in (*range(5), "large"):
        assert memory.get(f"datasets/{name}") is None
        assert memory.version_of(f"datasets/{name}") is None
    assert memory.get("labs") is not None


def test_a_version_without_rows_is_dropped_unless_the_rows_are_right(
    memory: ListingMemory,
) -> None:
    """Its rows are unknown, and may have changed."""
    put(memory, "large", 20)
    before = memory.changes
    memory.drop_unless("large", lambda rows: True)
    assert memory.version_of("large") is None
    assert memory.changes > before
    put(memory, "small", 1)
    memory.drop_unless("small", lambda rows: True)
    assert memory.get("small") is not None
    memory.drop_unless("small", lambda rows: False)
    assert memory.get("small") is None

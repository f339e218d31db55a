"""Fixtures: a cache, and a file server whose files are set by each test."""

from tests.content.conftest import disk, open_content, server

__all__ = ["disk", "open_content", "server"]

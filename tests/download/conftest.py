"""The cache over a file server whose files a test writes."""

from tests.content.conftest import disk, open_content, server

__all__ = ["disk", "open_content", "server"]

"""Fixtures for servers: a small Alyx whose answers a test writes, and a real Alyx."""

from tests.alyx.conftest import alyx, servers, transport, written

__all__ = ["alyx", "servers", "transport", "written"]

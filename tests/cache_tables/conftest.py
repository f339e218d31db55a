"""A small Alyx whose answers a test writes, and one that is real."""

from tests.alyx.conftest import alyx, servers, transport, written

__all__ = ["alyx", "servers", "transport", "written"]

"""Which hosts get the file server's user and password from a mount, and how more are confirmed."""

from __future__ import annotations

import errno

from onefs.demo.servers import Servers
from tests.laboratories import SMALL, account, data_requests
from tests.running import Home, read_errno, wait_until


def test_a_host_is_confirmed_while_it_is_mounted(home: Home, servers: Servers) -> None:
    """Nothing names the file server: it gets nothing until ``onefs setup`` has been asked."""
    person = account(servers)
    named = person.pop("ONEFS_DATA_HOSTS")
    mounted = home.mount(**person)
    for _ in range(2):
        assert read_errno(mounted.path / SMALL[1]) == errno.EACCES
    assert f"add {named} to ONEFS_DATA_HOSTS" in mounted.xattr("error", SMALL[1])
    assert {each.status for each in data_requests(servers)} == {401}

    home.run("setup", variables=person)
    wait_until(lambda: read_errno(mounted.path / SMALL[1]) == 0, 10)
    assert not mounted.has_ended()


def test_a_profile_of_before_needs_no_new_setup(home: Home, servers: Servers) -> None:
    """Its ``data_url`` is the data server."""
    person = account(servers)
    del person["ONEFS_DATA_HOSTS"]
    home.run("setup", variables=person)
    mounted = home.mount()
    assert read_errno(mounted.path / SMALL[1]) == 0


def test_an_embedded_laboratory_needs_no_names(home: Home) -> None:
    mounted = home.mount("--demo")
    assert mounted.path.is_dir()
    done = home.run("get", "mainenlab/clns0730/2018-08-24/001/licks.times.npy")
    assert done.returncode == 0

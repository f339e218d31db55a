"""Names that cannot exist are not found in any view, and Alyx is not asked for invalid names."""

from __future__ import annotations

import errno

import pytest

from onefs import alf
from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.errors import NotFound, OnefsError

SESSION = "/mainenlab/clns0730/2018-08-24"
DAYS = ["2019-13-45", "2019-02-30", "0000-01-01", "2019-00-00", "٢٠١٩-٠١-٠١", "2019-1-1"]
DAYS += ["9999-99-99", "-019-01-01", "2019-12-١0", "2019-12-1²"]
NUMBERS = ["²", "٣", "-1", "1.5", "+1", "9" * 10, "9" * 240, "0x1", "①", "𝟏"]


def refused(access: Access, path: str) -> None:
    """Check that a path cannot be looked up, listed or followed: each raises ENOENT."""
    for ask in (access.tree.node, access.tree.children, access.tree.target):
        with pytest.raises(OnefsError) as caught:
            ask(path)
        assert caught.value.errno == errno.ENOENT, (path, caught.value)


@pytest.mark.parametrize("day", DAYS)
def test_invalid_days_make_no_request(access: Access, servers: Servers, day: str) -> None:
    for path in (
        f"/.by-ref/{day}_1_clns0730",
        f"/.as-of/{day}",
        f"/.as-of/{day}/mainenlab",
        f"/.search/date_range={day}",
        f"/.search/date_range={day},2020-01-01",
        f"/.search/date_range=2018-01-01,{day}&lab=mainenlab",
    ):
        refused(access, path)
    assert servers.requests == []
    refused(access, f"/mainenlab/clns0730/{day}")
    refused(access, f"/mainenlab/clns0730/{day}/001")


@pytest.mark.parametrize("number", NUMBERS)
def test_invalid_numbers_make_no_request(access: Access, servers: Servers, number: str) -> None:
    for path in (
        f"/.by-ref/2018-08-24_{number}_clns0730",
        f"/.search/atlas_id={number}0000000",
        f"/.search/number={number}&lab=mainenlab",
    ):
        refused(access, path)
    assert servers.requests == []
    refused(access, f"{SESSION}/{number}")


@pytest.mark.parametrize("mark", ["\udcff", "\x01", "\n", "ü", "x" * 250, "%00", "'"])
def test_names_with_unusual_characters_do_not_exist(access: Access, mark: str) -> None:
    for path in (
        f"/{mark}",
        f"/mainenlab/{mark}",
        f"/mainenlab/clns0730/{mark}",
        f"{SESSION}/{mark}",
        f"{SESSION}/001/{mark}",
        f"/.by-eid/{mark}",
        f"/.by-ref/{mark}",
        f"/.as-of/2018-08-24{mark}",
        f"/.search/{mark}",
        f"/.search/subject={mark}&{mark}=1",
    ):
        with pytest.raises(NotFound):
            access.tree.node(path)
    with pytest.raises(NotFound):
        access.tree.target(f"/.by-ref/2018-08-24_1_{mark}"[:255])


def test_a_ref_of_an_invalid_day_makes_no_request(access: Access, servers: Servers) -> None:
    assert access.catalogue.sessions_by_ref(alf.Ref("2019-13-45", 1, "X")) == []
    assert servers.requests == []

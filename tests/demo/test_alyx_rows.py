"""Names on the file server, ids, and the parts of a path."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefs.demo import alyx_rows

KEY = "6f2a1c34-9a0e-5d53-8a44-0c1d6b8e7f21"
OTHER = "00000000-9a0e-5d53-8a44-0c1d6b8e7f21"


@pytest.mark.parametrize(
    ("plain", "served"),
    [
        ("alf/spikes.times.npy", f"alf/spikes.times.{KEY}.npy"),
        ("README", f"README.{KEY}"),
        (".hidden", f".hidden.{KEY}"),
        ("#v1#/a.b.c.tsv", f"#v1#/a.b.c.{KEY}.tsv"),
        (f"a.{OTHER}.npy", f"a.{OTHER}.{KEY}.npy"),
    ],
)
def test_the_uuid_goes_before_the_extension(plain: str, served: str) -> None:
    assert alyx_rows.with_uuid(plain, KEY) == served


NAMES = st.text(
    st.sampled_from("ab.# \udcff") | st.characters(exclude_characters="/\0"), min_size=1
)


@given(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from(["", f".{OTHER}"]))
def test_a_path_is_restored_without_its_uuid(parts: list[str], ending: str) -> None:
    path = "/".join(parts) + ending
    assert (path, KEY) in list(alyx_rows.without_uuid(alyx_rows.with_uuid(path, KEY)))


def test_a_name_without_uuid_has_no_reading() -> None:
    assert list(alyx_rows.without_uuid("/alf/spikes.times.npy")) == []
    assert list(alyx_rows.without_uuid(f"/alf/{KEY}")) == []


def test_ids_are_of_version_4_also_of_names_that_are_not_utf8() -> None:
    hashed = uuid.uuid5(alyx_rows.NAMESPACE, "lab/näme")
    assert alyx_rows.make_id("lab", "näme") == str(uuid.UUID(bytes=hashed.bytes, version=4))
    bad = {alyx_rows.make_id(os.fsdecode(name)) for name in (b"\xff", b"\xfe", b"\xc3\xbf")}
    assert len(bad) == 3


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a.b", ("", "", "a.b")),
        ("alf/a.b", ("alf", "", "a.b")),
        ("alf/probe00/#v1#/a.b", ("alf/probe00", "v1", "a.b")),
        ("#v1#/a.b", ("", "v1", "a.b")),
        ("#v1#/alf/a.b", ("#v1#/alf", "", "a.b")),
        ("alf/##/a.b", ("alf/##", "", "a.b")),
        ("alf/#v1/a.b", ("alf/#v1", "", "a.b")),
    ],
)
def test_paths_are_split(path: str, parts: tuple[str, str, str]) -> None:
    assert alyx_rows.split_path(path) == parts

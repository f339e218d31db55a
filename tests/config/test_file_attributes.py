"""Umasks and ids in the forms that people write, and the order of flags, variables and profiles."""

from __future__ import annotations

import pytest

from onefs.config.file_attributes import (
    FileAttributes,
    parse_id,
    parse_umask,
    resolve_file_attributes,
)
from onefs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "number"),
    [("022", 0o22), ("22", 0o22), ("0", 0), ("0077", 0o77), ("0o27", 0o27), (" 777 ", 0o777)],
)
def test_a_umask_is_octal(text: str, number: int) -> None:
    assert parse_umask(text) == number


@pytest.mark.parametrize(
    "text", ["", "8", "089", "1000", "7777", "-1", "0x1f", "u=rwx", "0b1", "00022", "٠٢٢", "2 2"]
)
def test_an_invalid_umask_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="not a umask: write it in octal digits, like 022"):
        parse_umask(text)


@pytest.mark.parametrize(
    "text", ["", "root", "-1", "4294967295", "99999999999", "1.0", "٣", "0x10"]
)
def test_an_invalid_user_id_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 1000"):
        parse_id(text)


def test_a_user_id_is_parsed() -> None:
    assert (parse_id("0"), parse_id(" 1000 "), parse_id("4294967294")) == (0, 1000, 2**32 - 2)


def test_flags_override_variables_and_variables_the_profile() -> None:
    environ = {"ONEFS_UMASK": "027", "ONEFS_UID": "2", "ONEFS_INODE32": "1"}
    profile = {"umask": "077", "uid": "3", "gid": "4", "inode32": "no"}
    found = resolve_file_attributes({"umask": "022", "uid": None}, environ, profile)
    assert found == FileAttributes(0o022, 2, 4, inode32=True)
    assert resolve_file_attributes({}, {}, {}) == FileAttributes(0, None, None, inode32=False)


@pytest.mark.parametrize(
    ("flags", "environ", "profile", "source"),
    [
        ({"umask": "9"}, {}, {}, "--umask: "),
        ({}, {"ONEFS_UID": "ada"}, {}, "ONEFS_UID: "),
        ({}, {"ONEFS_INODE32": "perhaps"}, {}, "ONEFS_INODE32: "),
        ({}, {}, {"gid": "-1"}, "the profile's gid: "),
    ],
)
def test_the_source_of_an_invalid_value_is_named(
    flags: dict[str, str | None], environ: dict[str, str], profile: dict[str, str], source: str
) -> None:
    with pytest.raises(UsageError, match=source):
        resolve_file_attributes(flags, environ, profile)

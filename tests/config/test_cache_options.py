"""Sizes in the forms that people write, and the order of flags, variables and profiles."""

from __future__ import annotations

import pytest

from onefs.config.cache_options import (
    INDEXER_PROGRAMS,
    SMALL_FILE_BYTES,
    WRITABLE_FOLDERS,
    CacheOptions,
    parse_rate,
    parse_size,
    resolve_cache_options,
)
from onefs.errors import UsageError
from onefs.qc import QC


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1234", 1234),
        ("20G", 20 << 30),
        ("500m", 500 << 20),
        ("1.5 TiB", 3 << 39),
        ("64kB", 64 << 10),
    ],
)
def test_a_size_is_parsed(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1X", "ten", "1G/h", "nan", "1e9"])
def test_an_invalid_size_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


def test_a_rate_is_parsed() -> None:
    assert parse_rate("5G/h") == parse_rate("5G / hour") == parse_rate("5G") == 5 << 30
    with pytest.raises(UsageError, match="is not a rate"):
        parse_rate("5G/s")


def test_flags_override_variables_and_variables_the_profile() -> None:
    environ = {"ONEFS_CACHE_SIZE": "2G", "ONEFS_MIN_FREE": "2M", "ONEFS_STRICT": "1"}
    profile = {"cache_size": "3G", "min_free": "3M", "small_file": "3K", "strict": "no"}
    profile |= {"no_siblings": "yes"}
    found = resolve_cache_options({"cache_size": "1G", "min_free": None}, environ, profile)
    assert found == CacheOptions(1 << 30, 2 << 20, 3 << 10, strict=True, no_siblings=True)
    assert resolve_cache_options({}, {}, {}) == CacheOptions(
        None, 0, SMALL_FILE_BYTES, False, None, INDEXER_PROGRAMS
    )


def test_none_means_no_limit_and_no_program() -> None:
    environ = {"ONEFS_INDEXERS": "none", "ONEFS_MAX_FETCH": "5M/h"}
    found = resolve_cache_options(
        {"cache_size": "none", "max_fetch": "none"}, environ, {"cache_size": "1G"}
    )
    assert (found.cache_size, found.max_fetch, found.indexers) == (None, None, ())
    assert resolve_cache_options({}, {"ONEFS_INDEXERS": "cat, dd"}, {}).indexers == ("cat", "dd")
    assert resolve_cache_options({}, {"ONEFS_COPIES": "aws_*, x"}, {}).copies == ("aws_*", "x")
    assert resolve_cache_options({}, {}, {"copies": "none"}).copies == ()


def test_the_worst_qc_is_a_flag_a_variable_and_in_a_profile() -> None:
    profile = {"qc": "fail"}
    assert resolve_cache_options({}, {}, {}).qc is None
    assert resolve_cache_options({}, {}, profile).qc is QC.FAIL
    assert resolve_cache_options({}, {"ONEFS_QC": "30"}, profile).qc is QC.WARNING
    assert resolve_cache_options({"qc": "none"}, {"ONEFS_QC": "30"}, profile).qc is None
    with pytest.raises(UsageError, match="ONEFS_QC: 'good' is not one of NOT_SET, PASS"):
        resolve_cache_options({}, {"ONEFS_QC": "good"}, {})


@pytest.mark.parametrize(
    ("flags", "environ", "profile", "named"),
    [
        ({"cache_size": "big"}, {}, {}, "--cache-size"),
        ({}, {"ONEFS_MIN_FREE": "big"}, {}, "ONEFS_MIN_FREE"),
        ({}, {"ONEFS_STRICT": "perhaps"}, {}, "ONEFS_STRICT"),
        ({}, {}, {"small_file": "big"}, "the profile's small_file"),
    ],
)
def test_the_source_of_an_invalid_option_is_named(
    flags: dict[str, str | None], environ: dict[str, str], profile: dict[str, str], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        resolve_cache_options(flags, environ, profile)


def test_writable_names_are_added_to_the_usual_ones() -> None:
    assert resolve_cache_options({}, {}, {}).writable == WRITABLE_FOLDERS
    assert resolve_cache_options({}, {"ONEFS_WRITABLE": "none"}, {}).writable == WRITABLE_FOLDERS
    assert resolve_cache_options({}, {"ONEFS_WRITABLE": "a b, ü"}, {}).writable == (
        *WRITABLE_FOLDERS,
        "a b",
        "ü",
    )
    with pytest.raises(UsageError, match="the profile's writable: 'a/b' cannot be the name"):
        resolve_cache_options({}, {}, {"writable": "a/b"})

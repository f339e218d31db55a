"""The settings that ONE has saved, in the forms that ONE-api and ibllib write."""

from __future__ import annotations

import json
from pathlib import Path

import one.params
import pytest

from onefs.config import one_params

URL = "https://alyx.example.org"
NEW = {
    "ALYX_URL": URL,
    "ALYX_LOGIN": "olivier",
    "HTTP_DATA_SERVER": "https://data.example.org",
    "HTTP_DATA_SERVER_LOGIN": "iblmember",
    "HTTP_DATA_SERVER_PWD": "data-pw",
    "TOKEN": {"olivier": {"token": "0123456789"}, "broken": 3},
}
OLD = {
    "ALYX_LOGIN": "test_user",
    "ALYX_PWD": "alyx-pw",
    "ALYX_URL": "https://old.example.org",
    "CACHE_DIR": "/old/cache",
    "HTTP_DATA_SERVER": "http://ibl.flatironinstitute.org",
    "HTTP_DATA_SERVER_LOGIN": "iblmember",
    "HTTP_DATA_SERVER_PWD": None,
}


def write(path: Path, data: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    key = "alyx.example.org"
    write(tmp_path / ".one" / ".caches", {"CLIENT_MAP": {key: "/new/cache"}, "DEFAULT": key})
    write(tmp_path / ".one" / f".{key}", NEW)
    write(tmp_path / ".one_params", OLD)
    return tmp_path


def test_settings_are_read_from_the_newer_files(home: Path) -> None:
    found = one_params.find_by_url(URL, home)
    assert found is not None
    assert (found.url, found.username, found.cache_dir) == (URL, "olivier", "/new/cache")
    assert (found.data_username, found.data_password) == ("iblmember", "data-pw")
    assert found.tokens == {"olivier": "0123456789"}
    assert found.source == home / ".one" / ".alyx.example.org"
    assert "data-pw" not in repr(found)
    assert "0123456789" not in repr(found)


def test_settings_are_read_from_the_older_file(home: Path) -> None:
    found = one_params.find_by_url("http://old.example.org/", home)
    assert found is not None
    assert (found.username, found.password, found.cache_dir) == (
        "test_user",
        "alyx-pw",
        "/old/cache",
    )
    assert found.data_password == ""


def test_another_database_s_settings_are_not_used(home: Path) -> None:
    assert one_params.find_by_url("https://elsewhere.example.org", home) is None


def test_the_default_database_of_one_is_found(home: Path) -> None:
    found = one_params.find_default(home)
    assert found is not None
    assert found.url == URL
    (home / ".one" / ".caches").unlink()
    found = one_params.find_default(home)
    assert found is not None
    assert found.url == "https://old.example.org"


def test_no_saved_settings_are_none(tmp_path: Path) -> None:
    assert one_params.find_default(tmp_path) is None
    assert one_params.find_by_url(URL, tmp_path) is None


@pytest.mark.parametrize("name", [".one/.caches", ".one/.alyx.example.org", ".one_params"])
def test_truncated_files_are_skipped(home: Path, name: str) -> None:
    whole = (home / name).read_bytes()
    for length in range(0, len(whole), 7):
        (home / name).write_bytes(whole[:length])
        for found in (one_params.find_default(home), one_params.find_by_url(URL, home)):
            assert found is None or found.url in (URL, "https://old.example.org")
        found = one_params.find_by_url("https://old.example.org", home)
        assert found is None or found.url == "https://old.example.org"
        # one of the two others is still whole
        urls = (URL, "https://old.example.org")
        assert any(one_params.find_by_url(url, home) for url in urls)
    (home / name).write_bytes(whole)
    found = one_params.find_default(home)
    assert found is not None
    assert found.url == URL


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"ALYX_URL": 3}', '{"ALYX_URL": "http://"}', "[" * 100_000, "\0"]
)
def test_an_invalid_file_is_skipped(home: Path, content: str) -> None:
    (home / ".one" / ".alyx.example.org").write_text(content)
    (home / ".one" / ".caches").write_text(content)
    (home / ".one_params").write_text(content)
    assert one_params.find_by_url(URL, home) is None
    assert one_params.find_default(home) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://openalyx.internationalbrainlab.org",
        "http://Test.Alyx.internationalbrainlab.org/",
        "http://127.0.0.1:8000",
        "https://host/a b/alyx",
    ],
)
def test_a_database_has_the_file_name_that_one_gives_it(url: str) -> None:
    assert one_params.one_key(url) == one.params._key_from_url(url)

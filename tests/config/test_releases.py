"""What folders and names of the user are not taken for: a release, and the public database."""

from __future__ import annotations

from pathlib import Path

from onefs.config.public_bucket import is_public_name, public_name
from onefs.config.releases import database_dir, release_dir, release_of


def test_a_state_folder_in_a_folder_of_releases_is_no_release() -> None:
    named = Path("/data/releases/v2")
    assert release_of(named) == ""
    assert database_dir(named) == named
    folder = release_dir(named, "2021_Q1")
    assert release_of(folder) == "2021_Q1"
    assert database_dir(folder) == named


def test_a_host_that_is_called_public_is_no_public_database() -> None:
    url = "https://public-alyx.example.org"
    assert not is_public_name("public-alyx.example.org", url)
    assert not is_public_name("", "")
    assert is_public_name(public_name(url), url)

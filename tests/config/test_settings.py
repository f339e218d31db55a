"""The order of defaults, settings file, environment and flags, and the places of the files."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from onefs.config import settings
from onefs.config.settings import (
    Profile,
    load_settings_file,
    parse_data_hosts,
    resolve_settings,
    save_profile,
)
from onefs.config.urls import host_key, normalise
from onefs.errors import NotConfigured, UsageError

IBL = Profile("ibl", "https://alyx.example.org", "olivier", "/data/one", "/var/onefs")
LAB = Profile("lab", "http://10.0.0.5:8000", "nate", data_url="http://10.0.0.6", data_username="d")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for variable in settings.ENVIRONMENT_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def saved() -> Path:
    save_profile(IBL, default=True)
    save_profile(LAB, default=False)
    return settings.settings_path()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("alyx.example.org", "https://alyx.example.org"),
        (" HTTPS://Alyx.Example.ORG:443/ ", "https://alyx.example.org"),
        ("http://h:80", "http://h"),
        ("http://h:8000/", "http://h:8000"),
        ("localhost:8000", "https://localhost:8000"),
        ("https://h/Alyx/", "https://h/Alyx"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_url_has_one_normal_form(given: str, url: str) -> None:
    assert normalise(given) == url
    assert normalise(url) == url


@pytest.mark.parametrize(
    "given", ["", "ftp://h", "https://", "http://me:pw@h", "http://h/?a=b", "http://h:x", "a b"]
)
def test_an_invalid_url_is_an_error(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        normalise(given)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://alyx.example.org", "alyx.example.org"),
        ("http://127.0.0.1:8000", "127.0.0.1_8000"),
        ("http://[::1]:8000", "___1__8000"),
    ],
)
def test_folders_are_named_by_host_and_port(url: str, key: str) -> None:
    assert host_key(url) == key


class TestPrecedence:
    def test_an_unconfigured_database_is_an_error(self) -> None:
        with pytest.raises(NotConfigured) as caught:
            resolve_settings({}, {})
        for advice in ("onefs setup", "ONEFS_URL", "onefs mount --demo", "onefs demo serve"):
            assert advice in str(caught.value)

    def test_defaults_are_used(self, tmp_path: Path) -> None:
        found = resolve_settings({"url": "h:8000"}, {})
        assert (found.url, found.username, found.profile) == ("https://h:8000", "", "")
        assert found.cache_dir == tmp_path / "cache" / "onefs" / "h_8000"
        assert found.state_dir == tmp_path / "state" / "onefs" / "h_8000"
        assert found.log_file.parent == found.state_dir
        assert found.sources["cache_dir"] == "default"

    @pytest.mark.usefixtures("saved")
    def test_the_settings_file_is_used(self) -> None:
        found = resolve_settings({}, {})
        assert (found.url, found.username, found.profile) == (IBL.url, "olivier", "ibl")
        assert (found.cache_dir, found.state_dir) == (Path("/data/one"), Path("/var/onefs"))
        assert found.sources["username"] == "profile ibl"

    @pytest.mark.usefixtures("saved")
    def test_the_environment_overrides_the_file(self) -> None:
        environ = {"ONEFS_USERNAME": "max", "ONEFS_CACHE_DIR": "/c", "ONEFS_STATE_DIR": "/s"}
        found = resolve_settings({}, environ)
        assert (found.username, found.cache_dir, found.state_dir) == ("max", Path("/c"), Path("/s"))
        assert found.sources["cache_dir"] == "ONEFS_CACHE_DIR"

    @pytest.mark.usefixtures("saved")
    def test_flags_override_everything(self) -> None:
        environ = {"ONEFS_USERNAME": "max", "ONEFS_CACHE_DIR": "/c"}
        found = resolve_settings({"username": "eva", "cache_dir": "~/x"}, environ)
        assert (found.username, found.cache_dir) == ("eva", Path.home() / "x")
        assert found.sources["username"] == "flag --username"

    @pytest.mark.usefixtures("saved")
    @pytest.mark.parametrize(
        ("flags", "environ", "url", "profile"),
        [
            ({"profile": "lab"}, {}, LAB.url, "lab"),
            ({}, {"ONEFS_PROFILE": "lab"}, LAB.url, "lab"),
            ({"profile": "ibl"}, {"ONEFS_PROFILE": "lab"}, IBL.url, "ibl"),
            ({"profile": "ibl"}, {"ONEFS_URL": "https://x"}, IBL.url, "ibl"),
            ({"url": "10.0.0.5:8000"}, {}, "https://10.0.0.5:8000", ""),
            ({"url": LAB.url}, {}, LAB.url, "lab"),
            ({"url": LAB.url}, {"ONEFS_PROFILE": "ibl"}, LAB.url, "lab"),
            ({}, {"ONEFS_URL": LAB.url, "ONEFS_PROFILE": "ibl"}, LAB.url, "lab"),
            ({}, {"ONEFS_URL": "https://x"}, "https://x", ""),
            ({"profile": "lab", "url": LAB.url + "/"}, {}, LAB.url, "lab"),
        ],
    )
    def test_url_and_profile_decide_on_the_database(
        self, flags: dict[str, str | None], environ: dict[str, str], url: str, profile: str
    ) -> None:
        found = resolve_settings(flags, environ)
        assert (found.url, found.profile) == (url, profile)

    @pytest.mark.usefixtures("saved")
    def test_contradicting_flags_are_an_error(self) -> None:
        with pytest.raises(UsageError, match="give one of the two"):
            resolve_settings({"profile": "ibl", "url": LAB.url}, {})

    @pytest.mark.usefixtures("saved")
    def test_an_unknown_profile_names_the_known_ones(self) -> None:
        with pytest.raises(UsageError, match=r"'IBL' \(known: ibl, lab\)"):
            resolve_settings({"profile": "IBL"}, {})

    @pytest.mark.usefixtures("saved")
    def test_the_user_of_another_server_is_not_used(self) -> None:
        environ = {"ONEFS_URL": IBL.url, "ONEFS_USERNAME": "max", "ONEFS_DATA_USERNAME": "x"}
        found = resolve_settings({"profile": "lab"}, environ)
        assert (found.username, found.data_username) == ("nate", "d")
        assert resolve_settings({}, environ).username == "max"

    def test_several_profiles_without_a_default_are_an_error(self, saved: Path) -> None:
        data = json.loads(saved.read_text())
        del data["default"]
        saved.write_text(json.dumps(data))
        with pytest.raises(NotConfigured, match="ibl, lab"):
            resolve_settings({}, {})
        del data["profiles"]["ibl"]
        saved.write_text(json.dumps(data))
        assert resolve_settings({}, {}).profile == "lab"


class TestFile:
    def test_the_settings_file_is_private(self, saved: Path) -> None:
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        assert stat.S_IMODE(saved.parent.stat().st_mode) == 0o700

    def test_a_saved_profile_is_loaded(self, saved: Path) -> None:
        book = load_settings_file()
        assert (dict(book.profiles), book.default) == ({"ibl": IBL, "lab": LAB}, "ibl")
        assert "password" not in saved.read_text()

    def test_other_content_of_the_file_is_kept(self, saved: Path) -> None:
        data = json.loads(saved.read_text())
        saved.write_text(json.dumps({**data, "theme": "dark"}))
        save_profile(Profile("new", "https://new"), default=False)
        assert json.loads(saved.read_text())["theme"] == "dark"
        assert load_settings_file().default == "ibl"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            '{"profiles": []}',
            '{"profiles": {"a": {}}}',
            '{"profiles": {"a": {"url": 3}}}',
            '{"default": "b", "profiles": {"a": {"url": "https://h"}}}',
        ],
    )
    def test_a_broken_file_is_named_and_not_overwritten(self, saved: Path, text: str) -> None:
        saved.write_text(text)
        with pytest.raises(UsageError, match=str(saved)):
            resolve_settings({}, {})
        with pytest.raises(UsageError, match=str(saved)):
            save_profile(IBL, default=True)
        assert saved.read_text() == text

    def test_a_mode_that_is_too_open_is_narrowed(
        self, saved: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        saved.chmod(0o644)
        load_settings_file()
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        assert str(saved) in caplog.text

    def test_a_folder_that_cannot_be_created_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
        with pytest.raises(UsageError, match="cannot be written"):
            save_profile(IBL, default=True)

    def test_concurrent_writers_keep_all_profiles(self, saved: Path) -> None:
        def write(number: int) -> None:
            save_profile(Profile(f"p{number}", "https://h"), default=False)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(load_settings_file().profiles) == 14
        assert [path.name for path in saved.parent.iterdir() if "settings.json." in path.name] == [
            ".settings.json.lock"
        ]


class TestDataHosts:
    @pytest.mark.parametrize(
        ("text", "origins"),
        [
            ("", ()),
            ("none", ()),
            ("a.org", ("https://a.org",)),
            (" A.org:443 ,https://a.org/public/,", ("https://a.org",)),
            ("http://a.org:8080, b.org:8443", ("http://a.org:8080", "https://b.org:8443")),
            ("127.0.0.1:80", ("https://127.0.0.1:80", "http://127.0.0.1")),
            ("[::1]:8080", ("https://[::1]:8080", "http://[::1]:8080")),
        ],
    )
    def test_data_hosts_become_origins(self, text: str, origins: tuple[str, ...]) -> None:
        assert parse_data_hosts(text, "ONEFS_DATA_HOSTS") == origins

    @pytest.mark.parametrize("text", ["*.simons.org", "*", "ftp://a.org", "a b", "u@a.org"])
    def test_an_invalid_host_is_an_error(self, text: str) -> None:
        with pytest.raises(UsageError, match="ONEFS_DATA_HOSTS"):
            parse_data_hosts(text, "ONEFS_DATA_HOSTS")

    def test_the_variable_is_for_its_database_only(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.json"
        environ = {"ONEFS_URL": "https://alyx.org", "ONEFS_DATA_HOSTS": "data.org"}
        assert resolve_settings({}, environ, path).data_hosts == ("https://data.org",)
        assert resolve_settings({"url": "https://other.org"}, environ, path).data_hosts == ()

    def test_a_profile_of_an_older_version_confirms_none(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.json"
        row = {"url": "https://alyx.org", "data_url": "https://data.org", "data_username": "d"}
        path.write_text(json.dumps({"default": "a", "profiles": {"a": row}}))
        found = resolve_settings({}, {}, path)
        assert (found.data_url, found.data_hosts) == ("https://data.org", ())
        save_profile(
            load_settings_file(path).profiles["a"]._replace(data_hosts="x.org"),
            default=True,
            path=path,
        )
        assert resolve_settings({}, {}, path).data_hosts == ("https://x.org",)

"""Releases: ``onefs tags``, ``sync --tag``, ``mount --tag`` and ``.tags/TAG`` in a mount."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.public_servers import PublicServers
from onefs.demo.servers import Servers
from onefs.demo.synthetic.plan import BEHAVIOUR_TAG, REPEATED_SITE_TAG, TUTORIAL_EID
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import account
from tests.public_database import TUTORIAL, FewSessions, serve_public, variables_of
from tests.running import Home, files_below, read_errno, wait_until

pytest.importorskip("pyarrow")

TAGS = [BEHAVIOUR_TAG, REPEATED_SITE_TAG]


@pytest.fixture(scope="module")
def few() -> FewSessions:
    return FewSessions()


@pytest.fixture(scope="module")
def public(few: FewSessions) -> Iterator[PublicServers]:
    with serve_public(few) as servers:
        yield servers


def files_of(few: FewSessions, tag: str) -> set[str]:
    """Return the paths of the files of a release in the tree."""
    found = set()
    for session in few.sessions():
        place = f"{session.lab}/{session.subject}/{session.start_time[:10]}/{session.number:03d}"
        for row in few.datasets(session.eid):
            revision = f"#{row.revision}#" if row.revision else ""
            if tag in row.tags:
                parts = (place, row.collection, revision, row.name)
                found.add("/".join(part for part in parts if part))
    return found


def test_releases_of_the_public_database_are_beside_the_whole(
    tmp_path: Path, public: PublicServers, few: FewSessions
) -> None:
    with Home(tmp_path, **variables_of(public)) as user:
        mount = user.mount("--public")
        assert user.run("tags").stdout.split() == ["tag", "loaded", *TAGS]
        assert os.listdir(mount.path / ".tags") == []
        assert read_errno(mount.path / ".tags" / TAGS[0]) == errno.ENOENT
        for tag in TAGS:
            user.run("sync", "--tag", tag)
        rows = json.loads(user.run("tags", "--json").stdout)
        assert rows == [{"tag": tag, "loaded": True} for tag in TAGS]
        wait_until(lambda: sorted(os.listdir(mount.path / ".tags")) == TAGS)
        for tag in TAGS:
            release = mount.path / ".tags" / tag
            wait_until(release.exists)
            files = files_below(release)
            assert files == files_of(few, tag)
            assert files < files_below(mount.path)
        # the root does not list it, and a release has no other trees in it
        assert ".tags" not in os.listdir(mount.path)
        assert not (mount.path / ".tags" / TAGS[0] / ".as-of" / "2020-01-01").exists()
        one = min(files_of(few, TAGS[0]))
        inode = (mount.path / one).stat().st_ino
        assert (mount.path / ".tags" / TAGS[0] / one).stat().st_ino != inode
        # one store: what is read in a release is cached in the whole
        public.clear_requests()
        content = (mount.path / ".tags" / TAGS[0] / one).read_bytes()
        assert mount.xattr("state", one) == "cached"
        assert (mount.path / one).read_bytes() == content
        assert len(public.requests_to("bucket")) == 1
        assert public.requests_to("alyx") == []


@pytest.mark.long
def test_a_mount_shows_a_release_alone(
    tmp_path: Path, public: PublicServers, few: FewSessions
) -> None:
    tag = TAGS[1]
    with Home(tmp_path, **variables_of(public)) as user:
        mount = user.mount("--public", "--tag", tag)
        assert files_below(mount.path) == files_of(few, tag)
        assert not (mount.path / TUTORIAL).exists()
        shown = user.status_of(mount.path)
        assert shown is not None
        assert shown["tag"] == tag
        assert f"release {tag}" in user.run("status").stdout
        one = min(files_of(few, tag))
        assert (mount.path / one).read_bytes()
        whole = user.mount("--public", at="whole")
        assert (whole.path / TUTORIAL).exists()
        assert (whole.path / ".tags" / tag).exists()
        listed = user.run("search", "--lab", "mainenlab", "--format", "eids").stdout.split()
        assert TUTORIAL_EID in listed
        assert "cached" in user.run("show", whole.path / ".tags" / tag / one).stdout
        error = user.error_of(1, "mount", "--public", "--tag", "none", "other")
        assert "there is no release none" in error
        assert "not the name" in user.error_of(2, "sync", "--public", "--tag", "../x")


def test_a_release_of_alyx_stays_as_it_was_published(tmp_path: Path, few: FewSessions) -> None:
    tag = TAGS[0]
    with Servers(few) as servers, Home(tmp_path, **account(servers)) as user:
        assert user.run("tags").stdout.split()[2:] == TAGS
        loaded = user.run("sync", "--tag", tag).stdout
        assert f"and {len(files_of(few, tag))} datasets as of" in loaded
        assert "loaded already" in user.run("sync", "--tag", tag).stdout
        mount = user.mount()
        servers.clear_requests()
        release = mount.path / ".tags" / tag
        assert files_below(release) == files_of(few, tag)
        # Alyx is not asked for the listings of a release, nor for the files in it
        assert [each for each in servers.requests if each.server == "alyx"] == []
        one = min(files_of(few, tag))
        assert (release / one).read_bytes()
        assert {each.server for each in servers.requests} == {"data"}
        assert (release / one.split("/alf/")[0] / ".session.json").parent.exists()
        assert read_errno(release / one.split("/alf/")[0] / ".session.json") == errno.EHOSTUNREACH
        alone = user.mount("--tag", tag, at="alone")
        user.run("sync")  # ONE's tables of the whole database are in the shared cache folder
        assert (mount.path / "sessions.pqt").exists()
        assert files_below(alone.path) == files_of(few, tag)
        assert (alone.path / one).read_bytes() == (release / one).read_bytes()


def test_a_dataset_that_has_changed_since_a_release_is_in_the_cache_twice(
    tmp_path: Path, few: FewSessions
) -> None:
    tag = TAGS[0]
    source = ChangingLaboratory(few)
    read, unread = sorted(each for each in files_of(few, tag) if each.endswith(".npy"))[:2]

    def downloads() -> int:
        return len([each for each in servers.requests if each.server == "data"])

    with Servers(source) as servers, Home(tmp_path, **account(servers)) as user:
        user.run("sync", "--tag", tag)
        mount = user.mount()
        release = mount.path / ".tags" / tag
        published = (mount.path / read).read_bytes()
        ids = {each: mount.xattr("dataset_id", each) for each in (read, unread)}
        # the same content is cached once
        servers.clear_requests()
        assert (release / read).read_bytes() == published
        assert downloads() == 0
        for each in ids.values():
            source.replace(each, b"changed")
        user.run("refresh")
        wait_until(lambda: (mount.path / read).read_bytes() == b"changed", what="the new content")
        assert (mount.path / unread).read_bytes() == b"changed"
        # what was cached stays cached for the release
        servers.clear_requests()
        assert (release / read).read_bytes() == published
        assert downloads() == 0
        # the servers do not have what was published any more, and only the release lacks it
        assert read_errno(release / unread) == errno.EIO
        asked = downloads()
        assert (mount.path / unread).read_bytes() == b"changed"
        assert mount.xattr("state", unread) == "cached"
        assert downloads() == asked
        # from a server that has it again, it is cached beside the other
        source.restore(ids[unread])
        user.run("refresh", release / unread)
        wait_until(lambda: read_errno(release / unread) == 0, what="the published bytes")
        servers.clear_requests()
        for each in (read, unread):
            assert (mount.path / each).read_bytes() == b"changed"
            assert mount.xattr("state", f".tags/{tag}/{each}") == "cached"
            assert mount.xattr("dataset_id", f".tags/{tag}/{each}") == ids[each]
        digest = hashlib.md5((release / unread).read_bytes()).hexdigest()
        assert digest == mount.xattr("md5", f".tags/{tag}/{unread}")
        assert downloads() == 0

"""The releases of an opened database: their names, their tables, and the catalogue of each."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from onefs.cache_tables.reader import TABLES_FILE_NAME
from onefs.config.releases import RELEASES_FOLDER, database_dir, is_tag, release_dir
from onefs.errors import NotFound

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.cache_tables.build import BuildResult
    from onefs.catalogue.sync import SyncProgress
    from onefs.config.settings import Settings


def settings_of_release(settings: Settings, tag: str) -> Settings:
    """Return the settings of one release of a database. Raises UsageError for an invalid tag."""
    return replace(settings, state_dir=release_dir(database_dir(settings.state_dir), tag))


def tags_on_server(access: Access) -> list[str]:
    """Return the names of all releases, from Alyx or from the public bucket, sorted.

    Raises the errors of requests.
    """
    if access.settings.public:
        return access.without_alyx.tables_server().tags()
    rows = access.alyx.table_rows("tags", "name")
    return sorted({name for row in rows if isinstance(name := row.get("name"), str)})


def load(access: Access, tag: str, progress: SyncProgress | None = None) -> BuildResult | None:
    """Load the tables of a release. Return None if the same tables are already loaded.

    Raises what :func:`onefs.catalogue.releases.load_release` raises.
    """
    # slow to import, and rarely needed
    from onefs.cache_tables.worker import build_in_child
    from onefs.catalogue.releases import AlyxRelease, load_release
    from onefs.catalogue.sync import SYNC_DEADLINE_SECONDS

    state_dir = database_dir(access.settings.state_dir)
    if access.settings.public:
        server = access.without_alyx.tables_server(tag)
        return load_release(server, state_dir, tag, progress, build_in_child)
    alyx = access.alyx.low_priority(deadline=SYNC_DEADLINE_SECONDS)
    release = AlyxRelease(alyx, access.transport, tag)
    return load_release(release, state_dir, tag, progress, build_in_child, alyx)


def loaded_releases(settings: Settings) -> list[str]:
    """Return the tags of the releases whose tables are loaded, sorted."""
    folder = database_dir(settings.state_dir) / RELEASES_FOLDER
    try:
        names = [each.name for each in folder.iterdir() if is_tag(each.name)]
    except OSError:
        return []
    return sorted(name for name in names if (folder / name / TABLES_FILE_NAME).exists())


class LoadedReleases:
    """The releases of a database whose tables are loaded. Thread-safe.

    The catalogue of a release is opened when it is first shown. The bytes are those of ``access``.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = Lock()
        self._opened: dict[str, Access] = {}

    def tags(self) -> list[str]:
        """Return the names of the loaded releases, sorted."""
        return loaded_releases(self._access.settings)

    def open(self, tag: str) -> Access:
        """Return an access to a release, of which the catalogue and the queries may be used.

        Raises NotFound if the release is not loaded.
        """
        if not is_tag(tag) or tag not in self.tags():
            raise NotFound(
                f"the release {tag} is not loaded: run `onefs sync --tag {tag}`, or `onefs tags` "
                "for the names of all releases"
            )
        with self._lock:
            if tag not in self._opened:
                self._opened[tag] = self._access.of_release(tag)
            return self._opened[tag]

    def close(self) -> None:
        """Close the catalogues."""
        with self._lock:
            opened, self._opened = list(self._opened.values()), {}
        for each in opened:
            each.close()

"""``ONE``: the methods of ONE's tutorial and of ONE-api, for one database."""

from __future__ import annotations

from onefs.one.change_verbs import ChangeVerbs
from onefs.one.dataset_verbs import DatasetVerbs
from onefs.one.insertion_verbs import InsertionVerbs
from onefs.one.session_verbs import SessionVerbs
from onefs.one.tutorial import TutorialVerbs


class ONE(TutorialVerbs, DatasetVerbs, SessionVerbs, InsertionVerbs, ChangeVerbs):
    """A client for one database. ``ONE()`` opens the database that is set up.

    Arguments can select another database, for this object only. No argument is saved. If no
    database is set up or named, the only mounted laboratory (database) is opened:

    - ``cache_dir``, if given, must be the cache folder of this laboratory.
    - With a password or token, no mounted laboratory is opened. Then ``base_url`` is needed.
    - Another user's mount (``--allow-other``) needs no login. ``cache_dir`` may be its mount point.

    Every method may also raise Unreachable, DeadlineExceeded, AlyxCredentials, Throttled,
    ServerError or CacheError (``onefs.errors``).

    Args:
        username: The user name for Alyx.
        password: The password for Alyx.
        base_url: Alyx's address, for example ``https://alyx.example.org``.
        silent: Whether to ask nothing on the terminal.
        token: A token of Alyx. It replaces the user name and password.
        profile: The name of a profile that ``onefs setup`` has saved.
        cache_dir: ONE-api's cache folder, where downloaded files are stored.
        source: A disk that has the file server's files, at the same paths. Its files are read in
            place, and not downloaded. Several disks are separated by colons.
        data_username: The user name for the file server.
        data_password: The password for the file server.
        data_hosts: The servers that may receive the login for the file server, as
            ``https://host``, separated by commas.
        offline: Whether to send no request, and use only what is cached.
        mode: ``"local"`` or ``"remote"``, as in ONE-api. ``"local"`` is ``offline=True``.
        wildcards: Whether a text that names datasets may be a pattern, as in ONE-api. It can also
            be set later.
        tables_dir: Has no meaning. ONE-api keeps its tables in this folder.
        cache_rest: ``"GET"`` if an answer of :attr:`alyx` is used for five minutes. None means that
            Alyx is asked each time.

    Raises:
        NotConfigured: No database is set up, named or mounted, and the user cannot be asked on a
            terminal.
        UsageError: An argument is invalid.
        AlyxCredentials: Alyx refuses the login.
        Unreachable: Alyx is unreachable, and nothing from the database is cached.
    """

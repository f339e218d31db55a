"""Paths with the methods of ONE-api's ``ALFPath``, which read and change the parts of ALF paths.

The methods that need no file give the same result whether or not the file exists, except those that
say otherwise.
"""

from __future__ import annotations

import datetime
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from onefs.errors import UsageError
from onefs.integers import parse_whole_number
from onefs.one.alf_errors import alf_error
from onefs.one.alf_grammar import (
    COLLECTION,
    FILE,
    SESSION,
    is_dataset_name,
    is_day,
    is_session_path,
    is_uuid,
    is_uuid_text,
    optional_parts,
    parts_of,
    pattern,
    with_slash,
)

#: the beginning of a file's name: its namespace and its object
_OBJECT = FILE.split(r"\.")[0]


# a subclass of ``Path`` itself cannot be created before Python 3.12
if TYPE_CHECKING:
    _Base = Path
else:
    _Base = type(Path())


class ALFPath(_Base):
    """A path below a session's folder, or of such a folder. It is also a ``pathlib.Path``.

    A part that a path lacks is ''. Methods raise UsageError for a path or value that has not the
    form of ONE's paths; where ONE-api is imported, this error is also its ``ALFInvalid``.
    """

    # -- parts

    @property
    def session_parts(self) -> tuple[str, ...]:
        """The lab, subject, date and number in the path."""
        return parts_of(SESSION, self.as_posix(), whole=False)

    @property
    def dataset_name_parts(self) -> tuple[str, ...]:
        """The namespace, object, attribute, timescale, extra parts and extension of the name."""
        return parts_of(FILE, self.name)

    @property
    def alf_parts(self) -> tuple[str, ...]:
        """The parts of the session, the collection and revision, and the parts of the name."""
        return tuple(part or "" for part in self._all_parts().values())

    @property
    def lab(self) -> str:
        """The lab."""
        return self.session_parts[0]

    @property
    def subject(self) -> str:
        """The subject."""
        return self.session_parts[1]

    @property
    def date(self) -> str:
        """The date of the session, as ``yyyy-mm-dd``."""
        return self.session_parts[2]

    @property
    def sequence(self) -> str:
        """The number of the session on its day, as the path has it."""
        return self.session_parts[3]

    @property
    def collection(self) -> str:
        """The collection."""
        return self.alf_parts[4]

    @property
    def revision(self) -> str:
        """The revision, without ``#``."""
        return self.alf_parts[5]

    @property
    def namespace(self) -> str:
        """The namespace, without underscores."""
        return self.dataset_name_parts[0]

    @property
    def object(self) -> str:
        """The object, such as ``spikes``."""
        return self.dataset_name_parts[1]

    @property
    def attribute(self) -> str:
        """The attribute, such as ``times``."""
        return self.dataset_name_parts[2]

    @property
    def timescale(self) -> str:
        """The timescale."""
        return self.dataset_name_parts[3]

    @property
    def extra(self) -> str:
        """The extra parts, with dots between them."""
        return self.dataset_name_parts[4]

    def parse_alf_path(self, as_dict: bool = True) -> Any:
        """Return all parts as a dict by name, or as a tuple. A part that is absent is None."""
        parts = self._all_parts()
        return parts if as_dict else tuple(parts.values())

    def parse_alf_name(self, as_dict: bool = True) -> Any:
        """Return the parts of the name as a dict, or as a tuple. An absent part is None."""
        parts = optional_parts(FILE, self.name)
        return parts if as_dict else tuple(parts.values())

    # -- kinds of paths

    def is_dataset(self) -> bool:
        """Whether the name is that of a dataset. False for an existing folder."""
        return not self.is_dir() and is_dataset_name(self.name)

    def is_session_path(path: str | PurePath) -> bool:
        """Whether the path is that of a session's folder. False for an existing file."""
        path = ALFPath(path)
        return not path.is_file() and is_session_path(path.as_posix())

    def is_valid_alf(path: str | PurePath) -> bool:
        """Whether the path has the form of ONE's paths.

        False for a dataset's name that is an existing folder, and for another name that is an
        existing file.
        """
        path = ALFPath(path)
        parts = path._all_parts()
        if path.name.count(".") < 2:
            folder = path.name in filter(None, parts.values())
            if not any(parts.values()) or not (folder or path.name == f"#{parts['revision']}#"):
                return False
        elif parts["object"] is None or ("/" in path.as_posix() and parts["subject"] is None):
            return False
        is_dataset = parts["object"] is not None
        return not (is_dataset if path.is_dir() else path.is_file() and not is_dataset)

    # -- the session

    def session_path(self) -> ALFPath | None:
        """Return the path of the session's folder, or None if the path contains no session."""
        for at, part in enumerate(self.parts):
            # as in ONE-api, the part before the first is the last
            if parse_whole_number(part) is not None and is_day(self.parts[at - 1]):
                return ALFPath(*self.parts[: at + 1])
        return None

    def session_path_short(self, include_lab: bool = False) -> str | None:
        """Return ``subject/date/number`` as text, or None if the path contains no session.

        Args:
            include_lab: Whether to begin with the lab.
        """
        parts = self.session_parts[0 if include_lab else 1 :]
        return "/".join(parts) if any(parts) else None

    def without_lab(self) -> ALFPath:
        """Return the path without the two folders ``lab/Subjects``."""
        text = self.as_posix()
        match = pattern("{lab}/Subjects/").search(text)
        return self if match is None else ALFPath(text[: match.start()], text[match.end() :])

    def relative_to_lab(self) -> ALFPath:
        """Return the path relative to ``lab/Subjects``. Raises UsageError without this folder."""
        text = self.as_posix()
        match = pattern("{lab}/Subjects/").search(text)
        if match is None:
            raise UsageError(f"{self} has no folder <lab>/Subjects")
        return ALFPath(text[match.end() :])

    def relative_to_session(self) -> ALFPath:
        """Return the path relative to the session's folder. Raises UsageError without a session."""
        session = self.session_path()
        if session is None:
            raise UsageError(f"{self} contains no session")
        return ALFPath(self.relative_to(session))

    def with_lab(self, lab: str, strict: bool = False) -> ALFPath:
        """Return the path with another lab. Without ``strict``, a path without a lab gets one."""
        _check_part("lab", lab)
        if not self.subject or (strict and not self.lab):
            raise _invalid(self)
        return self._replaced(SESSION, rf"{lab}/Subjects/\g<subject>/\g<date>/\g<number>")

    def with_subject(self, subject: str) -> ALFPath:
        """Return the path with another subject."""
        _check_part("subject", subject)
        return self._with_session(rf"{subject}/\g<date>/\g<number>")

    def with_date(self, date: str | datetime.date) -> ALFPath:
        """Return the path with another date."""
        text = date if isinstance(date, str) else str(date)[:10]
        _check_part("date", text)
        return self._with_session(rf"\g<subject>/{text}/\g<number>")

    def with_sequence(self, number: int | str) -> ALFPath:
        """Return the path with another number of the session, of three digits."""
        text = str(number).strip()
        text = text.lstrip("0") or text[:1]
        _check_part("number", text)
        return self._with_session(rf"\g<subject>/\g<date>/{text.zfill(3)}")

    def with_padded_sequence(path: str | PurePath) -> ALFPath:
        """Return the path with three digits in the number of the session."""
        path = ALFPath(path)
        session = path.session_path()
        if session is None:
            raise UsageError(f"{path} contains no session")
        at = len(path.parts) - len(session.parts)
        return path.parents[at] / str(int(session.name)).zfill(3) / path.relative_to(session)

    # -- the collection and the revision

    def with_collection(self, collection: str | PurePath) -> ALFPath:
        """Return the path with another collection. The path must contain a session."""
        name = PurePath(collection or "").as_posix().strip("/")
        _check_part("collection", name)
        if not self.session_path():
            raise UsageError(f"{self} contains no session, so that it can have no collection")
        if self.is_session_path():
            return self / name
        text = self.as_posix()
        if not self.is_dataset():
            text += "/"
            if not pattern(f"^{COLLECTION}$").match(f"{self.relative_to_session().as_posix()}/"):
                raise _invalid(self)
        whole = pattern("{subject}/{date}/{number}/" + COLLECTION)
        match = whole.search(text)
        if match is None:
            raise _invalid(self)
        changed = rf"\g<subject>/\g<date>/\g<number>/{name}/"
        if match["revision"]:
            changed += r"#\g<revision>#/"
        return ALFPath(whole.sub(changed, text, count=1))

    def with_revision(self, revision: str) -> ALFPath:
        """Return the path with another revision, which is given without ``#``."""
        match = pattern("^{revision}$").match(revision)
        if match is None:
            raise _invalid(revision)
        folder = f"#{match['revision']}#"
        without = self.without_revision()
        return without.parent / folder / self.name if self._is_file() else without / folder

    def without_revision(self) -> ALFPath:
        """Return the path without the folder of the revision."""
        if not self._is_file():
            if not self.is_valid_alf():
                raise _invalid(self)
            return self.parent if pattern("^#{revision}#$").match(self.name) else self
        folders = optional_parts(f"{SESSION}/{COLLECTION}", f"{self.parent.as_posix()}/", False)
        session = self.session_path()
        if session is None or folders["subject"] is None:
            raise _invalid(self)
        return session.joinpath(*filter(None, (folders["collection"], self.name)))

    # -- the name

    def with_object(self, obj: str) -> ALFPath:
        """Return the path with another object in its name."""
        return self._with_name_parts(object=obj)

    def with_namespace(self, ns: str | None) -> ALFPath:
        """Return the path with another namespace in its name, or without one."""
        return self._with_name_parts(namespace=ns)

    def with_attribute(self, attr: str) -> ALFPath:
        """Return the path with another attribute in its name."""
        return self._with_name_parts(attribute=attr)

    def with_timescale(self, timescale: str | None) -> ALFPath:
        """Return the path with another timescale in its name, or without one."""
        return self._with_name_parts(timescale=timescale)

    def with_extra(self, extra: str | Iterable[str], append: bool = False) -> ALFPath:
        """Return the path with other extra parts in its name, or without them.

        Args:
            extra: The extra parts, as a list or with dots between them.
            append: Whether to keep the extra parts that the name has.
        """
        self._check_dataset()
        parts = self.stem.split(".", 2)
        more = list(extra.strip(".").split(".") if isinstance(extra, str) else extra)
        if len(parts) > 2 and (before := parts.pop()) and append:
            more.insert(0, before)
        return self.with_stem(".".join([*parts, *filter(None, more)]))

    def with_extension(self, ext: str) -> ALFPath:
        """Return the path with another extension, which is given without a dot."""
        _check_part("extension", ext)
        self._check_dataset()
        return self.with_suffix(f".{ext}")

    def with_uuid(self, uuid: str | UUID, strict: bool = False) -> ALFPath:
        """Return the path with a dataset's UUID in its name.

        Args:
            uuid: The UUID.
            strict: Whether to raise UsageError for a name with another UUID, instead of replacing
                the UUID.
        """
        self._check_dataset()
        text = str(uuid)
        if not isinstance(uuid, UUID) and not is_uuid_text(text):
            raise UsageError(f"{text!a} is not a UUID in lower case, with dashes")
        parts = self.stem.split(".")
        if is_uuid(parts[-1]):
            *parts, before = parts
            if before == text:
                return self
            if strict:
                raise UsageError(f"the name {self.name} has the UUID {before}, and not {text}")
        return self.parent / f"{'.'.join([*parts, text])}{self.suffix}"

    def without_uuid(self) -> ALFPath:
        """Return the path without a dataset's UUID in its name."""
        parts = self.stem.split(".")
        if not (self.is_dataset() and is_uuid_text(parts[-1])):
            return self
        return self.with_name(".".join(parts[:-1]) + self.suffix)

    # -- files

    def iter_datasets(self, recursive: bool = False) -> Iterator[ALFPath]:
        """Yield the files in this folder whose names have three parts or more, sorted by path.

        Args:
            recursive: Whether to include the files in subfolders.
        """
        found = self.rglob("*.*.*") if recursive else self.glob("*.*.*")
        return (ALFPath(path) for path in sorted(found) if not path.is_dir())

    # -- helpers

    def _all_parts(self) -> OrderedDict[str, str | None]:
        """Return all parts by name. A part that is absent is None."""
        folders, name = f"{SESSION}/{COLLECTION}", self.name
        if name.count(".") < 2:
            parts = optional_parts(folders, with_slash(self.as_posix()), False)
            return OrderedDict(parts, **optional_parts(FILE, ""))
        parent = self.parent.as_posix() if "/" in self.as_posix() else ""
        parts = optional_parts(folders, with_slash(parent), False)
        return OrderedDict(parts, **optional_parts(FILE, name))

    def _is_file(self) -> bool:
        return is_dataset_name(self.name)

    def _check_dataset(self) -> None:
        if not self.is_dataset():
            raise _invalid(self)

    def _with_session(self, changed: str) -> ALFPath:
        if not self.subject:
            raise _invalid(self)
        return self._replaced("{subject}/{date}/{number}", changed)

    def _replaced(self, text: str, changed: str) -> ALFPath:
        return ALFPath(pattern(text).sub(changed, self.as_posix(), count=1))

    def _with_name_parts(self, **changes: str | None) -> ALFPath:
        """Return the path with other parts before the second dot of its name."""
        self._check_dataset()
        first, second, rest = self.name.split(".", 2)
        if {"namespace", "object"} & changes.keys():
            parts = {**optional_parts(_OBJECT, first), **changes}
            first = f"_{parts['namespace']}_" if parts["namespace"] else ""
            first += parts["object"] or ""
        else:
            parts = {**optional_parts("{attribute}(?:_{timescale})?", second), **changes}
            second = parts["attribute"] or ""
            second += f"_{parts['timescale']}" if parts["timescale"] else ""
        return self.with_name(f"{first}.{second}.{rest}")


def _check_part(name: str, value: str) -> None:
    """Raise UsageError if a value is not valid as a part of a path."""
    if not (value and pattern(f"^{{{name}}}$").match(value)):
        raise UsageError(f"{value!a} is not valid as the {name} in a path")


def _invalid(path: str | os.PathLike[str]) -> Exception:
    return alf_error("invalid", f"{os.fspath(path)} has not the form of ONE's paths")

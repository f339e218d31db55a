"""A generated tree of sessions on a disk, and what programs see of a tree: the same on a mount."""

from __future__ import annotations

import glob
import hashlib
import os
import random
import shlex
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running import run

#: what a file's or folder's name may hold, and shells, globs and servers take for something else
NAMES = (
    "spikes.times.npy",
    "_ibl_trials.table.csv",
    "trials.table.csv",
    "clusters.depths.tsv",
    "notes.md",
    "README",
    "two words.npy",
    " spaces .csv",
    "ünï.çode.npy",
    "u\u0308.decomposed.npy",
    "日本語.times.npy",
    "[ab].times.npy",
    "[!x]",
    "what?.npy",
    "st*r.npy",
    "**.csv",
    "-dash.npy",
    "--version",
    "..dots.npy",
    "ends.with.dot.",
    ".hidden.npy",
    "100%.txt",
    "%2F.npy",
    "it's.csv",
    'say "x".npy',
    "back\\slash.npy",
    "$HOME.npy",
    "{a,b}.npy",
    "~tilde.npy",
    "spikes.times~deadbeef.npy",
    "a#b.npy",
    "a&b=c;d.npy",
    "SPIKES.times.npy",
    "x" * 240 + ".npy",
    "sessions.pqt",
)
COLLECTIONS = (
    "",
    "alf",
    "alf/probe00",
    "alf/probe01",
    "alf/probe01/pykilosort",
    "alf/#2021-01-01#",
    "alf/#2021-06-30#",
    "alf/probe00/#2021-01-01#",
    "raw_video_data",
    "raw data",
    "[raw]",
    "a*b",
    "what?",
    "-x",
    ".hid",
    "ünïcode/deep/deeper/deepest",
    "#2021-01-01#",
)
LABS = ("cortexlab", "lab two", "-lab", "[lab]")
SUBJECTS = ("KS014", "mouse.1", "a b", "[s]", "ü", "-m", "what?", "st*r", "cache")


def grow(root: Path, seed: int, sessions: int, datasets: int) -> Path:
    """Make a tree below ``root``, in the mount's layout, and of the modes that a mount shows."""
    rng = random.Random(seed)
    for _ in range(sessions):
        day = f"2021-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}"
        number = f"{rng.choice((1, 2, 10, 123)):03d}"
        session = root / rng.choice(LABS) / rng.choice(SUBJECTS) / day / number
        for _ in range(datasets):
            _write(session / rng.choice(COLLECTIONS) / rng.choice(NAMES), rng)
        _write(session / "alf" / "spikes.times.npy", rng)
        _write(session / "alf" / "probe00" / "spikes.times.npy", rng)
        _write(session / "alf" / "trials.table.csv", rng)
    for folder, _, names in os.walk(root):
        os.chmod(folder, 0o755)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)
    return root


def _write(path: Path, rng: random.Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        path.write_text("a,b\n" + "".join(f"{n},{rng.random()}\n" for n in range(20)))
        return
    size = rng.choice((0, 1, 100, 512, 4096, 4097, 20_000))
    path.write_bytes(rng.randbytes(size))
    if size == 20_000:  # a file with holes
        with path.open("r+b") as file:
            file.truncate(300_000)


@dataclass(frozen=True)
class Pattern:
    """A glob pattern: pieces that are meant as they are, and wildcards."""

    pieces: tuple[tuple[str, bool], ...]

    def for_python(self) -> str:
        """The pattern as ``glob`` and ``fnmatch`` want it."""
        return "".join(text if wild else glob.escape(text) for text, wild in self.pieces)

    def for_bash(self) -> str:
        """The pattern as a word of bash."""
        return "".join(text if wild else shlex.quote(text) for text, wild in self.pieces)


_ANY_DEPTH = ("**/", True)
_SLASH = ("/", True)


def patterns(root: Path, seed: int, count: int) -> list[Pattern]:
    """Generated patterns that match something below ``root``; some are literal names."""
    rng = random.Random(seed)
    paths = sorted(
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, names in os.walk(root)
        for name in names
    )
    literal = [(_ANY_DEPTH, (name, False)) for name in ("spikes.times.npy", "trials.table.csv")]
    return [
        *(Pattern(pieces) for pieces in literal),
        *(_pattern(rng.choice(paths).split("/"), rng, n % 6) for n in range(count - len(literal))),
    ]


def _pattern(parts: list[str], rng: random.Random, form: int) -> Pattern:
    name = parts[-1]
    if form == 0:
        return Pattern((_ANY_DEPTH, (name, False)))
    if form == 1:
        return _joined([((part, False),) for part in parts])
    if form == 2:
        return _joined([_blurred(part, rng) for part in parts])
    if form == 3:
        return Pattern((_ANY_DEPTH, *_blurred(name, rng)))
    if form == 4:
        return Pattern(((parts[0], False), _SLASH, _ANY_DEPTH, *_blurred(name, rng)))
    return Pattern((_ANY_DEPTH, (parts[-2], False), ("/*", True)))


def _joined(parts: Sequence[tuple[tuple[str, bool], ...]]) -> Pattern:
    pieces = list(parts[0])
    for part in parts[1:]:
        pieces += [_SLASH, *part]
    return Pattern(tuple(pieces))


def _blurred(name: str, rng: random.Random) -> tuple[tuple[str, bool], ...]:
    """A pattern that matches a name, and perhaps others."""
    at = rng.randrange(len(name))
    return rng.choice(
        (
            (("*", True),),
            ((name, False),),
            ((name[:1], False), ("*", True)),
            (("*", True), (name[-4:], False)),
            ((name[:at], False), ("?", True), (name[at + 1 :], False)),
            ((name[:at], False), ("[!/]", True), (name[at + 1 :], False)),
        )
    )


#: arguments of ``find``; where a folder's size or number of links is its file system's own
#: affair, only files are looked at
FIND = (
    ("-type", "f"),
    ("-type", "d"),
    ("-type", "l"),
    ("-name", "*.npy"),
    ("-name", "spikes.times.npy"),
    ("-iname", "*SPIKES*"),
    ("-iname", "[[]*"),
    ("-type", "f", "-size", "+2k"),
    ("-type", "f", "-size", "-1"),
    ("-type", "f", "-size", "4097c"),
    ("-path", "./*/*/2021-*/*/alf/*"),
    ("-wholename", "*/[#]2021*"),
    ("-regex", r".*/[^/]*\.times[^/]*"),
    ("-perm", "644"),
    ("-perm", "755", "-type", "d"),
    ("-perm", "-222"),
    ("-type", "f", "-links", "1"),
    ("-type", "f", "-links", "+1"),
    ("-empty",),
    ("-maxdepth", "3"),
    ("-mindepth", "6"),
    ("-depth", "-name", "alf"),
    ("-name", "alf", "-prune", "-o", "-print"),
    ("-user", "0", "-group", "0"),
    ("-readable", "-type", "f"),
    ("-executable", "-type", "f"),
)


def find(root: Path, arguments: Sequence[str]) -> list[str]:
    """What ``find`` prints, by name."""
    command = ["find", ".", *arguments]
    if "-print" not in arguments:
        command.append("-print0")
        return sorted(run([*command], cwd=root).stdout.split("\0"))
    return sorted(run([*command], cwd=root).stdout.splitlines())


def walked(root: Path) -> list[tuple[str, list[str], list[str]]]:
    """What ``os.walk`` gives, links followed."""
    return sorted(
        (os.path.relpath(folder, root), sorted(folders), sorted(names))
        for folder, folders, names in os.walk(root, followlinks=True)
    )


def attributes(root: Path) -> dict[str, tuple[Any, ...]]:
    """What ``stat`` says of everything: of folders, only what a copy would have."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in _below(root):
        status = os.lstat(path)
        whose = (oct(status.st_mode), status.st_uid, status.st_gid)
        is_file = path.is_file()
        sizes = (status.st_size, status.st_nlink) if is_file else ()
        found[os.path.relpath(path, root)] = (*whose, *sizes)
    return found


def moments(root: Path) -> dict[str, tuple[int, int, int]]:
    """Times and inodes of everything."""
    looked = ((path, os.lstat(path)) for path in _below(root))
    return {str(path): (each.st_mtime_ns, each.st_ctime_ns, each.st_ino) for path, each in looked}


def contents(root: Path) -> dict[str, str]:
    """The md5 of every file."""
    return {
        os.path.relpath(path, root): hashlib.md5(path.read_bytes()).hexdigest()
        for path in _below(root)
        if path.is_file()
    }


def _below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        for name in sorted((*folders, *names)):
            yield Path(folder, name)


def tarred(root: Path, archive: Path, *options: str) -> dict[str, tuple[Any, ...]]:
    """What an archive of the tree holds."""
    run(["tar", "-c", *options, "-f", archive, "-C", root, "."])
    found: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(archive) as held:
        for member in held:
            file = held.extractfile(member) if member.isfile() else None
            digest = hashlib.md5(file.read()).hexdigest() if file is not None else ""
            kind = member.isfile(), member.isdir(), member.issym()
            found[member.name] = (*kind, oct(member.mode), member.size, member.uname, digest)
    return found


Glob = Callable[[Path, Sequence[Pattern]], list[list[str]]]


def by_rglob(root: Path, wanted: Sequence[Pattern]) -> list[list[str]]:
    """``Path.rglob``, which looks for a pattern in every folder."""
    asked = (each.for_python().removeprefix("**/") for each in wanted)
    return [_relative(root, root.rglob(each)) for each in asked]


def by_path_glob(root: Path, wanted: Sequence[Pattern]) -> list[list[str]]:
    """``Path.glob``."""
    return [_relative(root, root.glob(each.for_python())) for each in wanted]


def by_glob(root: Path, wanted: Sequence[Pattern]) -> list[list[str]]:
    """``glob.glob``."""
    return [sorted(glob.glob(each.for_python(), root_dir=root, recursive=True)) for each in wanted]


def by_bash(root: Path, wanted: Sequence[Pattern]) -> list[list[str]]:
    """bash with globstar."""
    lines = ["shopt -s globstar nullglob dotglob"]
    for each in wanted:
        lines += [f"printf '%s\\0' ./{each.for_bash()}", "printf '\\n\\0'"]
    said = run(["bash", "-c", "\n".join(lines)], cwd=root).stdout
    return [sorted(part.split("\0")) for part in said.split("\n\0")]


def by_fsspec(root: Path, wanted: Sequence[Pattern]) -> list[list[str]]:
    """fsspec's glob of local files."""
    import fsspec

    local = fsspec.filesystem("file")
    return [_relative(root, local.glob(f"{root}/{each.for_python()}")) for each in wanted]


def by_duckdb(root: Path, wanted: Sequence[Pattern]) -> list[list[str]]:
    """DuckDB's glob."""
    import duckdb

    asked = (duckdb.execute("from glob(?)", [f"{root}/{each.for_python()}"]) for each in wanted)
    return [_relative(root, (row[0] for row in each.fetchall())) for each in asked]


def _relative(root: Path, paths: Any) -> list[str]:
    """Paths as they are from ``root`` on, each as often as it came."""
    return sorted(os.path.relpath(path, root) for path in paths)

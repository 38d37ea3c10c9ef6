"""Which skeleton files a command means: files, folders, globs, and paths on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PICKLES, TEXT = (".pkl", ".pickle"), ".txt"
SUFFIXES = (".skeleton", ".json", ".mat", ".npy", ".npz", ".csv", TEXT, *PICKLES, ".zip")
TABLE = "samples.csv"  # of one's own data, and no clip
MATLAB = ("skeleton.mat", "sklworld.mat")  # how UTD-MHAD's and SYSU's end: other things lie beside them
STDIN = "-"
LONGEST = 4096  # bytes of a path that Linux takes
SHOWN = 60  # letters of what is no path


@dataclass(frozen=True)
class Unread:
    """A file, or a clip of one, that a network can't be asked about, and why."""

    file: str
    clip: str
    reason: str


Named = Path | Unread  # a file, or what was meant for one


@dataclass(frozen=True)
class Files:
    """Paths in their order, each once, and what is none; `total` is None where not all of them are known yet."""

    paths: Iterable[Named]
    total: int | None


def files_named(words: Sequence[str], lines: Iterable[bytes]) -> Files:
    """The files that `words` mean; those of standard input, a path a line, are looked at as they come.

    A folder means all skeleton files below it, sorted by path, and texts only where there are no others; of one path
    given twice the first counts. What can't be looked into, and a line that can't be a path, is Unread. ValueError
    where a word means no file at all; one that is not there is for the reader to say.
    """
    named = [None if word == STDIN else _of_word(word) for word in words]
    if None not in named:
        paths = list(_once(path for found in named for path in found or ()))
        return Files(paths, len(paths))
    return Files(_not_empty(_once(_in_order(named, lines))), None)


def suffix_of(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def is_skeleton(name: str) -> bool:
    """Whether a file in a folder is taken for a skeleton by its name; one that is given itself needs no name."""
    small = name.lower()
    wanted = small.endswith(MATLAB) if small.endswith(".mat") else suffix_of(name) in SUFFIXES
    return wanted and small != TABLE and not name.startswith(".")


def _of_word(word: str) -> list[Named]:
    if not word:
        raise ValueError("an empty word among the files; wanted a file, a folder, a glob or -")
    if fault := _fault(os.fsencode(word)):
        raise ValueError(f"{_shown(word)}: {fault}")
    if os.path.isdir(word):  # noqa: PTH112 - of a name that can't be one pathlib raises
        if found := _below(Path(word)):
            return found
        raise ValueError(f"{word}: a folder without a skeleton file ({', '.join(SUFFIXES)})")
    if os.path.lexists(word) or not glob.has_magic(word):
        return [Path(word)]
    if found := sorted(glob.glob(word, recursive=True)):  # noqa: PTH207 - a pattern may begin anywhere
        return [path for name in found for path in _of_path(name)]
    raise ValueError(f"{word}: no file matches")


def _of_path(name: str) -> list[Named]:
    return _below(Path(name)) if os.path.isdir(name) else [Path(name)]  # noqa: PTH112


def _of_line(line: bytes) -> list[Named]:
    name = os.fsdecode(line)
    if fault := _fault(line):
        return [Unread(_shown(name), "", fault)]
    return _of_path(name) or [Path(name)]


def _fault(name: bytes) -> str:
    """Why this can't be a path, or nothing."""
    if b"\0" in name:
        return "names a line are wanted, not NUL bytes"
    return f"a name of {len(name):,} bytes; no path is longer than {LONGEST:,}" if len(name) > LONGEST else ""


def _shown(name: str) -> str:
    return f"{name[:SHOWN]}..." if len(name) > SHOWN else name


def _below(folder: Path) -> list[Named]:
    """Skeleton files under a folder, sorted, and then the folders that can't be looked into."""
    found, locked, seen = list[Path](), list[OSError](), set[str]()
    for here, folders, names in os.walk(folder, onerror=locked.append, followlinks=True):
        seen.add(os.path.realpath(here))
        folders[:] = [name for name in folders if not name.startswith(".") and _is_new(here, name, seen)]
        found += [Path(here, name) for name in names if is_skeleton(name)]
    if any(suffix_of(path.name) != TEXT for path in found):  # beside others a text is about them
        found = [path for path in found if suffix_of(path.name) != TEXT]
    return [*sorted(found), *(Unread(str(error.filename), "", error.strerror or str(error)) for error in locked)]


def _is_new(here: str, name: str, seen: set[str]) -> bool:
    """Whether a folder was not walked yet: a link may lead back to where one came from."""
    place = os.path.realpath(os.path.join(here, name))  # noqa: PTH118
    return place not in seen


def _in_order(named: Sequence[list[Named] | None], lines: Iterable[bytes]) -> Iterator[Named]:
    for found in named:
        if found is not None:
            yield from found
            continue
        for line in lines:
            if name := line.rstrip(b"\r\n"):
                yield from _of_line(name)


def _once(paths: Iterable[Named]) -> Iterator[Named]:
    seen = set[str]()
    for path in paths:
        if isinstance(path, Unread):
            yield path
            continue
        place = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - a link to a file is one itself
        if place not in seen:
            seen.add(place)
            yield path


def _not_empty(paths: Iterator[Named]) -> Iterator[Named]:
    first = next(paths, None)
    if first is None:
        raise ValueError("no file: standard input names none, a path a line is wanted")
    yield first
    yield from paths

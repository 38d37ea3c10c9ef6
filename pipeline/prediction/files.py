"""Which skeleton files a command means: files, folders, globs, and paths on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PICKLES = (".pkl", ".pickle")
SUFFIXES = (".skeleton", ".json", ".mat", ".npy", ".npz", ".csv", ".txt", *PICKLES, ".zip")
TABLE = "samples.csv"  # of one's own data, and no clip
MATLAB = ("skeleton.mat", "sklworld.mat")  # how UTD-MHAD's and SYSU's end: other things lie beside them
STDIN = "-"


@dataclass(frozen=True)
class Files:
    """Paths in their order, each once; `total` is None where not all of them are known yet."""

    paths: Iterable[Path]
    total: int | None


def files_named(words: Sequence[str], lines: Iterable[bytes]) -> Files:
    """The files that `words` mean; those of standard input, a path a line, are looked at as they come.

    A folder means all skeleton files below it, sorted by path; of one path given twice the first counts. ValueError
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


def _of_word(word: str) -> list[Path]:
    if os.path.isdir(word):  # noqa: PTH112 - of a name that can't be one pathlib raises
        if found := _below(Path(word)):
            return found
        raise ValueError(f"{word}: a folder without a skeleton file ({', '.join(SUFFIXES)})")
    if os.path.lexists(word) or not glob.has_magic(word):
        return [Path(word)]
    if found := sorted(glob.glob(word, recursive=True)):  # noqa: PTH207 - a pattern may begin anywhere
        return [path for name in found for path in _of_path(name)]
    raise ValueError(f"{word}: no file matches")


def _of_path(name: str) -> list[Path]:
    return _below(Path(name)) if os.path.isdir(name) else [Path(name)]  # noqa: PTH112


def _below(folder: Path) -> list[Path]:
    """Skeleton files under a folder, sorted; a folder that can't be looked into is an OSError."""
    found, seen = list[Path](), set[str]()
    for here, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        seen.add(os.path.realpath(here))
        folders[:] = [name for name in folders if not name.startswith(".") and _is_new(here, name, seen)]
        found += [Path(here, name) for name in names if is_skeleton(name)]
    return sorted(found)


def _is_new(here: str, name: str, seen: set[str]) -> bool:
    """Whether a folder was not walked yet: a link may lead back to where one came from."""
    place = os.path.realpath(os.path.join(here, name))  # noqa: PTH118
    return place not in seen


def _refuse(error: OSError) -> None:
    raise error


def _in_order(named: Sequence[list[Path] | None], lines: Iterable[bytes]) -> Iterator[Path]:
    for found in named:
        if found is not None:
            yield from found
            continue
        for line in lines:
            if name := os.fsdecode(line.rstrip(b"\r\n")):
                yield from _of_path(name) or [Path(name)]


def _once(paths: Iterable[Path]) -> Iterator[Path]:
    seen = set[str]()
    for path in paths:
        place = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - a link to a file is one itself
        if place not in seen:
            seen.add(place)
            yield path


def _not_empty(paths: Iterator[Path]) -> Iterator[Path]:
    first = next(paths, None)
    if first is None:
        raise ValueError("no file: standard input names none, a path a line is wanted")
    yield first
    yield from paths

"""One folder a class: each skeleton file in it is a clip, labelled with the folder's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from .table import Entry, left_out_where_twice


def read_folders(skeletons: Sequence[str], place: str) -> tuple[list[Entry], str]:
    """The clips of skeleton files, by their paths relative to `place`, and what is said of their names, or nothing.

    A clip's name is its file's, or CLASS_FILE for all clips where two classes have a file of one name. Raises
    ValueError where the files are not in two folders or more side by side.
    """
    paths = [PurePosixPath(skeleton) for skeleton in skeletons]
    classes = {path.parent for path in paths} - {above for path in paths for above in path.parent.parents}
    _check(sorted(classes), place)
    inside = [path for path in paths if path.parent in classes]
    shared = _shared(inside)
    entries = [_entry(path, f"{path.parent.name}_" if shared else "") for path in inside]
    strays = [_entry(path, "", "lies in no class's folder") for path in paths if path.parent not in classes]
    said = f"{shared} is in several classes' folders: clips are named CLASS_FILE, as {entries[0].name}"
    return [*left_out_where_twice(entries), *strays], said if shared else ""


def _check(classes: Sequence[PurePosixPath], place: str) -> None:
    wanted = "wanted samples.csv, or one folder a class; a table of another name is given itself"
    if len(classes) < 2:
        raise ValueError(f"{place}: skeletons in one folder only, {classes[0]}; {wanted}")
    for folder in classes:
        if folder.parent != classes[0].parent:
            raise ValueError(f"{place}: {classes[0]} and {folder} are not side by side; {wanted}")


def _shared(paths: Sequence[PurePosixPath]) -> str:
    """A file name that two classes have, or nothing."""
    classes = Counter(stem for stem, _ in {(path.stem, path.parent) for path in paths})
    return next((stem for stem, count in sorted(classes.items()) if count > 1), "")


def _entry(path: PurePosixPath, prefix: str, fault: str = "") -> Entry:
    if not path.parent.name.isprintable():
        fault = f"folder {path.parent.name!r}: no name for a class"
    return Entry(str(path), prefix + path.stem, path.parent.name, str(path), {}, fault)

"""Where the videos are, by a pattern that the user gives: a path with a sample's name, class and columns in it."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from string import Formatter

from ...cache.skeletons import Skeletons
from ...cache.words import did_you_mean
from .find_videos import Videos, sample_names
from .video import SUFFIXES, has_suffix

ANY = "\0"  # stands for the pattern's `*`: no file's name has it, while a sample's name may have a `*` of its own
SPEC = re.compile("0?[1-9]?[0-9]?d?")  # how a number may be written: 3, 03, 03d
TEXTS = ("name", "label")

Piece = tuple[str, str, str]  # text, and behind it a field ("" for none) with its format
Parts = tuple[str, ...]  # of a sample's path


def find_by_pattern(folder: Path, pattern: str, skeletons: Skeletons) -> Videos:
    """The video of each sample at its own path under `folder`, such as S{setup:03}/{name}_rgb.avi.

    Fields are {name}, {label} (the class's name) and the skeleton cache's columns; `*` stands for any text inside a
    file's or folder's name. Raises FileNotFoundError or ValueError for no such folder, a pattern that is none, one
    that fits no sample, two videos of one sample, or one of two samples.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of videos")
    asked = _paths_asked_for(pattern, skeletons)
    found = dict(_look([str(folder)], list(asked.items())))
    paths = {name: _single(name, pattern, found[name]) for name in asked if found.get(name)}
    if not paths:
        raise ValueError(_what_was_looked_for(folder, pattern, list(asked.values())))
    _check_that_none_is_shared(paths, pattern)
    missing = {name: _shown(parts) for name, parts in asked.items() if name not in paths}
    return Videos(paths, _shared_name(paths, pattern), missing)


def _paths_asked_for(pattern: str, skeletons: Skeletons) -> dict[str, Parts]:
    """The path of each sample, in parts, with ANY where it may be any text."""
    labels = [skeletons.classes[label] for label in skeletons.labels.tolist()]
    columns = {name: values.tolist() for name, values in skeletons.columns.items()}
    values: dict[str, Sequence[str | int]] = {**columns, "name": skeletons.names, "label": labels}
    template = _read_pattern(pattern, [*TEXTS, *(name for name in columns if name not in TEXTS)])
    filled = [_fill(pattern, pieces, values, len(labels)) for pieces in template]
    return dict(zip(skeletons.names, zip(*filled, strict=True), strict=True))


def _read_pattern(pattern: str, fields: Sequence[str]) -> list[list[Piece]]:
    """The pieces of each part of the pattern's path; ValueError where it is no path inside, or names no field."""
    parts = PurePosixPath(pattern).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"--video-pattern {pattern!r}: wanted a path inside --videos, such as {{name}}_rgb.avi")
    return [_read_part(pattern, part, fields) for part in parts]


def _read_part(pattern: str, part: str, fields: Sequence[str]) -> list[Piece]:
    """Plain fields with plain formats and nothing else of what Python's formats can do."""
    try:
        found = list(Formatter().parse(part))
    except ValueError as error:
        raise ValueError(f"--video-pattern {pattern!r}: {error}; a brace of a file's name is written twice") from error
    for _, field, spec, conversion in found:
        if field is not None and field not in fields:
            raise ValueError(f"--video-pattern {pattern!r}: no field {field!r}: {_choices(field, fields)}")
        if conversion or (spec and (field in TEXTS or not SPEC.fullmatch(spec))):
            given = f"{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}"
            raise ValueError(
                f"--video-pattern {pattern!r}: {{{field}{given}}}: only a number takes a format, such as :03"
            )
    return [(text.replace("*", ANY), field or "", spec or "") for text, field, spec, _ in found]


def _choices(field: str, fields: Sequence[str]) -> str:
    return f"{did_you_mean(field, fields)}there are {', '.join(fields)}"


def _fill(pattern: str, pieces: Sequence[Piece], values: Mapping[str, Sequence[str | int]], count: int) -> list[str]:
    """One part of every sample's path; ValueError where a name or class would make another path of it."""
    columns = [values[field] if field else [""] * count for _, field, _ in pieces]
    rows = zip(*columns, strict=True)
    filled = ["".join([t + format(v, spec) for (t, _, spec), v in zip(pieces, row, strict=True)]) for row in rows]
    globs = sum(text.count(ANY) for text, _, _ in pieces)
    for text in set(filled):
        if text in ("", ".", "..") or "/" in text or text.count(ANY) != globs:
            raise ValueError(f"--video-pattern {pattern!r}: {text!r} is no name of a file or folder inside --videos")
    return filled


def _look(folders: Sequence[str], asked: Sequence[tuple[str, Parts]]) -> Iterator[tuple[str, list[str]]]:
    """What lies below the folders at each sample's path; a folder is listed once for all that is looked for in it."""
    below = defaultdict[str, list[tuple[str, Parts]]](list)
    for name, (part, *rest) in asked:
        below[part].append((name, tuple(rest)))
    last = len(asked[0][1]) == 1
    found = _find(folders, list(below), last)
    for part, samples in below.items():
        if last:
            yield from ((name, found[part]) for name, _ in samples)
        elif found[part]:
            yield from _look(found[part], samples)


def _find(folders: Sequence[str], parts: Sequence[str], last: bool) -> dict[str, list[str]]:
    """The paths in any of the folders that fit each part; all parts come from the same part of the pattern."""
    if ANY in parts[0]:
        there = _listed(folders, lambda entry: _may_be_meant(entry, last))
        return {part: [p for n in names for p in there[n]] for part, names in _fitting(parts, there).items()}
    if not last:  # whether it is there shows when it is looked into
        return {part: [f"{folder}/{part}" for folder in folders] for part in parts}
    if len(parts) == 1:  # cheaper than to list a clip's own folder
        return {parts[0]: [path for folder in folders if os.path.exists(path := f"{folder}/{parts[0]}")]}  # noqa: PTH110
    there = _listed(folders, lambda entry: True)
    return {part: there.get(part, []) for part in parts}


def _listed(folders: Sequence[str], wanted: Callable[[os.DirEntry[str]], bool]) -> dict[str, list[str]]:
    """What is wanted of what lies in the folders, by name; nothing of a folder that is none."""
    found = defaultdict[str, list[str]](list)
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if wanted(entry):
                    found[entry.name].append(entry.path)
    return found


def _may_be_meant(entry: os.DirEntry[str], last: bool) -> bool:
    """What `*` may stand for a part of: a folder, and at the end of the path a video."""
    return (last and has_suffix(entry.name, SUFFIXES)) or (entry.is_dir() and not entry.name.startswith("."))


def _fitting(parts: Sequence[str], names: Collection[str]) -> dict[str, list[str]]:
    """The names that fit each part.

    Only those are compared that hold the piece by which the parts differ most: every part with every name would be
    ten thousand million comparisons for a large data set.
    """
    pieces = {part: part.split(ANY) for part in parts}
    telling = max(range(len(pieces[parts[0]])), key=lambda i: len({found[i] for found in pieces.values()}))
    near = _holding({found[telling] for found in pieces.values()}, names)
    return {part: [n for n in near.get(found[telling], ()) if _fits(n, found)] for part, found in pieces.items()}


def _holding(wanted: Collection[str], names: Collection[str]) -> dict[str, list[str]]:
    """The names that hold each of the wanted pieces of text."""
    found = defaultdict[str, dict[str, None]](dict)
    for length in {len(piece) for piece in wanted}:
        for name in names:
            for at in range(len(name) - length + 1):
                if (piece := name[at : at + length]) in wanted:
                    found[piece][name] = None
    return {piece: list(holding) for piece, holding in found.items()}


def _fits(name: str, pieces: Sequence[str]) -> bool:
    """Whether the name is these pieces in their order, with any text between them."""
    first, *middle, last = pieces
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for piece in middle:
        found = name.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _single(name: str, pattern: str, fitting: Sequence[str]) -> Path:
    if len(fitting) == 1:
        return Path(fitting[0])
    one, two, *_ = sorted(fitting)
    raise ValueError(f"{name}: {len(fitting)} videos fit {pattern} ({one}, {two}); say more in --video-pattern")


def _check_that_none_is_shared(paths: Mapping[str, Path], pattern: str) -> None:
    of = dict[Path, str]()
    for name, path in paths.items():
        if (other := of.setdefault(path, name)) != name:
            raise ValueError(
                f"{path}: the video of both {other} and {name} by {pattern}; "
                "say in --video-pattern by what they differ, such as {name}"
            )


def _shared_name(paths: Mapping[str, Path], pattern: str) -> str:
    """What the videos' names share, as `find_videos` says it of them, so that it makes no difference who found them."""
    endings = {_ending(name, path) for name, path in paths.items()}
    if len(endings) == 1 and (ending := endings.pop()) is not None:
        return f"{{name}}{ending}"
    return _stem(PurePosixPath(pattern).name)


def _ending(name: str, path: Path) -> str | None:
    """What stands behind the sample's name in its video's; None where that begins otherwise."""
    called = sample_names(str(path.parent), _stem(path.name))
    return next((one.removeprefix(name) for one in called if one.startswith(name)), None)


def _stem(file: str) -> str:
    return file[: file.rindex(".")] if has_suffix(file, SUFFIXES) else file


def _shown(parts: Parts) -> str:
    return "/".join(parts).replace(ANY, "*")


def _what_was_looked_for(folder: Path, pattern: str, asked: Sequence[Parts]) -> str:
    """The first path, and what lies there as far as it goes."""
    here = folder
    for part in asked[0][:-1]:
        if not (here / part).is_dir():  # nor is one with ANY in its name
            break
        here /= part
    there = ", ".join(sorted(os.listdir(here))[:3]) or "nothing"  # noqa: PTH208 - a folder of 100,000 videos
    return (
        f"{folder}: none of {len(asked)} samples has a video at {pattern}; "
        f"looked for {_shown(asked[0])} first; in {here} there is {there}"
    )

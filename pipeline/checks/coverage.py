"""What the feature caches of a data set hold of its clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...cache.index import Index, open_index
from ...cache.mapped import map_table
from ...cache.recipe import Recipe, read_recipe
from ...cache.store import cache_folders, is_merged
from ..extraction.features import TRAINED_ON
from ..extraction.gates import WIDE
from .finding import ERROR, MEANINGS, NOTE, WARNING, Finding, Inspected, many

WHOLE = 0.8  # of the frames that a video's header speaks of; a header may be a little off
BLOCK = 4096  # rows of features read at a time


def caches(data: Inspected) -> list[Finding]:
    """What is missing, failed or wrong in each feature cache."""
    return [found for folder in cache_folders(data.folder) for found in _cache(data, folder)]


def _cache(data: Inspected, folder: Path) -> list[Finding]:
    try:
        recipe, index = read_recipe(folder), open_index(folder)
        if recipe.dataset == data.skeletons.dataset:
            return [*_coverage(data, recipe, index), *_videos(recipe, index), *_features(recipe, index)]
        what = f"{folder}: a cache of {recipe.dataset} beside {data.skeletons.dataset}"
        return [Finding("other data set", ERROR, what)]
    except (OSError, ValueError) as error:
        return [Finding("unreadable caches", ERROR, f"a cache that cannot be read: {error}")]


def _coverage(data: Inspected, recipe: Recipe, index: Index) -> Iterator[Finding]:
    clips, failures = data.skeletons.names, index.failures
    title, known = f"{recipe.kind} {recipe}", set(clips)
    if missing := tuple(name for name in clips if name not in index.places):
        yield Finding(
            "missing features", WARNING, f"{title}: {len(missing):,} of {len(clips):,} clips lack a row", missing
        )
    elif not is_merged(index.folder):
        yield Finding("unfinished caches", WARNING, f"{title}: all rows are there, but in parts")
    if failed := tuple(name for name in clips if name in failures):
        what = f"{title}: {many(len(failed), 'clip')} failed, the first: {failures[failed[0]]}"
        yield Finding("failed features", WARNING, what, failed)
    if strangers := tuple(sorted(index.places.keys() - known)):
        what = f"{title}: {many(len(strangers), 'row')} of clips that the data set does not have"
        yield Finding("other clips", NOTE, what, strangers)


def _videos(recipe: Recipe, index: Index) -> Iterator[Finding]:
    """Clips whose video ends well before its header says."""
    if recipe.kind != "person-images":
        return
    counts = _frames_read(index)
    cut = sorted(name for name, (there, claimed) in counts.items() if there < WHOLE * claimed)
    if not cut:
        return
    what = f"{recipe.kind} {recipe}: {many(len(cut), 'clip')} of videos with under {WHOLE:.0%} of the frames that "
    examples = tuple(f"{name} ({counts[name][0]:,} of {counts[name][1]:,})" for name in cut)
    yield Finding(
        *("cut videos", WARNING, what + "their headers speak of", tuple(cut)),
        advice=f"{MEANINGS['cut videos'][1]}; the folder: {index.folder}",
        examples=examples,
    )


def _rows_by_file(index: Index) -> dict[Path, dict[str, int]]:
    """Each file's rows that count, by name; a cache that is not finished may have a thousand files."""
    found = defaultdict[Path, dict[str, int]](dict)
    for name, place in index.places.items():
        found[place.source.path][name] = place.row
    return found


def _frames_read(index: Index) -> dict[str, tuple[int, int]]:
    """The frames that were there and those that the header spoke of; 0 and 0 where a clip failed."""
    found = dict[str, tuple[int, int]]()
    for path, rows in _rows_by_file(index).items():
        columns, _ = map_table(path)
        there, claimed = columns.get("video_frames"), columns.get("claimed_frames")
        if not isinstance(there, np.ndarray) or not isinstance(claimed, np.ndarray):
            continue
        found |= {name: (int(there[row]), int(claimed[row])) for name, row in rows.items()}
    return found


def _features(recipe: Recipe, index: Index) -> Iterator[Finding]:
    """Damage, NaN and constants in what is trained on; pictures are left to `mmcl cache verify`."""
    if recipe.kind == "person-images":
        return
    title = f"{recipe.kind} {recipe}"
    if damaged := tuple(sorted(index.damaged())):
        what = f"{title}: {many(len(damaged), 'row')} not as written"
        yield Finding("damaged features", ERROR, what, damaged)
        return
    for column in TRAINED_ON[recipe.kind]:
        spoilt, same = _looked_at(index, column)
        if spoilt:
            what = f"{title}: {column} of {many(len(spoilt), 'clip')} is not finite"
            yield Finding("features not finite", ERROR, what, spoilt)
        if same:
            yield Finding("constant features", ERROR, f"{title}: {column} is the same for all clips")


def _looked_at(index: Index, column: str) -> tuple[tuple[str, ...], bool]:
    """The clips whose numbers in a column are not finite, and whether all are equal; failed rows are not asked."""
    spoilt, first, same, count = list[str](), None, True, 0
    for names, values in _blocks(index, column):
        first = values[0] if first is None else first
        same, count = same and np.array_equal(values, np.broadcast_to(first, values.shape)), count + len(values)
        spoilt += [name for name, row in zip(names, values, strict=True) if not np.isfinite(row).all()]
    return tuple(sorted(spoilt)), same and count >= WIDE


def _blocks(index: Index, column: str) -> Iterator[tuple[list[str], np.ndarray]]:
    """Names and numbers [n, D] of the rows that count and did not fail, some at a time."""
    failures = index.failures
    for path, rows in _rows_by_file(index).items():
        names = [name for name in rows if name not in failures]
        values = map_table(path)[0].get(column)
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            continue
        for start in range(0, len(names), BLOCK):
            some = names[start : start + BLOCK]
            yield some, values[[rows[name] for name in some]].reshape(len(some), -1)

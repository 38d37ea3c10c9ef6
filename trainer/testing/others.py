"""Score files, ours and those of others: npz, and the pickles of CTR-GCN's, HD-GCN's and the MMCL authors' code.

A pickle is a dict of sample names with a row of K scores each. MMCL's authors name samples as NTU does; CTR-GCN and
HD-GCN write `test_17` for row 17 of their file, and for NW-UCLA the number alone. Pickles are read as data: nothing in
them is executed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.unpickle import load_arrays
from .scores import SHOWN, ScoreFile, Scores, aligned, check_classes, check_values, read_npz, refuse_difference, rows_of

SUFFIXES = (".npz", ".pkl", ".pickle")
NO_NAMES = (
    "a list without sample names, as PYSKL writes its results; scores are matched by name only: write names and "
    "scores into an npz (docs/evaluation.md)"
)
ROW = re.compile(r"(?:(train|test)_)?(\d+)")  # how CTR-GCN names a row
NTU = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<performer>\d{3})R\d{3}A\d{3}")
ORDERED_BY = {"xsub": "performer", "xview": "camera", "xset": "setup"}  # CTR-GCN's rows, by how the split's name ends
UNNAMED = re.compile(r"test-\d{6}")  # what `mmcl prepare ctrgcn` names rows without a list of names


def read_score_file(path: Path) -> ScoreFile:
    """What a score file holds; ValueError, with the file, where it is damaged, of an unknown form or without names."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such score file")
    if path.suffix == ".npz":
        return read_npz(path)
    content = load_arrays(path)
    try:
        found = _of_pickle(content)
        check_values(found.names, found.values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def scores_like(found: ScoreFile, like: Scores, split: str) -> tuple[Scores, tuple[str, ...]]:
    """The file's scores with the labels, the classes and the order of `like`, and notes of what was taken for granted.

    `split` is that of `like`. ValueError, with some of the names and how many they are, where they don't fit.
    """
    named, notes = _named(found, like, split)
    if not found.classes:
        notes = (*notes, "its file names no classes: they are taken to be in the order of the first entry's")
    classes = found.classes or like.classes
    check_classes(classes)
    refuse_difference("classes", classes, like.classes)
    refuse_difference("clips", named, like.names)
    labels = found.labels
    if labels is None:
        labels = rows_of(classes, like.classes)[like.labels][rows_of(like.names, named)]
    return aligned(Scores(named, found.values, labels, classes), like), notes


def _of_pickle(content: Any) -> ScoreFile:
    if isinstance(content, list | tuple | np.ndarray):
        raise ValueError(NO_NAMES)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"a pickle of a {type(content).__name__}; wanted a dict of sample names with their scores")
    names = tuple(key.decode(errors="replace") if isinstance(key, bytes) else str(key) for key in content)
    rows = [np.asarray(row) for row in content.values()]
    shapes = {row.shape for row in rows}
    if len(shapes) > 1 or len(shapes.copy().pop()) != 1 or any(row.dtype.kind not in "fiu" for row in rows):
        shown = ", ".join(f"{list(shape)}" for shape in sorted(shapes)[:SHOWN])
        raise ValueError(f"scores of shapes {shown} a clip; wanted one row of numbers, as many in every clip")
    return ScoreFile(names, np.stack(rows).astype(np.float32))


def _named(found: ScoreFile, like: Scores, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The clips' own names, and a note where these are the numbers of rows in CTR-GCN's order."""
    matches = [ROW.fullmatch(name) for name in found.names]
    if not all(matches) or set(found.names) == set(like.names):
        return found.names, ()
    parts = [match.groups() for match in matches if match]
    if "train" in (side for side, _ in parts):
        raise ValueError(
            "its names are rows of CTR-GCN's training split, such as train_0; wanted those of the test split"
        )
    rows = [int(number) for _, number in parts]
    order, rule = _row_order(like.names, split)
    if sorted(rows) != list(range(len(order))):
        wanted = f"{len(order):,} test clips, 0..{len(order) - 1}"
        raise ValueError(f"{len(rows):,} clips, numbered {min(rows)}..{max(rows)}; wanted {wanted}")
    said = f"its names are row numbers: {len(rows):,} rows taken for the test clips {rule}, as CTR-GCN orders them"
    return tuple(order[row] for row in rows), (said,)


def _row_order(names: Sequence[str], split: str) -> tuple[list[str], str]:
    """The test clips in the order of CTR-GCN's rows, and what that is; ValueError where it is not known."""
    if all(map(UNNAMED.fullmatch, names)):
        return sorted(names), "in the order of the file that they were prepared from"
    matches, column = [NTU.fullmatch(name) for name in names], ORDERED_BY.get(split.rpartition("-")[2], "")
    if not column or not all(matches):
        known = f"CTR-GCN's order is known of NTU RGB+D's {', '.join(ORDERED_BY)} only"
        here = f"these are clips such as {names[0]}, of split {split or 'not known'}"
        raise ValueError(f"its names are row numbers, and {known}; {here}")
    by = {match[0]: (int(match[column]), match[0]) for match in matches if match}
    return sorted(names, key=by.__getitem__), f"by {column}, then name"

"""Skeletons as text: a row a frame, or a row a joint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....cache.skeletons import Layout
from ....cache.words import did_you_mean
from ...preparation.raw import LIMIT
from .pose import Pose, joint_counts, points_of

_FRAME = ("", "frame", "frame_id", "frame_number", "index", "time", "timestamp", "t")  # headings of a number a frame
_SCORE = ("score", "confidence")
_LONG = ("frame", "joint", "x", "y")

Rows = list[list[str]]


def read_text(content: bytes, layout: Layout | None) -> Pose:
    """The pose in a .csv or .txt file; ValueError with the line or the column that can't be meant."""
    header, rows = _cells(content)
    if set(_LONG) <= set(header):
        return _long(header, rows, layout)
    return Pose(points_of(_without_frame_numbers(header, _numbers(rows, bool(header)), layout), layout))


def _cells(content: bytes) -> tuple[list[str], Rows]:
    """The heading, empty where there is none, and the cells of the other lines."""
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip("# ").strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in UTF-8 ({error})") from error
    if not lines:
        raise ValueError("an empty file")
    lines[0] = lines[0].lstrip("# ")  # numpy's mark of a heading
    delimiter = next((mark for mark in "\t;," if mark in lines[0]), None)
    rows = [_split(line, delimiter) for line in lines]
    if all(_is_number(cell) for cell in rows[0]) and not _counts(rows[0]):
        return [], rows
    if not rows[1:]:
        raise ValueError("a heading and no row")
    return [cell.lower() for cell in rows[0]], rows[1:]


def _split(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line; where commas do not part them, they are decimal commas."""
    cells = [cell.strip().strip('"').strip() for cell in line.split(delimiter)]
    return cells if delimiter == "," else [cell.replace(",", ".") for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _counts(cells: list[str]) -> bool:
    """Whether a first line is a heading of numbered columns, with or without one for the rows, as pandas writes it."""
    named = cells[1:] if cells[0] == "" else cells
    return len(named) > 1 and named == [str(place) for place in range(len(named))]


def _numbers(rows: Rows, headed: bool) -> np.ndarray:
    """All cells as float64 [rows, columns], an empty one NaN; a last column that is empty throughout is no column."""
    width = len(rows[0])
    for row, cells in enumerate(rows, start=1 + headed):
        if len(cells) != width:
            raise ValueError(f"row {row} has {len(cells)} cells, the first {width}")
        if odd := [cell for cell in cells if not _is_number(cell)]:
            raise ValueError(f"row {row}: {odd[0]!r} is no number")
    if width > 1 and not any(cells[-1] for cells in rows):
        rows = [cells[:-1] for cells in rows]
    return np.array([[float(cell or "nan") for cell in cells] for cells in rows])


def _without_frame_numbers(header: Sequence[str], table: np.ndarray, layout: Layout | None) -> np.ndarray:
    """The table without its first column, where that numbers the frames."""
    width = table.shape[1]
    headed = bool(header) and header[0] in _FRAME
    if not headed and (_fits(width, layout) or not _fits(width - 1, layout)):
        return table
    if not (np.diff(table[:, 0]) > 0).all():
        raise ValueError(
            "frame numbers that do not go up; several bodies are wanted a row a joint: frame,body,joint,x,y,z"
        )
    return table[:, 1:]


def _fits(width: int, layout: Layout | None) -> bool:
    return width in {joints * channels for joints in joint_counts(layout) for channels in (2, 3)}


def _long(header: list[str], rows: Rows, layout: Layout | None) -> Pose:
    """A row a joint: frame, body where there are several, joint by number or name, x, y and z or a score."""
    third = next((name for name in ("z", *_SCORE) if name in header), None)
    for row, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            raise ValueError(f"row {row} has {len(cells)} cells, the heading {len(header)}")
    column = {name: [cells[place] for cells in rows] for place, name in enumerate(header)}
    values = _numbers([list(cells) for cells in zip(*(column[n] for n in ("x", "y", third) if n), strict=True)], True)
    _, frame = np.unique(_numbers([[cell] for cell in column["frame"]], True), return_inverse=True)
    _, body = np.unique(column.get("body", [""] * len(rows)), return_inverse=True)
    count, joint = _joints(column["joint"], layout)
    points = _filled((body.max() + 1, frame.max() + 1, count), (body, frame.ravel(), joint), values)
    return Pose(points, scored=third in _SCORE)


def _filled(
    shape: tuple[int, int, int], at: tuple[np.ndarray, np.ndarray, np.ndarray], values: np.ndarray
) -> np.ndarray:
    """[bodies, frames, V, C]; NaN where a body lacks a joint, zero where a frame lacks the body."""
    if int(np.prod(shape)) * values.shape[1] * 4 > LIMIT:
        raise ValueError(f"{shape[0]:,} bodies in {shape[1]:,} frames; no clip is that large")
    if len(np.unique(np.ravel_multi_index(at, shape))) != len(values):
        raise ValueError("two rows for one joint of a body in a frame")
    points, there = np.full((*shape, values.shape[1]), np.nan, np.float32), np.zeros(shape[:2], bool)
    points[at] = values
    there[at[:2]] = True
    points[~there] = 0
    return points[np.argsort(-there.sum(axis=1), kind="stable")]


def _joints(cells: list[str], layout: Layout | None) -> tuple[int, np.ndarray]:
    """How many joints there are, and each row's, from 0; ValueError where they are not the layout's."""
    if all(cell.isascii() and cell.isdecimal() and len(cell) < 10 for cell in cells):
        joint = np.array([int(cell) for cell in cells])
        first, last, count = int(joint.min()), int(joint.max()), len(np.unique(joint))
        wanted = len(layout.joints) if layout else count
        if first > 1 or count != wanted or last - first != wanted - 1:
            raise ValueError(f"{count} joints, numbered {first} to {last}; wanted 0 to {wanted - 1} or 1 to {wanted}")
        return count, joint - first
    named = [" ".join(cell.lower().replace("_", " ").replace("-", " ").split()) for cell in cells]
    known = layout.joints if layout else tuple(dict.fromkeys(named))
    for name in dict.fromkeys(named):
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"no joint {name!r}: {hint}known are {', '.join(known)}")
    if missing := [name for name in known if name not in set(named)]:
        raise ValueError(f"no row of the joint {', '.join(missing)}")
    place = {name: joint for joint, name in enumerate(known)}
    return len(known), np.array([place[name] for name in named])

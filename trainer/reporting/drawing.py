"""Shapes as SVG path words, and what the page's script reads: numbers only, or JSON that the page escapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .content import Bones, Matrix, Mistakes, Pose


class Shape(NamedTuple):
    """A path with the class it is painted by."""

    kind: str
    path: str


class Body(NamedTuple):
    """One body's bones by side, and where its head is, if it has one."""

    shapes: tuple[Shape, ...]
    head: tuple[int, int] | None


def shown(text: str) -> str:
    """Text without control characters and half surrogate pairs: nothing in it turns the writing around."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def matrix_shapes(matrix: Matrix) -> list[Shape]:
    """All cells of one shade as one path: 120 classes take some hundred kilobytes."""
    found = dict[str, list[str]]()
    for cell in matrix.cells:
        kind = f"{'r' if cell.right else 'w'} s{cell.shade}"
        found.setdefault(kind, []).append(f"M{cell.column}.04 {cell.row}.04h.92v.92h-.92z")
    return [Shape(kind, "".join(parts)) for kind, parts in found.items()]


def pose_bodies(pose: Pose, bones: Bones) -> list[Body]:
    """The still frame's bodies."""
    frame = pose.frames[pose.still]
    bodies = [frame[2 * pose.joints * body : 2 * pose.joints * (body + 1)] for body in range(pose.bodies)]
    sides = ("m", bones.middle), ("l", bones.left), ("o", bones.right)
    return [
        Body(tuple(Shape(kind, _path(body, pairs)) for kind, pairs in sides), _head(body, bones)) for body in bodies
    ]


def _path(places: Sequence[int], pairs: Sequence[tuple[int, int]]) -> str:
    ends = (((places[2 * a], places[2 * a + 1]), (places[2 * b], places[2 * b + 1])) for a, b in pairs)
    return "".join(f"M{x} {y}L{u} {v}" for (x, y), (u, v) in ends if x >= 0 and u >= 0)


def _head(places: Sequence[int], bones: Bones) -> tuple[int, int] | None:
    return (places[2 * bones.heads[0]], places[2 * bones.heads[0] + 1]) if bones.heads else None


def scripted_matrix(matrix: Matrix) -> dict[str, Any]:
    """The matrix for the script; of each cell that is not zero four numbers: column, row, count, shade."""
    cells = [number for cell in matrix.cells for number in (cell.column, cell.row, cell.clips, cell.shade)]
    names = [shown(name) for name in matrix.classes]
    return {"names": names, "clips": matrix.clips, "cells": cells, "orders": matrix.orders, "size": matrix.size}


def scripted_mistakes(mistakes: Mistakes) -> dict[str, Any]:
    """The skeletons for the script: whole numbers, no names."""
    poses = [vars(mistake.pose) for mistake in mistakes.clips]
    return {"bones": vars(mistakes.bones), "clips": poses}

"""Drawing one pose: bodies from the front, left and right limbs in colours of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ...cache.skeletons import Layout
from ..checks.measures import Array
from .sheet import CARD, LINE, Colour

FINER = 3  # drawn so many times as large, then reduced: smooth edges
MARGIN = 0.08  # of a field, around what is drawn
BONE, JOINT, HEAD = 0.016, 0.0105, 0.032  # of the height of a field: a bone's width, radii of joints
LINES = 8  # of a grid, at most


@dataclass(frozen=True)
class Paint:
    """One body's colours."""

    middle: Colour
    left: Colour
    right: Colour


PAINTS = (  # the first body, the second ...; a further one begins anew
    Paint((72, 78, 88), (46, 107, 166), (219, 112, 33)),
    Paint((146, 138, 150), (32, 148, 122), (182, 66, 130)),
    Paint((150, 140, 110), (104, 84, 180), (160, 138, 20)),
)


@dataclass(frozen=True)
class View:
    """Which part of the plane a field of `width` x `height` pixels shows: its middle, and pixels a unit."""

    width: int
    height: int
    middle: tuple[float, float]
    scale: float

    def pixels(self, points: Array) -> Array:
        """Places [..., 2] in the field, x right and y down."""
        return (points - self.middle) * self.scale + (self.width / 2, self.height / 2)


def front(joints: Array, coordinates: str) -> Array:
    """Seen from the front, x right and y down: points [..., V, 2], NaN for joints that are not there."""
    points = joints[..., :2].astype(np.float64) * ((1, 1) if coordinates == "image" else (1, -1))
    there = np.asarray(joints.any(axis=-1)) & np.isfinite(joints).all(axis=-1)
    return np.where(there[..., None], points, np.nan)


def fit(points: Array, width: int, height: int) -> View:
    """The view that shows all points [..., 2] with a margin; any view where there are none."""
    points = points.reshape(-1, 2)
    points = points[np.isfinite(points.sum(axis=1))]
    if not len(points):
        return View(width, height, (0.0, 0.0), 1.0)
    low, high = points.min(axis=0), points.max(axis=0)
    room = (1 - 2 * MARGIN) * np.array([width, height])
    scale = float((room / np.maximum(high - low, 1e-6)).min())
    return View(width, height, ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2), scale)


def grid_step(view: View) -> float:
    """How far the lines of a grid are from each other: 1, 2 or 5 times a power of ten, in the view's units."""
    rough = max(view.width, view.height) / view.scale / LINES
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def draw_pose(points: Array, layout: Layout, view: View, *, grid: bool = False) -> Image.Image:
    """One frame's bodies [bodies, V, 2] in a field."""
    large = View(view.width * FINER, view.height * FINER, view.middle, view.scale * FINER)
    image = Image.new("RGB", (large.width, large.height), CARD)
    draw = ImageDraw.Draw(image)
    if grid:
        _draw_grid(draw, large)
    size = large.height
    for number, body in enumerate(large.pixels(points)):
        _draw_body(draw, body, layout, PAINTS[number % len(PAINTS)], size)
    return image.resize((view.width, view.height), Image.Resampling.LANCZOS)


def _draw_grid(draw: ImageDraw.ImageDraw, view: View) -> None:
    step = grid_step(view)
    for axis, extent in enumerate((view.width, view.height)):
        first = math.ceil((view.middle[axis] - extent / 2 / view.scale) / step)
        for number in range(first, first + LINES + 2):
            at = (number * step - view.middle[axis]) * view.scale + extent / 2
            ends = [(at, 0), (at, view.height)] if axis == 0 else [(0, at), (view.width, at)]
            draw.line(ends, LINE, FINER)


def _draw_body(draw: ImageDraw.ImageDraw, body: Array, layout: Layout, paint: Paint, size: int) -> None:
    colours, seen = _colours(layout, paint), np.isfinite(body.sum(axis=1))
    width, heads = BONE * size, [joint for joint, name in enumerate(layout.joints) if name in ("head", "nose")]
    limbs_last = sorted(layout.edges, key=lambda edge: colours[edge[0]] != paint.middle)
    for child, parent in limbs_last:
        if seen[child] and seen[parent]:
            ends = [tuple(body[child]), tuple(body[parent])]
            draw.line(ends, colours[child], round(width))
            for end in ends:
                _dot(draw, end, width / 2, colours[child])
    for joint in np.flatnonzero(seen).tolist():
        if joint in heads:
            _dot(draw, body[joint], HEAD * size, colours[joint])
        else:
            _dot(draw, body[joint], JOINT * size, colours[joint])
            _dot(draw, body[joint], JOINT * size * 0.55, CARD)


def _colours(layout: Layout, paint: Paint) -> list[Colour]:
    """The colour of each joint, which is that of the bone to its parent."""
    lefts, rights = ({pair[side] for pair in layout.pairs} for side in (0, 1))
    return [
        paint.left if j in lefts else paint.right if j in rights else paint.middle for j in range(len(layout.joints))
    ]


def _dot(draw: ImageDraw.ImageDraw, at: Sequence[float] | Array, radius: float, colour: Colour) -> None:
    x, y = at
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)

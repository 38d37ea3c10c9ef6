"""Whether joints in metres are a person's: in the layout's order, of steady bones, upright, of a person's size.

A 2D pose has bones of any length, so that it is only asked whether it stands upright and lies in its picture.
"""

from __future__ import annotations

import math

import numpy as np

from ...cache.skeletons import Layout
from ..preparation.layouts import LAYOUTS
from .finding import ERROR, WARNING, Finding, Inspected

# bones of the layout together, as a multiple of the shortest tree over all joints. Seen: 1.12 in NW-UCLA, 1.24 in
# UTD-MHAD; 1.48 and 1.64 in each other's order, 2.6 and more in an order at random
TANGLED = 1.45
BETTER = 0.9  # of one's own bones; another layout whose bones are shorter than this fits better. Seen: 0.76
UNSTEADY = 0.5  # how much bones vary in a clip. Seen at the most: 0.33 in NW-UCLA, 0.17 in UTD-MHAD
ODD = 0.4  # how far a body's proportions are from the usual. Seen at the most: 0.27 in NW-UCLA, 0.16 in UTD-MHAD
LOPSIDED = 0.4  # left limbs against right ones. Seen at the most: 0.22 in NW-UCLA, 0.17 in UTD-MHAD
SHORTEST, TALLEST = 0.6, 2.6  # metres from head to foot along the bones. Seen: 1.17 to 2.01
TINY, HUGE = 0.3, 10  # metres; beyond, it is another unit
UNITS = ((1000, "millimetres"), (100, "centimetres"), (39.4, "inches"))  # so many are a metre
LIKELY = 1.5  # times a person's height in a unit, up or down
PERSON = 1.6  # metres from head to foot, about as seen: 1.64 in NW-UCLA, 1.55 in UTD-MHAD
# cosine between the spine and up. Seen of the median: 0.97; of one clip at the least: 0.60
STANDING, FALLEN = 0.3, -0.3
CLEAR = 0.6  # a cosine; of what people stand along, where it is not y
BEYOND = 1e6  # times; such numbers are of no unit
TURNS = {  # of an axis that people stand along, to x right, y up, z away from the camera
    "-y": "turn the sign of y",
    "+z": "make x, z, y of x, y, z",
    "-z": "make x, -z, y of x, y, z",
    "+x": "make -y, x, z of x, y, z",
    "-x": "make y, -x, z of x, y, z",
}
PICTURE_SIZE = "mend the columns width and height (or the JSON's, or a PYSKL pickle's img_shape), and prepare again"
PICTURE = 1.5  # -1 to 1 is the picture; joints may be a little outside


def joint_order(data: Inspected) -> list[Finding]:
    """Joints that lie in another order than the layout says."""
    if in_order(data):
        return []
    layout, distances = data.skeletons.layout, data.measures.distances
    times, fits = _bones(layout, distances) / _shortest_tree(distances), _better(layout, distances)
    what = f"joints are not in the order of {layout.name}: its bones are {times:.1f} times as long as need be"
    return [Finding("joint order", ERROR, what, advice=f"say --layout {fits}, which fits" if fits else "")]


def in_order(data: Inspected) -> bool:
    """Whether the joints can be those of the layout; a 2D pose is not asked."""
    layout, distances = data.skeletons.layout, data.measures.distances
    if data.skeletons.coordinates != "metres" or not np.isfinite(distances).all():
        return True
    if not (shortest := _shortest_tree(distances)):  # all joints in one place are in any order
        return True
    return not _better(layout, distances) and _bones(layout, distances) < TANGLED * shortest


def _better(layout: Layout, distances: np.ndarray) -> str:
    """Another layout whose bones are shorter between these joints; empty where none is."""
    others = [one for one in LAYOUTS.values() if len(one.joints) == len(layout.joints)]
    best = min((layout, *others), key=lambda one: _bones(one, distances))
    return best.name if _bones(best, distances) < BETTER * _bones(layout, distances) else ""


def _bones(layout: Layout, distances: np.ndarray) -> float:
    return float(sum(distances[edge] for edge in layout.edges))


def _shortest_tree(distances: np.ndarray) -> float:
    """The length of the shortest tree over all joints (Prim)."""
    away, total = distances[0].copy(), 0.0
    left = set(range(1, len(distances)))
    while left:
        nearest = min(left, key=lambda joint: away[joint])
        total += float(away[nearest])
        left.remove(nearest)
        away = np.minimum(away, distances[nearest])
    return total


def bones(data: Inspected) -> list[Finding]:
    """Clips whose bones stretch and shrink, or whose proportions are like no other's."""
    if not _in_metres(data):
        return []
    bodies = data.measures.bodies
    unsteady = bodies.spread > UNSTEADY
    odd = bodies.clip[(_oddness(data) > ODD) & ~unsteady]
    return [
        *data.of_clips("unsteady bones", WARNING, bodies.clip[unsteady], "whose bones vary wildly in length"),
        *data.of_clips("odd proportions", WARNING, odd, "of proportions that no other clip has"),
    ]


def _oddness(data: Inspected) -> np.ndarray:
    """How far each body's bones are from the usual proportions, whatever its size, as a share of all its bones."""
    lengths = data.measures.bodies.bones
    usual = np.nanmedian(lengths, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # all joints in one place have no proportions: NaN
        size = lengths.sum(1, keepdims=True) / usual.sum()
        return np.abs(lengths - size * usual).sum(1) / lengths.sum(1)


def lopsided(data: Inspected) -> list[Finding]:
    """Clips with left limbs of another length than the right ones."""
    if not _in_metres(data):
        return []
    layout, lengths = data.skeletons.layout, data.measures.bodies.bones
    mirrored, edges = dict(layout.pairs), {edge: number for number, edge in enumerate(layout.edges)}
    twins = [
        (number, edges[twin])
        for (child, parent), number in edges.items()
        if child in mirrored and (twin := (mirrored[child], mirrored.get(parent, parent))) in edges
    ]
    if not twins:
        return []
    left, right = (lengths[:, list(side)] for side in zip(*twins, strict=True))
    with np.errstate(invalid="ignore"):  # limbs of no length are as long as each other
        apart = 2 * np.abs(left - right).sum(1) / (left + right).sum(1)
    rows = data.measures.bodies.clip[apart > LOPSIDED]
    return data.of_clips("lopsided", WARNING, rows, "with left and right limbs of very different lengths")


def upside_down(data: Inspected) -> list[Finding]:
    """People whose heads are below their hips, all of them or those of some clips."""
    up, bodies = data.measures.bodies.up, data.measures.bodies
    image = data.skeletons.coordinates == "image"
    up = up * ((1, -1, 0) if image else (1, 1, 1))
    length = np.linalg.norm(up, axis=1)
    there = length > 0
    if not in_order(data) or not there.any():
        return []
    cosines = up[there] / length[there, None]
    usual = np.median(cosines, axis=0)
    if found := _turned_picture(usual) if image else _turned(usual):
        return [found]
    clips = bodies.clip[there][cosines[:, 1] < FALLEN]
    return data.of_clips("upside down", WARNING, clips, "with people upside down")


def _turned(usual: np.ndarray) -> Finding | None:
    """The axis that people stand along, where it is clearly another than +y."""
    axis = int(np.abs(usual).argmax())
    if usual[1] >= STANDING or abs(usual[axis]) <= CLEAR:
        return None
    up = f"{'-' if usual[axis] < 0 else '+'}{'xyz'[axis]}"
    advice = f"{TURNS[up]} in your files, which is x right, y up, z away from the camera, and prepare again"
    return Finding("turned axes", ERROR, f"people stand along {up}, and should along +y", advice=advice)


def _turned_picture(usual: np.ndarray) -> Finding | None:
    """As _turned; a picture has no axes but its own: people along x lie."""
    if usual[1] >= -CLEAR:
        return None
    advice = "in your files make y 1 - y for shares, height - y for pixels, and prepare again"
    return Finding("turned axes", ERROR, "people are upside down: y goes down in a picture", advice=advice)


def units(data: Inspected) -> list[Finding]:
    """Coordinates in another unit than they should be."""
    if data.skeletons.coordinates == "image":
        return _picture_size(data.measures.bodies.reach)
    if not _wrong_unit(tall := _usual_height(data)):
        return []
    factor, unit = min(UNITS, key=lambda one: abs(np.log(tall / PERSON / one[0])))
    if not 1 / LIKELY < tall / PERSON / factor < LIKELY:
        factor, unit = tall / PERSON, "no unit that is known"
    what = f"people are {_number(tall)} from head to foot, which is wanted in metres; it looks like {unit}"
    sane = 1 / BEYOND < factor < BEYOND
    advice = f"multiply all by {_number(1 / factor)}" if sane else "find out what the numbers in your files are"
    return [Finding("units", ERROR, what, advice=f"{advice}, and prepare again")]


def _number(value: float) -> str:
    """Three digits that count, without an exponent: 1,810, 0.0256."""
    if value > BEYOND:
        return f"over {BEYOND:,.0f}"
    if value < 1 / BEYOND:
        return f"under {1 / BEYOND:.6f}"
    decimals = 2 - math.floor(math.log10(value))
    text = f"{round(value, decimals):,.{max(decimals, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _picture_size(reach: np.ndarray) -> list[Finding]:
    """2D poses that leave their picture, which are shares of one of another size."""
    usual = float(np.nanmedian(reach)) if np.isfinite(reach).any() else 0.0
    times = _number((usual + 1) / 2)  # -1 to 1 is the picture
    what = f"2D poses reach to {times} times the picture: its width and height do not fit them"
    return [Finding("units", ERROR, what, advice=PICTURE_SIZE)] if usual > PICTURE else []


def heights(data: Inspected) -> list[Finding]:
    """Clips of people too short or too tall to be true."""
    if not _in_metres(data) or _wrong_unit(_usual_height(data)):
        return []
    tall = data.measures.bodies.heights
    rows = data.measures.bodies.clip[(tall < SHORTEST) | (tall > TALLEST)]
    what = f"of people under {SHORTEST} m or over {TALLEST} m, along the bones"
    return data.of_clips("heights", WARNING, rows, what)


def _in_metres(data: Inspected) -> bool:
    """Whether bones can be measured: in metres, the joints in their order, somebody there."""
    return data.skeletons.coordinates == "metres" and bool(data.measures.bodies.measured.any()) and in_order(data)


def _usual_height(data: Inspected) -> float:
    """The median height in metres; 0 where it can't be told."""
    tall = data.measures.bodies.heights
    return float(np.nanmedian(tall)) if _in_metres(data) and np.isfinite(tall).any() else 0.0


def _wrong_unit(tall: float) -> bool:
    return tall > 0 and not TINY < tall < HUGE

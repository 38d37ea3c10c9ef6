"""What the joints of a data set measure, body by body, found in one pass over the mapped cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cache.skeletons import Layout, Skeletons

Array = NDArray[Any]

BLOCK_ROWS = 1 << 15  # poses looked at together: 10 MB of 25 joints, and some times that for what is made of them
SAMPLED = 16  # poses of a body that are measured, evenly over those that there are; for all the rest every pose is read
POSES = 2000  # of the whole data set, for what lies near what


@dataclass(frozen=True)
class Bodies:
    """A row a body, in the order of the cache; bones are a layout's edges. What can't be measured is NaN.

    `clip` int64 [n]: its clip's row. `finite`, `moves` bool [n]: no NaN or infinity; any joint moves while it is there.
    `there` int64 [n]: frames that it is in. `bones` [n, E]: median lengths; `spread` [n]: how much the lengths of its
    bones vary, the interquartile range as a share of the median, the median bone's. `up` [n, 3]: from hips to head,
    where both are seen. `reach` [n]: the largest x or y in absolute value.
    """

    layout: Layout
    clip: Array
    finite: Array
    moves: Array
    there: Array
    bones: Array
    spread: Array
    up: Array
    reach: Array

    @cached_property
    def measured(self) -> Array:
        """Bodies with at least one pose, and numbers all through, bool [n]."""
        return self.finite & (self.there > 0)

    @cached_property
    def heights(self) -> Array:
        """Length from head to foot along the bones, the posture's no matter, float [n]; NaN where none is known."""
        head, feet = _head(self.layout), _named(self.layout, "foot") or _named(self.layout, "ankle")
        if not head or not feet:
            return np.full(len(self.clip), np.nan)
        return np.mean([self.bones[:, _path(self.layout, head[0], foot)].sum(1) for foot in feet], axis=0)


@dataclass(frozen=True)
class Measures:
    """`bodies` of all clips; `filled` int64 [clips]: frames with any body; `digests`: equal where all joints are;
    `distances` [V, V]: how far each joint is from each other one, the median over poses."""

    bodies: Bodies
    filled: Array
    digests: list[bytes]
    distances: Array


def measure(skeletons: Skeletons, progress: Callable[[int, int], None]) -> Measures:
    """All numbers of a data set; memory stays at a block's. `progress` is called with clips done and clips in all."""
    skeletons.joints.lengths  # noqa: B018 - a ValueError where the offsets of a damaged file lead elsewhere
    blocks, count = [], len(skeletons.names)
    for first, last in _blocks(skeletons):
        blocks.append(_measure_block(skeletons, first, last))
        progress(last, count)
    bodies = Bodies(
        skeletons.layout, *(np.concatenate(parts) for parts in zip(*(one[0] for one in blocks), strict=True))
    )
    filled = np.concatenate([one[1] for one in blocks])
    digests = [digest for one in blocks for digest in one[2]]
    return Measures(bodies, filled, digests, _distances(skeletons, bodies.measured))


def _blocks(skeletons: Skeletons) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of runs of clips that have at most BLOCK_ROWS poses together; at least one."""
    offsets, first = np.asarray(skeletons.joints.offsets), 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + BLOCK_ROWS, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _measure_block(skeletons: Skeletons, first: int, last: int) -> tuple[tuple[Array, ...], Array, list[bytes]]:
    offsets = np.asarray(skeletons.joints.offsets[first : last + 1]).astype(np.int64)
    poses = np.asarray(skeletons.joints.values[offsets[0] : offsets[-1]])
    counts, frames = skeletons.bodies[first:last], skeletons.frames[first:last]
    clip, lengths = np.repeat(np.arange(first, last), counts), np.repeat(frames, counts)
    starts, here = np.cumsum(lengths) - lengths, _any(poses)
    finite = np.logical_and.reduceat(~_any(~np.isfinite(poses)), starts)
    there = np.add.reduceat(here.astype(np.int64), starts)
    shape = _shape(poses[_sampled(here, starts, there)], finite & (there > 0), skeletons.layout)
    bounds = (offsets - offsets[0]).tolist()
    digests = [hashlib.blake2b(poses[a:b].tobytes(), digest_size=16).digest() for a, b in pairwise(bounds)]
    return (clip, finite, _moves(poses, here, starts), there, *shape), _filled(here, bounds, counts), digests


def _any(poses: Array) -> Array:
    """Whether anything of each pose [n, V, 3] is not zero, bool [n]."""
    return np.asarray(poses.any(axis=(1, 2)))


def _sampled(here: Array, starts: Array, there: Array) -> Array:
    """Numbers of poses [bodies, SAMPLED], of those that each body is in; any poses for a body that is in none."""
    present = np.append(np.flatnonzero(here), 0)
    places = np.rint(np.linspace(0, 1, SAMPLED) * np.maximum(there - 1, 0)[:, None]).astype(np.int64)
    return present[np.searchsorted(present[:-1], starts)[:, None] + places]


def _moves(poses: Array, here: Array, starts: Array) -> Array:
    """Whether a joint of each body is ever elsewhere than in the frame before."""
    with np.errstate(invalid="ignore"):
        changed = np.append(False, _any(poses[1:] != poses[:-1]) & here[1:] & here[:-1])
    changed[starts] = False  # from the last pose of one body to the first of the next
    return np.logical_or.reduceat(changed, starts)


def _filled(here: Array, bounds: list[int], counts: Array) -> Array:
    """In how many frames of each clip there is any body."""
    clips = zip(pairwise(bounds), counts.tolist(), strict=True)
    return np.array([np.count_nonzero(here[a:b].reshape(bodies, -1).any(0)) for (a, b), bodies in clips])


def _shape(poses: Array, known: Array, layout: Layout) -> tuple[Array, Array, Array, Array]:
    """Bones, spread, up and reach of sampled poses [n, k, V, 3], of the bodies that are `known` [n]."""
    poses = poses.astype(np.float64)  # whose squares are finite, whatever the file holds
    there = np.repeat(known[:, None], poses.shape[1], axis=1)
    child, parent = np.array(layout.edges, np.int64).reshape(-1, 2).T
    with np.errstate(invalid="ignore"):
        lengths = np.linalg.norm(poses[:, :, child] - poses[:, :, parent], axis=-1)
        low, bones, high = (_quantile(lengths, there, share) for share in (0.25, 0.5, 0.75))
        up = _middle(poses, _head(layout)) - _middle(poses, _named(layout, "hip"))
        reach = np.abs(poses[..., :2]).max(axis=(2, 3))[..., None]
    upright = _quantile(up, there & np.isfinite(up).all(-1), 0.5)
    return bones, _spread(low, bones, high), upright, _quantile(reach, there, 1)[:, 0]


def _spread(low: Array, bones: Array, high: Array) -> Array:
    """How much the median bone varies, [n], of quartiles of all bones [n, E]; NaN where a layout has no bones."""
    if not bones.shape[1]:
        return np.full(len(bones), np.nan)
    return np.median((high - low) / np.maximum(bones, 1e-6 + 1e-3 * bones.max(1, keepdims=True)), axis=1)


def _middle(poses: Array, joints: list[int]) -> Array:
    """The middle [n, k, 3] of those of some joints that are seen, which are not all zero; NaN where none is."""
    seen = poses[:, :, joints].any(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return poses[:, :, joints].sum(2) / seen.sum(2)


def _quantile(values: Array, there: Array, share: float) -> Array:
    """The quantile over axis 1 of values [n, k, m] that are there: [n, m], the nearest value; NaN where none is."""
    ordered = np.sort(np.where(there[..., None], values, np.inf), axis=1)
    place = np.rint(share * (there.sum(1) - 1)).astype(np.int64)
    found = ordered[np.arange(len(values)), np.maximum(place, 0)]
    return np.where((there.sum(1) > 0)[:, None], found, np.nan)


def _distances(skeletons: Skeletons, measured: Array) -> Array:
    """The median distance of each joint from each other one, [V, V], over poses from the middle of bodies."""
    lengths = np.repeat(skeletons.frames, skeletons.bodies)
    starts = np.cumsum(lengths) - lengths
    rows = (starts + lengths // 2)[measured]
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), POSES)).astype(np.int64)] if len(rows) else rows
    poses = np.asarray(skeletons.joints.values[rows], np.float64)
    poses = poses[_any(poses)]
    if not len(poses):
        return np.full(2 * (len(skeletons.layout.joints),), np.nan)
    return np.stack(
        [np.median(np.linalg.norm(poses - poses[:, [joint]], axis=-1), axis=0) for joint in range(poses.shape[1])]
    )


def _named(layout: Layout, word: str) -> list[int]:
    """The joints with this word in their name."""
    return [joint for joint, name in enumerate(layout.joints) if word in name.split()]


def _head(layout: Layout) -> list[int]:
    return _named(layout, "head") or _named(layout, "nose")


def _path(layout: Layout, first: int, second: int) -> list[int]:
    """The bones, as numbers of edges, between two joints."""
    edge_of = {child: number for number, (child, _) in enumerate(layout.edges)}

    def above(joint: int) -> list[int]:
        found = []
        while joint in edge_of:
            found.append(edge_of[joint])
            joint = layout.edges[edge_of[joint]][1]
        return found

    return sorted(set(above(first)) ^ set(above(second)))

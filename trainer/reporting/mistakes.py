"""The most confident mistakes of a run, with their skeletons as small numbers."""

from __future__ import annotations

import numpy as np

from ...cache.skeletons import Layout, Skeletons
from ..inference.predictor import softmax
from ..testing.scores import Scores
from .content import Bones, Mistake, Mistakes, Pose, Seen
from .teachers import Teachers

MOST = 8
FRAMES = 40  # of a moving skeleton; of a longer clip every 2nd, 3rd ... is kept
RATE = 30  # frames a second: that of a Kinect, and of nearly all videos
FIELD, MARGIN = 1000, 0.08
OUTLIERS = 0.5  # percent of the joints' places at each end that may lie outside the field
NOWHERE = -1


def mistakes_of(scores: Scores, skeletons: Skeletons, teachers: Teachers) -> Mistakes:
    """Of the clips that were called wrong those whose called class has the highest probability, highest first."""
    probabilities = softmax(scores.values.astype(np.float64))  # in float32 the surest are all 1
    called = scores.values.argmax(1)
    wrong = np.flatnonzero(called != scores.labels)
    order = wrong[np.argsort(-probabilities[wrong, called[wrong]], kind="stable")]
    rows = {name: row for row, name in enumerate(skeletons.names)}
    there = [int(clip) for clip in order if scores.names[clip] in rows][:MOST]
    clips = [_mistake(clip, scores, probabilities, skeletons, rows, teachers) for clip in there]
    return Mistakes(bones_of(skeletons.layout), tuple(clips), len(wrong))


def _mistake(
    clip: int,
    scores: Scores,
    probabilities: np.ndarray,
    skeletons: Skeletons,
    rows: dict[str, int],
    teachers: Teachers,
) -> Mistake:
    name, true, called = scores.names[clip], int(scores.labels[clip]), int(scores.values[clip].argmax())
    return Mistake(
        name=name,
        true=scores.classes[true],
        called=scores.classes[called],
        probability=float(probabilities[clip, called]),
        true_probability=float(probabilities[clip, true]),
        pose=pose_of(skeletons, rows[name]),
        seen=teachers.of(name) if teachers.there else Seen(),
    )


def bones_of(layout: Layout) -> Bones:
    """A layout's bones by side; a bone belongs to the side of its outer joint."""
    lefts, rights = ({pair[side] for pair in layout.pairs} for side in (0, 1))

    def of(side: set[int]) -> tuple[tuple[int, int], ...]:
        return tuple(edge for edge in layout.edges if edge[0] in side)

    middle = set(range(len(layout.joints))) - lefts - rights
    heads = tuple(joint for joint, name in enumerate(layout.joints) if name in ("head", "nose"))
    return Bones(of(middle), of(lefts), of(rights), heads)


def pose_of(skeletons: Skeletons, row: int) -> Pose:
    """A clip from the front, at most `FRAMES` frames of it, in whole numbers."""
    joints = np.asarray(skeletons.joints[row])
    joints = joints.reshape(int(skeletons.bodies[row]), -1, *joints.shape[1:])
    bodies, length, count, _ = joints.shape
    frames = np.unique(np.linspace(0, length - 1, min(length, FRAMES)).round().astype(int))
    places = _fitted(_front(joints[:, frames], skeletons.coordinates))
    flat = places.transpose(1, 0, 2, 3).reshape(len(frames), -1)
    return Pose(bodies, count, tuple(map(tuple, flat.tolist())), len(frames) // 2, length / RATE, length)


def _front(joints: np.ndarray, coordinates: str) -> np.ndarray:
    """Points [..., V, 2], x right and y down; NaN for joints that are not there."""
    there = np.asarray(joints.any(-1)) & np.isfinite(joints).all(-1)
    points = joints[..., :2].astype(np.float64) * ((1, 1) if coordinates == "image" else (1, -1))
    return np.where(there[..., None], points, np.nan)


def _fitted(points: np.ndarray) -> np.ndarray:
    """Whole numbers in the field, of one scale for both axes; -1 where there is no joint, or where it lies far out."""
    seen = points[np.isfinite(points).all(-1)]
    if not len(seen):
        return np.full(points.shape, NOWHERE, np.int64)
    low, high = np.percentile(seen, [OUTLIERS, 100 - OUTLIERS], axis=0)
    scale = FIELD * (1 - 2 * MARGIN) / max(float((high - low).max()), 1e-6)
    places = (points - (low + high) / 2) * scale + FIELD / 2
    known = np.nan_to_num(places, nan=NOWHERE)
    inside = ((known >= 0) & (known <= FIELD)).all(-1, keepdims=True)
    return np.where(inside, known, NOWHERE).round().astype(np.int64)

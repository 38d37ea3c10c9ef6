"""Skeletons in JSON: nested lists, an object that holds them, a list of frames, MMPose's and AlphaPose's files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np

from ....cache.skeletons import Layout
from .pose import Pose, Sighting, Size, flat_shape, gather, numbers, points_of

KEYS = ("joints", "skeleton", "skeletons", "keypoints", "keypoint", "data")  # what poses are called
SCORES = ("keypoint_scores", "keypoint_score")  # MMPose's and PYSKL's word
_FRAME = ("frame_id", "frame", "image_id")  # MMPose, people, AlphaPose and COCO
_BODY = ("track_id", "idx", "body")  # MMPose, AlphaPose, people

Object = Mapping[str, Any]


def read_json(content: bytes, layout: Layout | None) -> Pose:
    """The pose in a JSON file; ValueError with what it holds where that is none of the known forms."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON file ({error})") from error
    size = _size(found) if isinstance(found, dict) else None
    if isinstance(found, dict) and "instance_info" in found:  # MMPose keeps its frames there
        found = found["instance_info"]
    return _pose(found, layout, size)


def _pose(found: object, layout: Layout | None, size: Size | None) -> Pose:
    if isinstance(found, dict):
        inner = found[_key(found)]
        if not _is_frames(inner):
            return pose_of(inner, _scores(found), layout, size)
        found = inner
    if _is_frames(found):
        return _of_frames(found, layout, size)
    return Pose(points_of(found, layout), size=size)


def pose_of(values: object, scores: object, layout: Layout | None, size: Size | None = None) -> Pose:
    """Poses and the scores that lie beside them; scores of 3D poses say nothing of where a joint is, and are left."""
    points = points_of(values, layout)
    if scores is None or points.shape[-1] == 3:
        return Pose(points, size=size)
    score = numbers(scores)
    score = score if score.ndim == 3 else score[None]
    if score.shape != points.shape[:3]:
        raise ValueError(f"scores of shape {list(score.shape)} for joints of {list(points.shape)}")
    return Pose(np.concatenate([points, score[..., None]], axis=-1), scored=True, size=size)


def _of_frames(found: list[Object], layout: Layout | None, size: Size | None) -> Pose:
    """A list of frames with one body or several each, or of bodies that name their frame."""
    keys = [_identity(entry, _FRAME, row) for row, entry in enumerate(found)]
    place = {key: row for row, key in enumerate(sorted(dict.fromkeys(keys), key=_natural))}
    sightings, tracked, scored = [], set[bool](), set[bool]()
    order = Counter[Hashable]()
    for key, person in _people(found, keys):
        body = _identity(person, _BODY, None)
        points, has_score = _person(person, layout)
        sightings.append(Sighting(place[key], order[key] if body is None else body, points))
        order[key] += 1
        tracked.add(body is not None)
        scored.add(has_score)
    if len(tracked) > 1 or len(scored) > 1:
        raise ValueError("some bodies with a track id or with scores, some without")
    notes = () if tracked == {True} or max(order.values(), default=0) < 2 else (_UNTRACKED,)
    return Pose(gather(sightings, len(place)), scored == {True}, size, notes)


_UNTRACKED = "several people without a track id: told apart by their order in each frame"


def _people(found: list[Object], keys: list[Hashable]) -> Iterator[tuple[Hashable, Object]]:
    for key, entry in zip(keys, found, strict=True):
        people = entry.get("instances", [entry])
        if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
            raise ValueError(f"frame {key}: instances that are no list of objects")
        for person in people:
            yield key, person


def _person(person: Object, layout: Layout | None) -> tuple[np.ndarray, bool]:
    """Points [V, C] of one body, and whether the last number is a score."""
    key = _key(person)
    points = numbers(person[key])
    if points.ndim == 1:
        points = points.reshape(flat_shape(len(points), layout))
        return points, key == "keypoints" and points.shape[1] == 3  # COCO's word, and AlphaPose's: x, y, score, x, ...
    points = points[0] if points.ndim == 3 and len(points) == 1 else points
    if points.ndim != 2 or points.shape[-1] not in (2, 3):
        raise ValueError(f"a body of shape {list(points.shape)}, wanted [joints, 2 or 3]")
    scores = _scores(person)
    if scores is None or points.shape[-1] == 3:
        return points, False
    return np.column_stack([points, numbers(scores).reshape(len(points))]), True


def _key(found: Object) -> str:
    """What the poses are called in an object."""
    if "people" in found or "bodies" in found:
        raise ValueError(
            "OpenPose's form: a file a frame, with joints in an order of its own; "
            "save a clip as one array, its joints in a known layout's order"
        )
    for key in KEYS:
        if key in found:
            return key
    listed = ", ".join(list(found)[:6]) or "nothing"
    raise ValueError(f"an object with {listed}; wanted one of {', '.join(KEYS)}")


def _scores(found: Object) -> object:
    return next((found[key] for key in SCORES if key in found), None)


def _identity(found: Object, keys: tuple[str, ...], otherwise: Hashable) -> Hashable:
    """The number or name under the first of `keys` that is there; some trackers write it as a list."""
    value = next((found[key] for key in keys if found.get(key) is not None), otherwise)
    return value if isinstance(value, Hashable) else json.dumps(value)


def _is_frames(found: object) -> TypeGuard[list[Object]]:
    return isinstance(found, list) and bool(found) and all(isinstance(entry, dict) for entry in found)


def _natural(key: Hashable) -> tuple[list[int], str]:
    """So that 10.jpg comes after 9.jpg."""
    return [int(digits) for digits in re.findall(r"\d{1,18}", str(key))], str(key)


def _size(found: Object) -> Size | None:
    width, height = found.get("width"), found.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return float(width), float(height)
    return None

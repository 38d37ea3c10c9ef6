"""What a skeleton file of one's own holds, in one form, and from there to metres or to shares of a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ....cache.skeletons import Layout
from ...preparation.layouts import LAYOUTS
from ...preparation.raw import LIMIT

TALLEST_METRES = 10
TALL = f"a body of more than {TALLEST_METRES} metres"  # how the note of such a clip begins
WANTED = "[frames, joints, 2 or 3], [bodies, frames, joints, 2 or 3] or a row a frame"

Size = tuple[float, float]  # a picture's width and height, in the unit of x and y


@dataclass(frozen=True)
class Pose:
    """Points [bodies, frames, V, C] of a file: x, y, z; or x, y and, where `scored`, how sure the detector was.

    A body that is not in a frame is zero there.
    """

    points: np.ndarray
    scored: bool = False
    size: Size | None = None
    notes: tuple[str, ...] = ()


class Sighting(NamedTuple):
    """One body in one frame: points [V, C]."""

    frame: int
    body: Hashable
    points: np.ndarray


def points_of(values: object, layout: Layout | None) -> np.ndarray:
    """Numbers of a file as [bodies, frames, V, C]; ValueError with the shape found where they can't be that."""
    array = numbers(values)
    if array.ndim == 2:
        array = array.reshape(len(array), *flat_shape(array.shape[1], layout))
    if array.ndim not in (3, 4) or array.shape[-1] not in (2, 3):
        raise ValueError(f"shape {list(array.shape)}, wanted {WANTED}")
    return array if array.ndim == 4 else array[None]


def numbers(values: object) -> np.ndarray:
    """Nested lists or an array as float32; ValueError where they are no numbers, or lists of different lengths."""
    found = values if isinstance(values, np.ndarray) else _from_lists(values)
    if found.dtype.kind not in "iuf":
        raise ValueError(f"an array of {found.dtype}, wanted numbers")
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes Inf, and is seen as such
        return found.astype(np.float32)


def _from_lists(values: object) -> np.ndarray:
    try:
        return np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError("not nested lists of numbers, or lists of different lengths") from error


def flat_shape(width: int, layout: Layout | None) -> tuple[int, int]:
    """(V, C) of `width` numbers in a row, which no two known layouts share; ValueError where none has them."""
    for joints in joint_counts(layout):
        for channels in (3, 2):
            if joints * channels == width:
                return joints, channels
    known = " or ".join(map(str, joint_counts(layout)))
    raise ValueError(f"{width} numbers a frame, wanted 2 or 3 for each of {known} joints")


def joint_counts(layout: Layout | None) -> list[int]:
    return [len(layout.joints)] if layout else sorted({len(known.joints) for known in LAYOUTS.values()})


def gather(sightings: Sequence[Sighting], frames: int) -> np.ndarray:
    """All sightings as [bodies, frames, V, C], the body that is in most frames first.

    Raises ValueError where joints differ in number, or one body is twice in a frame.
    """
    shapes = Counter(sighting.points.shape for sighting in sightings)
    if len(shapes) != 1:
        found = " and ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"bodies of shapes {found}, wanted one for all" if found else "nobody in any frame")
    count = Counter(sighting.body for sighting in sightings)
    place = {body: row for row, (body, _) in enumerate(count.most_common())}
    (shape,) = shapes
    if len(place) * frames * int(np.prod(shape)) * 4 > LIMIT:
        raise ValueError(f"{len(place):,} bodies in {frames:,} frames; no clip is that large")
    points, taken = np.zeros((len(place), frames, *shape), np.float32), set[tuple[int, int]]()
    for frame, body, joints in sightings:
        if (place[body], frame) in taken:
            raise ValueError(f"body {body} is twice in frame {frame}")
        taken.add((place[body], frame))
        points[place[body], frame] = joints
    return points


def fitting(pose: Pose, layout: Layout) -> Pose:
    """The pose, if it has the layout's joints; ValueError otherwise."""
    found, wanted = list(pose.points.shape), len(layout.joints)
    if found[2] != wanted:
        raise ValueError(f"{found[2]} joints (shape {found}), wanted {wanted}: {layout.name}")
    return pose


def metres(pose: Pose) -> tuple[np.ndarray, tuple[str, ...]]:
    """Joints [bodies, frames, V, 3] as they stand in the file, and a note where no one is that tall."""
    if pose.scored or pose.points.shape[-1] != 3:
        raise ValueError("a 2D pose among 3D ones; prepare the two apart")
    pose = _present(pose, 3)
    height = _height(pose.points)
    notes = [f"{TALL}: {height:,.0f} from end to end; millimetres?"] if height > TALLEST_METRES else []
    return pose.points, (*pose.notes, *notes)


def _present(pose: Pose, channels: int) -> Pose:
    """The pose without bodies that are in no frame, as arrays are filled up with, and a note; at least one stays."""
    real = np.any(_seen(pose.points[..., :channels]), axis=(1, 2))
    if real.all() or not real.any():
        return pose
    note = f"{np.sum(~real):,} of {len(real):,} bodies in no frame: not there"
    return replace(pose, points=pose.points[real], notes=(*pose.notes, note))


def _seen(points: np.ndarray) -> np.ndarray:
    """Which joints [..., C] are there: neither at 0 nor without a number."""
    return np.all(np.isfinite(points), axis=-1) & np.any(points, axis=-1)


def _height(points: np.ndarray) -> float:
    """The longest extent of a body along an axis, in the middle one of the frames that have it."""
    points = points.astype(np.float64)  # float32 cannot hold the difference of its own extremes
    there = np.all(np.isfinite(points), axis=-1, keepdims=True) & np.any(points, axis=-1, keepdims=True)
    low = np.where(there, points, np.inf).min(axis=2)
    high = np.where(there, points, -np.inf).max(axis=2)
    seen = np.any(there, axis=2)[..., 0]
    return float(np.median((high[seen] - low[seen]).max(axis=-1))) if seen.any() else 0.0


def shares(pose: Pose, size: Size | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Joints [bodies, frames, V, 3] (x and y from -1 to 1, score), the shares [..., 2] that they come from, notes.

    `size` is the picture's, where the table has it; without one x and y must be shares already. A joint at 0, 0 or
    without a number is not there: zero in all channels. A score that is not told is 1.
    """
    pose = _present(pose, 2)
    place = pose.points[..., :2]
    there = _seen(place)
    unknown = int(np.any(~np.isfinite(place), axis=-1).sum())
    place = np.where(there[..., None], place, 0)
    place = place / _unit(place, there, size or pose.size)
    score = pose.points[..., 2] if pose.points.shape[-1] == 3 else np.ones_like(place[..., 0])
    joints = np.concatenate([2 * place - 1, score[..., None]], axis=-1)
    notes = [f"{unknown:,} joints without a number: not there"] if unknown else []
    return np.where(there[..., None], joints, 0).astype(np.float32), place.astype(np.float32), (*pose.notes, *notes)


def _unit(place: np.ndarray, there: np.ndarray, size: Size | None) -> np.ndarray:
    """What x and y are divided by: 1 for shares, else the picture's width and height."""
    seen = place[there]
    if not len(seen) or (seen.min() >= 0 and seen.max() <= 1):
        return np.ones(2, np.float32)
    (left, top), (right, bottom) = seen.min(axis=0), seen.max(axis=0)
    reach = f"x {left:.4g} to {right:.4g}, y {top:.4g} to {bottom:.4g}"
    if size is None:
        mend = "if pixels, add its width and height (as columns of the table, or in the JSON file)"
        raise ValueError(f"{reach}: no shares of a picture (0 to 1); {mend}")
    if np.mean(np.any((seen < 0) | (seen > size), axis=-1)) > 0.5:
        raise ValueError(f"{reach}: most joints lie outside a picture of {size[0]:g} x {size[1]:g}")
    return np.array(size, np.float32)

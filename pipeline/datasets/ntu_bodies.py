"""From all bodies that a Kinect tracked to the one or two that act: the preprocessing behind every published number.

The rules are those of the SGN and HCN scripts that CTR-GCN ships, in their order; each function below is one of them.
They move a clip so that the middle spine of its first actor's first seen frame is the origin, too: that is done when a
batch is built (trainer/skeleton.py, `centre`, by the same arithmetic), so that the cache keeps metres from the camera.

Where this differs, because they would fail or keep what is not there:
- several bodies, all of 11 frames or fewer: none is dropped (they fail);
- a body twice in one frame: the file is refused (they fail, or shift all that follows);
- more than 300 frames: the first 300 are kept (they pad every clip to the longest);
- several bodies that all fit in the first slot: one body is stored (they store a second one of zeros, which NTU120
  then does not fill with the first one again);
- frames of zeros in a clip of one body: they stay zero in training, as everywhere else (they move them with the
  rest, so that all joints are at minus the origin there).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .ntu_file import SkeletonFile

SHORT_FRAMES = 11  # a body of so many frames or fewer is noise
WIDE = 0.8  # a frame is noise where the body is wider than this share of its height
NOISY_SHARE = 0.69754  # of a body's frames, from which the body is noise
MOST_FRAMES = 300  # of a clip

IN_FILES, IN_CACHE = "bodies in the files", "actors in the cache"
SHORT = f"bodies of {SHORT_FRAMES} frames or fewer, dropped"
NOISY = f"bodies wider than {WIDE} of their height in {NOISY_SHARE:.3%} of their frames or more, dropped"
OVERLAPPING = "bodies at the same time as two that move more, dropped"
FRAMES, NOBODY, NO_ACTOR = "frames in the files", "frames without a body, dropped", "frames without an actor, dropped"
LATE = f"frames after the first {MOST_FRAMES}, dropped"
ONE_SLOT = "clips of several bodies that make one actor"
NO_BODY = "no body in any frame"


@dataclass(frozen=True, eq=False)
class Body:
    """One tracked body: joints [frames, 25, 3], metres, and image_points [frames, 25, 2], from frame `start` on.

    Frames are counted among those in which any body is seen. `away` frames passed between its first and its last in
    which it was not seen. `motion` is in square metres; it is not measured of one that is alone, and 0.
    """

    id: str
    start: int
    joints: np.ndarray
    image_points: np.ndarray
    motion: float
    away: int

    @property
    def end(self) -> int:
        return self.start + len(self.joints) - 1


@dataclass(frozen=True)
class Actors:
    """The one or two that act, and what the rules did; `counts` and `notes` are a RawClip's.

    joints [bodies, frames, 25, 3] are zero in frames without the actor, image_points [bodies, frames, 25, 2] NaN.
    """

    joints: np.ndarray
    image_points: np.ndarray
    counts: Mapping[str, int]
    notes: tuple[str, ...]


def find_actors(file: SkeletonFile) -> Actors:
    """All rules, one after the other; ValueError where no body is seen, or one is in a frame twice."""
    every, frames = bodies_of(file)
    long = without_short(every)
    clean = without_noisy(long)
    joints, points, overlapping = in_slots(by_motion(clean), frames)
    if len(every) > 1:
        joints, points = seen_frames(joints, points)
    length = joints.shape[1]
    joints, points = joints[:, :MOST_FRAMES], points[:, :MOST_FRAMES]
    actors = 2 if joints[1].any() else 1
    counts = {
        IN_FILES: len(every),
        SHORT: len(every) - len(long),
        NOISY: len(long) - len(clean),
        OVERLAPPING: overlapping,
        IN_CACHE: actors,
        ONE_SLOT: int(len(clean) > 1 and actors == 1),
        FRAMES: file.frames,
        NOBODY: file.frames - frames,
        NO_ACTOR: frames - length,
        LATE: max(length - MOST_FRAMES, 0),
    }
    return Actors(joints[:actors], points[:actors], counts, tuple(_oddities(every, long, length)))


def bodies_of(file: SkeletonFile) -> tuple[list[Body], int]:
    """The bodies in order of their first frame, and how many frames have any body: only those are counted.

    A body that goes and comes back under its id has its frames put together, from its first on, as the reference does.
    """
    if not file.ids:
        raise ValueError(NO_BODY)
    with_body, place = np.unique(file.frame, return_inverse=True)
    rows: dict[str, list[int]] = {}
    for row, body in enumerate(file.ids):
        rows.setdefault(body, []).append(row)
    found = [_body(file, body, np.array(its), place[its]) for body, its in rows.items()]
    if len(found) > 1:
        found = [replace(body, motion=motion_of(body.joints)) for body in found]
    return found, len(with_body)


def _body(file: SkeletonFile, body: str, rows: np.ndarray, place: np.ndarray) -> Body:
    twice = np.flatnonzero(np.diff(place) == 0)
    if len(twice):
        raise ValueError(f"frame {file.frame[rows[twice[0]]] + 1}: body {body} is in it twice")
    away = int(place[-1] - place[0] + 1 - len(place))
    return Body(body, int(place[0]), file.joints[rows], file.image_points[rows], 0.0, away)


def motion_of(joints: np.ndarray) -> float:
    """How much a body moves: the variances of x, of y and of z over all joints of all frames, summed; float32."""
    return float(np.var(joints.reshape(-1, 3), axis=0).sum())


def without_short(bodies: Sequence[Body]) -> Sequence[Body]:
    """The length rule: of several bodies, those of more than 11 frames; all of them where none is longer."""
    if len(bodies) == 1:
        return bodies
    return [body for body in bodies if len(body.joints) > SHORT_FRAMES] or bodies


def without_noisy(bodies: Sequence[Body]) -> Sequence[Body]:
    """The spread rule: of several bodies, those that are upright in enough of their frames.

    Bodies are looked at in turn. One of whose frames 69.754% or more are noise is dropped; another that has noisy
    frames gets the motion of its good ones, if that is less. The last that is left stays, whatever it is.
    """
    kept = list(bodies)
    for body in bodies:
        if len(kept) == 1:
            break
        noise = noisy_frames(body.joints)
        if not noise.any():
            continue
        at = kept.index(body)
        if noise.mean() >= NOISY_SHARE:
            del kept[at]
        else:
            kept[at] = replace(body, motion=min(body.motion, motion_of(body.joints[~noise])))
    return kept


def noisy_frames(joints: np.ndarray) -> np.ndarray:
    """In which frames a body is wider than 0.8 of its height: bool [frames] of joints [frames, 25, 3]."""
    extent = np.ptp(joints, axis=1).astype(np.float64)  # the reference's numpy compared in float64
    return extent[:, 0] > WIDE * extent[:, 1]


def by_motion(bodies: Sequence[Body]) -> list[Body]:
    """Most motion first; of equals the first seen."""
    return sorted(bodies, key=lambda body: -body.motion)


def in_slots(bodies: Sequence[Body], frames: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Two actors [2, frames, 25, ...] from bodies in order, and how many bodies found no place.

    A body goes to the first slot whose time it does not overlap, and what it shares with it there it overwrites. Times
    overlap where the earlier end is after the later start: one frame in common is none. A slot's time then stretches
    from the first to the last frame of all its bodies. The second slot's begins as frame 0, so it always holds that.
    """
    joints = np.zeros((2, frames, *bodies[0].joints.shape[1:]), np.float32)
    points = np.full((*joints.shape[:3], 2), np.nan, np.float32)
    times, dropped = [(bodies[0].start, bodies[0].start), (0, 0)], 0
    for body in bodies:
        slot = next((slot for slot, time in enumerate(times) if not _overlap(time, body)), None)
        if slot is None:
            dropped += 1
            continue
        joints[slot, body.start : body.end + 1] = body.joints
        points[slot, body.start : body.end + 1] = body.image_points
        times[slot] = min(times[slot][0], body.start), max(times[slot][1], body.end)
    return joints, points, dropped


def _overlap(time: tuple[int, int], body: Body) -> bool:
    return min(time[1], body.end) > max(time[0], body.start)


def seen_frames(joints: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frames in which a slot holds a body; where there was one body only, all frames have it and stay."""
    seen = joints.any(axis=(0, 2, 3))
    return joints[:, seen], points[:, seen]


def _oddities(every: Sequence[Body], long: Sequence[Body], frames: int) -> list[str]:
    notes = [
        f"body {body.id} goes for {body.away} frames and comes back; its frames were put together"
        for body in every
        if body.away
    ]
    if len(every) > 1 and max(len(body.joints) for body in long) <= SHORT_FRAMES:
        notes.append(f"all of {len(every)} bodies have {SHORT_FRAMES} frames or fewer; none was dropped for it")
    if frames > MOST_FRAMES:
        notes.append(f"{frames} frames; the first {MOST_FRAMES} were kept")
    return notes

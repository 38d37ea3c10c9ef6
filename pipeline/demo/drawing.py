"""Pictures of the acting figures: rooms, people, props, and the video file they make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FPS, SIZE, FOCAL = 20, 128, 132.0  # 1/s, px, px
SKIN, SHIRT, TROUSERS, SHOES = range(4)
STROKES = (  # joints, paint, metres thick
    ([4, 8, 16, 12], SHIRT, 0.1),
    ([2, 3], SKIN, 0.09),
    *(([joint, joint + 1], SHIRT, 0.09) for joint in (4, 8)),
    *(([joint, joint + 1, joint + 2], SKIN, 0.065) for joint in (5, 9)),
    *(([joint, joint + 1, joint + 2], TROUSERS, 0.12) for joint in (12, 16)),
    *(([joint, joint + 1], SHOES, 0.09) for joint in (14, 18)),
)
CHAIR = (  # left, top, right, bottom in metres from the object's place; blue, green, red
    (-0.26, 0.45, 0.26, -0.15, 40, 75, 120),
    (-0.26, -0.1, -0.2, -0.5, 25, 50, 90),
    (0.2, -0.1, 0.26, -0.5, 25, 50, 90),
)
PROPS: dict[str, tuple[tuple[float, ...], ...]] = {
    "drink": ((-0.045, 0.07, 0.045, -0.06, 220, 120, 30), (-0.045, 0.07, 0.045, 0.04, 245, 245, 245)),
    "sit down": CHAIR,
    "stand up": CHAIR,
    "pick up": ((-0.17, 0.1, 0.17, -0.14, 70, 130, 180), (-0.03, 0.1, 0.03, -0.14, 120, 190, 225)),
    "kick": ((-0.1, 0.06, 0.1, -0.06, 235, 240, 245), (-0.06, 0.1, 0.06, -0.1, 235, 240, 245)),
}


def project(points: Array) -> Array:
    """Pixels int32 [..., 2] of camera coordinates [..., 3]: a pinhole at the origin, in the middle of the image."""
    return np.rint(SIZE / 2 + FOCAL * points[..., :2] * (1, -1) / points[..., 2:]).astype(np.int32)


def make_room(rng: np.random.Generator) -> Array:
    """A wall and a floor of some colours, unevenly lit and rough: uint8 [SIZE, SIZE, 3]."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    wall, floor = rng.uniform(90, 210, (2, 1, 1, 3))
    stripes = 1 + 0.08 * np.sign(np.sin(x * rng.uniform(20, 60)))[..., None]
    light = 1.1 - 0.8 * np.hypot(x - rng.uniform(0.1, 0.9), y - rng.uniform(0, 0.4))[..., None]
    grain = cv2.GaussianBlur(rng.normal(0, 12, (SIZE, SIZE, 3)), (0, 0), 1.2)
    room = np.where(y[..., None] > 0.72, floor * 0.8, wall * stripes) * light + grain
    return room.clip(0, 255).astype(np.uint8)


def draw_prop(frame: Array, label: str, at: Array) -> None:
    for *edges, blue, green, red in PROPS.get(label, ()):
        corners = project(at + np.pad(np.reshape(edges, (2, 2)), ((0, 0), (0, 1))))
        cv2.rectangle(frame, corners[0].tolist(), corners[1].tolist(), (blue, green, red), -1)


def draw_person(frame: Array, joints: Array, paints: Array) -> None:
    """One pose [20, 3]: limbs from the farthest to the nearest, the far ones darker."""
    middle = joints[0, 2]
    for chain, paint, width in sorted(STROKES, key=lambda stroke: -joints[stroke[0], 2].mean()):
        depth, points = joints[chain, 2].mean(), project(joints[chain])
        colour = (paints[paint] * np.clip(1 - (depth - middle), 0.6, 1.2)).tolist()
        if paint == SHIRT and len(chain) > 2:
            cv2.fillConvexPoly(frame, points, colour, cv2.LINE_AA)
        cv2.polylines(frame, [points], len(chain) > 3, colour, round(width * FOCAL / depth), cv2.LINE_AA)
    for lift, radius, paint in ((0.03, 0.115, SHOES), (0, 0.1, SKIN)):  # hair has the shoes' colour
        centre, size = project(joints[3] + (0, lift, 0)).tolist(), round(radius * FOCAL / joints[3, 2])
        cv2.circle(frame, centre, size, paints[paint].tolist(), -1, cv2.LINE_AA)


def render(label: str, joints: Array, prop: Array, rng: np.random.Generator) -> Iterator[Array]:
    """One image uint8 [SIZE, SIZE, 3] (BGR) a skeleton frame: the performer's room and clothes, the action's object."""
    room, paints = make_room(rng), rng.uniform(20, 235, (4, 3))
    paints[SKIN], paints[SHOES] = np.array([110, 150, 205]) * rng.uniform(0.5, 1.1), rng.uniform(10, 70)
    for pose, at in zip(joints, prop, strict=True):
        frame = room.copy()
        draw_prop(frame, label, at)
        draw_person(frame, pose, paints)
        if PROPS.get(label) is not CHAIR:  # all else is held or kicked before the body
            draw_prop(frame, label, at)
        yield frame


def write_video(path: Path, frames: Iterator[Array]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (SIZE, SIZE))
    if not writer.isOpened():
        raise OSError(f"{path}: cv2 cannot write an mp4v video here")
    for frame in frames:
        writer.write(frame)
    writer.release()

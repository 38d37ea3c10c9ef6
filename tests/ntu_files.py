"""Writes `.skeleton` files as NTU RGB+D distributes them: CRLF lines, seven or eight digits, ids of about 7e16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

JOINTS = 25
FIRST_ID = 72057594037931101  # beyond 2^53, so that neighbours are one float64
FOCUS, MIDDLE = (1081.37, -1081.37), (959.5, 539.5)  # a colour camera that looks along z, pixels

# joints of a standing person, metres, from the middle of the hips; y goes up
_STANDING = np.array(
    [
        *((0, 0, 0), (0, 0.3, 0), (0, 0.6, 0), (0, 0.7, 0), (-0.2, 0.5, 0), (-0.3, 0.25, 0), (-0.3, 0, 0)),
        *((-0.3, -0.1, 0), (0.2, 0.5, 0), (0.3, 0.25, 0), (0.3, 0, 0), (0.3, -0.1, 0), (-0.1, 0, 0)),
        *((-0.1, -0.4, 0), (-0.1, -0.8, 0), (-0.1, -0.85, -0.1), (0.1, 0, 0), (0.1, -0.4, 0), (0.1, -0.8, 0)),
        *((0.1, -0.85, -0.1), (0, 0.53, 0), (-0.3, -0.15, 0), (-0.25, -0.1, 0), (0.3, -0.15, 0), (0.25, -0.1, 0)),
    ],
    np.float32,
)


@dataclass(frozen=True)
class Seen:
    """A body in one frame: its joints [25, 3], metres, and their places in the colour video [25, 2], pixels."""

    body: str
    joints: np.ndarray
    pixels: np.ndarray


def standing(x: float = 0.0, *, y: float = 0.0, z: float = 3.0) -> np.ndarray:
    """A person who stands facing the camera, [25, 3]: 0.6 m wide and 1.55 m high."""
    return _STANDING + np.array([x, y, z], np.float32)


def seen(joints: np.ndarray, body: str = str(FIRST_ID)) -> Seen:
    """A body whose pixels are where a camera would see its joints."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = joints[:, :2] / joints[:, 2:] * np.array(FOCUS) + np.array(MIDDLE)
    return Seen(body, joints, pixels)


def acted(seed: int, frames: int = 90) -> list[list[Seen]]:
    """Frames as most of the data set's are: a person about three metres away who moves; every eighth time, two."""
    random = np.random.default_rng(seed)
    people = 2 if seed % 8 == 7 else 1
    swing, phase = random.normal(0, 0.05, (people, JOINTS, 3)), random.uniform(0, 6, (people, JOINTS, 1))
    jitter = random.normal(0, 0.003, (frames, people, JOINTS, 3))
    steps = np.arange(frames)[:, None, None, None] / 15
    joints = np.stack([standing(0.8 * person) for person in range(people)]) + swing * np.sin(steps + phase) + jitter
    return [[seen(body, str(FIRST_ID + person)) for person, body in enumerate(frame)] for frame in joints]


def skeleton_text(frames: Sequence[Sequence[Seen]], newline: str = "\r\n") -> str:
    """The file of some frames, each with the bodies that are seen in it."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += [f"{body.body} 0 1 1 1 1 0 0.01119184 -0.256052 2", str(len(body.joints))]
            lines += [_joint(*row) for row in zip(body.joints, body.pixels, strict=True)]
    return newline.join(lines) + newline


def write_skeleton(folder: Path, name: str, frames: Sequence[Sequence[Seen]]) -> Path:
    """Write folder/NAME.skeleton and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.skeleton"
    path.write_bytes(skeleton_text(frames).encode())
    return path


def _joint(place: np.ndarray, pixel: np.ndarray) -> str:
    """x y z, x and y in the depth and in the colour picture, orientation w x y z, tracking state."""
    depth = pixel * 0.2 + 20
    numbers = " ".join(f"{number:.7g}" for number in (*place, *depth, *pixel, -0.2059419, 0.05349901, 0.9692109))
    return f"{numbers} -0.1239193 2"

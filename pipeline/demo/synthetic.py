"""A small labelled data set made by code: jointed figures acting out six actions, and their videos.

Coordinates are the camera's: x to the right of the image, y up, z away, in metres. Joints are Kinect v1's twenty.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .drawing import Array, render, write_video

PARENTS = (-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18)
MIRRORED = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15]
# A bone goes by the joint it ends at. The second of each pair is the working side, right unless a clip is mirrored.
SPINE, CHEST, NECK, FOOT = 1, 2, 3, 19
UPPER_ARMS, FOREARMS, THIGHS, SHINS, FEET = [5, 9], [6, 10], [13, 17], [14, 18], [15, 19]
UPPER_ARM, FOREARM, HAND, THIGH, SHIN = 9, 10, 11, 17, 18
TURN, FLEX, SPREAD = 0, 1, 2  # about y, then forward for what hangs down, then away from the body
SIDE = np.array([1] * 8 + [-1] * 4 + [1] * 4 + [-1] * 4)  # so that one sign means "away from the body" on both sides

FLOOR, NOISE = -0.95, 0.005  # metres


class Manner(NamedTuple):
    """How someone moves: a performer's habit lies between LOWEST and HIGHEST, and a trial DEVIATES from it."""

    speed: float
    amplitude: float
    phase: float  # of what repeats, in turns
    start: float  # when the action begins, as a part of the clip
    lean: float  # forward, radians
    yaw: float  # 0 faces the camera
    hand: float  # left below LEFTY
    x: float  # of the feet, metres
    z: float


LOWEST = Manner(0.75, 0.6, 0.0, 0.05, -0.05, -1.1, 0.0, -0.25, 2.9)
HIGHEST = Manner(1.5, 1.15, 1.0, 0.25, 0.25, 1.1, 1.0, 0.25, 3.5)
DEVIATES = Manner(0.1, 0.1, 0.2, 0.06, 0.04, 0.35, 0.15, 0.08, 0.1)
LEFTY = 0.3


def make_body(rng: np.random.Generator) -> Array:
    """A person of 1.5 to 1.95 m, standing, arms down: where each joint lies from its parent [20, 3]."""
    height = rng.uniform(1.5, 1.95)
    arm, leg, trunk = height * rng.normal(1, 0.05, 3)
    shoulder, hip = height * rng.uniform(0.09, 0.125), height * rng.uniform(0.05, 0.062)
    offsets = np.zeros((20, 3))
    offsets[[SPINE, CHEST, NECK], 1] = np.array([0.08, 0.24, 0.13]) * trunk
    offsets[4], offsets[12] = (shoulder, -0.02 * height, 0), (hip, -0.03 * height, 0)
    offsets[[5, 6, 7], 1] = -np.array([0.17, 0.15, 0.05]) * arm
    offsets[[13, 14], 1] = -np.array([0.24, 0.23]) * leg
    offsets[15] = (0.01 * leg, -0.03 * leg, -0.08 * leg)
    for left in (*range(4, 8), *range(12, 16)):
        offsets[MIRRORED[left]] = offsets[left] * (-1, 1, 1)
    return offsets


def ramp(t: Array, start: float, end: float) -> Array:
    """0 before start, 1 after end, smooth between."""
    x = np.clip((t - start) / (end - start), 0, 1)
    return x * x * (3 - 2 * x)


def rise(t: Array, m: Manner) -> Array:
    """Up as the action begins, and down again near the end of the clip."""
    return ramp(t, m.start, m.start + 0.2) - ramp(t, 0.78, 0.96)


def crouch(pose: Array, thigh: Array, shin: Array) -> None:
    """Bend both legs, soles flat."""
    pose[:, THIGHS, FLEX] += thigh[:, None]
    pose[:, SHINS, FLEX] -= shin[:, None]
    pose[:, FEET, FLEX] += (shin - thigh)[:, None]


def wave(pose: Array, t: Array, m: Manner) -> None:
    up, swing = rise(t, m), np.sin(2 * np.pi * (3.5 * t + m.phase))
    pose[:, UPPER_ARM, SPREAD] += 1.35 * m.amplitude * up
    pose[:, FOREARM, SPREAD] += up * (1.4 + 0.5 * m.amplitude * swing)


def drink(pose: Array, t: Array, m: Manner) -> None:
    up, tip = rise(t, m), ramp(t, 0.4, 0.55) - ramp(t, 0.65, 0.78)
    pose[:, UPPER_ARM, FLEX] += 0.15 + up * (0.55 * m.amplitude + 0.15 * tip)
    pose[:, UPPER_ARM, SPREAD] += 0.25 * up
    pose[:, FOREARM, FLEX] += 1.0 + 1.25 * up
    pose[:, FOREARM, TURN] += 0.6 * up
    pose[:, NECK, FLEX] += 0.3 * tip


def sit(pose: Array, m: Manner, seated: Array) -> None:
    """Between standing (0) and seated (1); the trunk tips forward on the way."""
    crouch(pose, 1.5 * seated, 1.5 * seated)
    pose[:, SPINE, FLEX] -= 2.4 * m.amplitude * seated * (1 - seated)
    pose[:, UPPER_ARMS, FLEX] += (0.5 * seated)[:, None]
    pose[:, FOREARMS, FLEX] += (0.7 * seated)[:, None]


def pick_up(pose: Array, t: Array, m: Manner) -> None:
    """Down to the floor with both hands, and up again holding what lay there."""
    down = ramp(t, m.start, m.start + 0.3) - ramp(t, m.start + 0.35, m.start + 0.65)
    holding = ramp(t, m.start + 0.4, m.start + 0.65)
    crouch(pose, 1.35 * m.amplitude * down, 1.6 * m.amplitude * down)
    pose[:, SPINE, FLEX] -= 1.0 * down
    pose[:, UPPER_ARMS, FLEX] += (0.9 * down + 0.3 * holding)[:, None]
    pose[:, FOREARMS, FLEX] += (0.3 * down + 1.1 * holding)[:, None]
    pose[:, UPPER_ARMS, SPREAD] -= (0.1 * (down + holding))[:, None]


def kick(pose: Array, t: Array, m: Manner) -> None:
    hit = m.start + 0.4
    back = ramp(t, m.start, hit - 0.12) - ramp(t, hit - 0.12, hit)
    forth = ramp(t, hit - 0.1, hit + 0.05) - ramp(t, hit + 0.1, hit + 0.35)
    pose[:, THIGH, FLEX] += m.amplitude * (1.15 * forth - 0.45 * back)
    pose[:, SHIN, FLEX] -= 0.15 * forth + 1.2 * back
    pose[:, UPPER_ARMS, FLEX] += np.stack([0.6 * forth, -0.5 * forth], 1)
    pose[:, SPINE, FLEX] += 0.2 * forth


ACTIONS: dict[str, Callable[[Array, Array, Manner], None]] = {
    "wave": wave,
    "drink": drink,
    "sit down": lambda pose, t, m: sit(pose, m, ramp(t, m.start + 0.1, m.start + 0.55)),
    "stand up": lambda pose, t, m: sit(pose, m, 1 - ramp(t, m.start + 0.1, m.start + 0.55)),
    "pick up": pick_up,
    "kick": kick,
}
CLASSES = tuple(ACTIONS)


def act(label: str, m: Manner, rng: np.random.Generator) -> Array:
    """Turn, flex and spread of every bone [T, 20, 3]: posture, a little sway and the action."""
    t = np.linspace(0, 1, int(np.clip(46 / m.speed, 30, 60)))
    pose = 0.1 * np.sin(2 * np.pi * (rng.uniform(0.5, 1.5, (20, 3)) * t[:, None, None] + rng.uniform(size=(20, 3))))
    pose[:, 0] *= 0.3  # the root tilts the whole body
    pose[:, [SPINE, NECK], FLEX] += (-m.lean, m.lean / 2)
    pose[:, UPPER_ARMS, SPREAD] += 0.15
    pose[:, FOREARMS, FLEX] += 0.2
    ACTIONS[label](pose, t, m)
    middle = np.where(np.arange(20)[:, None] < 4, [-1, 1, -1], 1)
    return pose[:, MIRRORED] * middle if m.hand < LEFTY else pose


def rotations(angles: Array) -> Array:
    """Turn, flex, spread [..., 3] as rotation matrices [..., 3, 3], spread applied first."""
    (a, b, c), (d, e, f) = np.moveaxis(np.cos(angles), -1, 0), np.moveaxis(np.sin(angles), -1, 0)
    zero, one = np.zeros_like(a), np.ones_like(a)
    turn = np.stack([a, zero, d, zero, one, zero, -d, zero, a], -1).reshape(*a.shape, 3, 3)
    flex = np.stack([one, zero, zero, zero, b, -e, zero, e, b], -1).reshape(*a.shape, 3, 3)
    spread = np.stack([c, -f, zero, f, c, zero, zero, zero, one], -1).reshape(*a.shape, 3, 3)
    return turn @ flex @ spread


def place_joints(offsets: Array, pose: Array, m: Manner) -> Array:
    """Forward kinematics: joints [T, 20, 3] in camera coordinates, the standing foot on its place on the floor."""
    angles = pose * np.stack([SIDE, np.ones(20), SIDE], 1)
    angles[:, 0, TURN] += m.yaw
    turned, joints = rotations(angles), np.zeros_like(angles)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        turned[:, joint] = turned[:, parent] @ turned[:, joint]
        joints[:, joint] = joints[:, parent] + turned[:, joint] @ offsets[joint]
    ankles = joints[:, SHINS]
    height = ankles[..., 1:2]
    weight = np.exp((height.min(1, keepdims=True) - height) / 0.05)  # a lifted foot carries nothing
    standing = (weight * ankles).sum(1) / weight.sum(1)
    standing[:, 1] = joints[:, [*SHINS, *FEET], 1].min(1)
    return joints + (np.array([m.x, FLOOR, m.z]) - standing)[:, None]


def prop_path(label: str, joints: Array, m: Manner) -> Array:
    """Where the action's object is [T, 3]: cup in hand, chair, box before and after the lift, ball."""
    hand, foot = (joints[:, MIRRORED[joint] if m.hand < LEFTY else joint] for joint in (HAND, FOOT))
    if label == "drink":
        return hand
    if label in ("sit down", "stand up"):
        return np.repeat(joints[[joints[:, 0, 1].argmin()], 0], len(joints), axis=0)
    if label == "pick up":
        hands = joints[:, [7, 11]].mean(1)
        return hands[np.maximum(np.arange(len(hands)), hands[:, 1].argmin())]
    hit = np.linalg.norm(np.gradient(foot, axis=0), axis=1).argmax()
    after = np.maximum(np.arange(len(foot)) - hit, 0)[:, None]
    return (foot[hit][0], FLOOR + 0.1, foot[hit][2]) + after * 0.07 * np.array([-np.sin(m.yaw), 0.3, -np.cos(m.yaw)])


def make_clip(root: Path, seed: int, subject: int, label: str, trial: int) -> tuple[str, str, int, str, str, str]:
    """Write one skeleton and its video under root; its row of the table."""
    own, rng = (
        np.random.default_rng((seed, subject)),
        np.random.default_rng((seed, subject, CLASSES.index(label), trial)),
    )
    body, habit = make_body(own), own.uniform(LOWEST, HIGHEST)
    manner = Manner(*rng.normal(habit, DEVIATES))
    joints = place_joints(body, act(label, manner, rng), manner)
    name = f"{label.replace(' ', '-')}_s{subject:02d}_t{trial}"
    skeleton, video = f"skeletons/{name}.npy", f"videos/{name}.mp4"
    np.save(root / skeleton, (joints + rng.normal(0, NOISE, joints.shape)).astype(np.float32))
    write_video(root / video, render(label, joints, prop_path(label, joints, manner), own))
    return name, label, subject, "test" if subject % 5 in (0, 2) else "train", skeleton, video


def fill(root: Path, clips: list[tuple[int, str, int]], seed: int, progress: Callable[[int, int], None] | None) -> None:
    for folder in ("skeletons", "videos"):
        (root / folder).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool, (root / "samples.csv").open("w", newline="") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("name", "label", "subject", "split", "skeleton", "video"))
        for done, row in enumerate(pool.map(lambda clip: make_clip(root, seed, *clip), clips), start=1):
            rows.writerow(row)
            if progress:
                progress(done, len(clips))


def make_dataset(
    root: Path,
    *,
    performers: int = 10,
    trials: int = 4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write root/samples.csv, skeletons/NAME.npy (float32 [T, 20, 3]) and videos/NAME.mp4; nothing if they are there.

    They are made aside and moved to root when complete. progress is called with clips done and clips in all.
    """
    if (root / "samples.csv").exists():
        return
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root}: holds files but no samples.csv; give a new or an empty folder")
    if performers < 2 or trials < 1:
        raise ValueError(f"performers={performers}, trials={trials}: at least 2 performers and 1 trial are needed")
    clips = [(s, label, t) for s in range(1, performers + 1) for label in CLASSES for t in range(1, trials + 1)]
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as aside:
        fill(Path(aside) / "made", clips, seed, progress)
        (Path(aside) / "made").replace(root)

"""The text of an NTU RGB+D `.skeleton` file -> every body in every frame.

A line with the number of frames; for each frame a line with its number of bodies; for each body a line of 10 fields
(the first is its tracking id), a line with the number of its joints, and a line of 12 fields for each joint: x y z,
depth x y, colour x y, orientation w x y z, tracking state.

Source: read_skeleton_file.m at github.com/shahroudy/NTURGB-D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

JOINTS = 25
COLOUR_SIZE = (1920, 1080)  # pixels of the colour video
_BODY_FIELDS, _JOINT_FIELDS = 10, 12
_USED = (0, 1, 2, 5, 6, 11)  # x y z, colour x y, and the last: nothing else is turned into numbers
_DIGITS = 9  # of a count, at most
_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 24  # characters of a faulty line


@dataclass(frozen=True)
class SkeletonFile:
    """Every body in every frame, a row each, in the file's order.

    `ids` are the bodies' tracking ids, as text: at about 7e16 two of them may be one float64. `frame` int64 [rows]
    counts from 0. joints float32 [rows, 25, 3]: metres, from the camera. image_points float32 [rows, 25, 2]: x and y
    in the colour video as shares of its width and height, NaN where the file has no finite number.
    """

    frames: int
    ids: tuple[str, ...]
    frame: np.ndarray
    joints: np.ndarray
    image_points: np.ndarray


def parse_skeleton(content: bytes) -> SkeletonFile:
    """What a `.skeleton` file says; ValueError with the line and the frame where it is not in the format.

    Lines may end in CRLF or LF. Nothing is allocated for a count that the file only claims.
    """
    lines = _lines(content)
    frames, at = _count(lines, 0, "frames"), 1
    ids, frame, starts = list[str](), list[int](), list[int]()
    for number in range(frames):
        bodies, at = _count(lines, at, "bodies", number), at + 1
        for _ in range(bodies):
            ids.append(_body_id(lines, at, number))
            frame.append(number)
            starts.append(at + 2)
            at += 2 + JOINTS
    if at != len(lines):
        raise ValueError(f"line {at + 1}: {lines[at][:_SHOWN]!r} after the last of {frames} frames")
    joints = [line for start in starts for line in lines[start : start + JOINTS]]
    spaces = (_BODY_FIELDS - 1) * len(ids) + (_JOINT_FIELDS - 1) * len(joints)
    found = _numbers(joints, tidy=_spaces(content) == spaces)
    if found is None:
        raise ValueError(_first_fault(lines, frame, starts))
    return _assembled(frames, ids, frame, found)


def _lines(content: bytes) -> list[str]:
    try:
        lines = content.decode("ascii").rstrip().splitlines()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: byte {content[error.start]:#04x} is not text of a .skeleton file") from error
    if not lines:
        raise ValueError("an empty file")
    return lines


def _count(lines: Sequence[str], at: int, what: str, frame: int | None = None) -> int:
    text = _line(lines, at, frame).strip()
    if not text.isdigit() or len(text) > _DIGITS:
        raise ValueError(f"{_place(at, frame)}: {text[:_SHOWN]!r}, wanted the number of {what}")
    return int(text)


def _body_id(lines: Sequence[str], at: int, frame: int) -> str:
    """The tracking id of the body that begins at a line, all of whose lines are there."""
    fields = _line(lines, at, frame).split()
    if len(fields) != _BODY_FIELDS or not fields[0].isdigit():
        found = lines[at][:_SHOWN]
        raise ValueError(f"{_place(at, frame)}: {found!r}, wanted {_BODY_FIELDS} fields of a body, its id first")
    if (joints := _count(lines, at + 1, "joints", frame)) != JOINTS:
        raise ValueError(f"{_place(at + 1, frame)}: {joints} joints, wanted {JOINTS}")
    _line(lines, at + 1 + JOINTS, frame)
    return fields[0]


def _line(lines: Sequence[str], at: int, frame: int | None) -> str:
    if at >= len(lines):
        where = "" if frame is None else f" in frame {frame + 1}"
        raise ValueError(f"ends at line {len(lines)}{where}, of {lines[0][:_DIGITS]} frames")
    return lines[at]


def _spaces(content: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord(" ")))  # a third of bytes.count's time


def _numbers(joints: Sequence[str], *, tidy: bool) -> np.ndarray | None:
    """The used fields of all joints, float32 [rows * 25, 6]; None where one is at fault.

    numpy's reader takes half the time that Python's float does. It refuses lines of fewer than 12 fields; a file of
    no more spaces than 12 fields a joint need (`tidy`) has no line of more.
    """
    if not joints:
        return np.zeros((0, len(_USED)), np.float32)
    if not tidy and any(len(line.split()) != _JOINT_FIELDS for line in joints):
        return None
    try:
        found = np.loadtxt(joints, np.float32, comments=None, usecols=_USED, ndmin=2)
    except ValueError:
        return None
    return found if len(found) == len(joints) and np.isfinite(found[:, :3]).all() else None


def _first_fault(lines: Sequence[str], frame: Sequence[int], starts: Sequence[int]) -> str:
    for number, start in zip(frame, starts, strict=True):
        for at in range(start, start + JOINTS):
            fields = lines[at].split()
            if len(fields) != _JOINT_FIELDS:
                return f"{_place(at, number)}: {len(fields)} fields, wanted {_JOINT_FIELDS} of a joint"
            wrong = [fields[used] for used in _USED if not _is_number(fields[used], finite=used in _USED[:3])]
            if wrong:
                return f"{_place(at, number)}: {wrong[0][:_SHOWN]!r}, wanted a number"
    return "joints that are not numbers"


def _is_number(text: str, *, finite: bool) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return "_" not in text and (abs(value) <= _LARGEST or not finite)


def _assembled(frames: int, ids: Sequence[str], frame: Sequence[int], numbers: np.ndarray) -> SkeletonFile:
    numbers = numbers.reshape(len(ids), JOINTS, len(_USED))
    points = numbers[..., 3:5] / np.array(COLOUR_SIZE, np.float32)
    points[~np.isfinite(points)] = np.nan
    return SkeletonFile(frames, tuple(ids), np.array(frame, np.int64), numbers[..., :3].copy(), points)


def _place(at: int, frame: int | None) -> str:
    return f"line {at + 1}" if frame is None else f"line {at + 1}, frame {frame + 1}"

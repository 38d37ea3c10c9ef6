"""A few frames of one video by one exact sequential pass, under a deadline."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# a broken clip is a row in the cache, not noise on the terminal
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv")
ENDINGS = (
    "",
    "_rgb",
    "_color",
    "_depth",
)  # what data sets put behind the sample's name; the commonest counts
DEADLINE = 120.0  # seconds for one clip


@dataclass(frozen=True)
class Clip:
    """Frames uint8 RGB [n, H, W, 3], their numbers in the video [n], and how many frames the video really has."""

    frames: np.ndarray
    index: np.ndarray
    total: int


@dataclass(frozen=True)
class Videos:
    """The videos found for the samples: by name, and the pattern they share, such as "{name}_depth"."""

    paths: dict[str, Path]
    pattern: str


def find_videos(folder: Path, names: Sequence[str]) -> Videos:
    """The video of each sample, by name, anywhere under `folder`; samples without one are left out.

    Raises FileNotFoundError or ValueError where there is no folder, no fitting video, or two for one sample.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of videos")
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            found[path.stem].append(path)
    ending = max(ENDINGS, key=lambda ending: sum(name + ending in found for name in names))
    paths = {name: found[name + ending] for name in names if name + ending in found}
    if paths:
        return Videos(_single(paths), f"{{name}}{ending}")
    raise ValueError(f"{folder}: no video of any of {len(names)} samples; {_what_was_looked_for(names, list(found))}")


def read_clip(path: Path, count: int, deadline: float = DEADLINE) -> Clip:
    """`count` frames at the centres of as many equal parts of the video, in time order.

    The header's frame count is only a guess: where it lies, the video is read again with the true one. Raises
    ValueError for what can't be decoded, TimeoutError past the deadline (seconds).
    """
    until = time.monotonic() + deadline
    frames, total = _decode(path, None, count, until)
    wanted = bin_centres(total, count)
    if any(number not in frames for number in wanted):
        frames, again = _decode(path, total, count, until)
        if again != total or any(number not in frames for number in wanted):
            raise ValueError(f"undecodable: frames {sorted(set(wanted) - set(frames))} of {total} can't be decoded")
    return Clip(np.stack([frames[number] for number in wanted]), np.array(wanted), total)


def bin_centres(total: int, count: int) -> list[int]:
    """The middles of `count` equal parts of `total` frames; the paper's code never looks at the last part."""
    return [min(int((i + 0.5) * total / count), total - 1) for i in range(count)]


def _decode(path: Path, total: int | None, count: int, until: float) -> tuple[dict[int, np.ndarray], int]:
    """The wanted frames by number, and the number of frames that were really there."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise ValueError(f"unreadable: {'an empty file' if not path.stat().st_size else 'not a video'}")
        claimed = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if total is None else total
        wanted = set(bin_centres(claimed, count)) if 0 < claimed < 1 << 31 else set[int]()
        return _walk(capture, wanted, until)
    finally:
        capture.release()


def _walk(capture: cv2.VideoCapture, wanted: set[int], until: float) -> tuple[dict[int, np.ndarray], int]:
    frames, number = dict[int, np.ndarray](), 0
    while capture.grab():
        if number in wanted:
            there, frame = capture.retrieve()
            if there:
                frames[number] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        number += 1
        if time.monotonic() > until:
            raise TimeoutError(f"timeout: stopped at frame {number}")
    if not number:
        raise ValueError("undecodable: no frame could be decoded")
    return frames, number


def _single(paths: dict[str, list[Path]]) -> dict[str, Path]:
    for name, fitting in paths.items():
        if len(fitting) > 1:
            raise ValueError(
                f"{name}: {len(fitting)} videos of this name ({fitting[0]}, {fitting[1]}); give the folder of one kind"
            )
    return {name: fitting[0] for name, fitting in paths.items()}


def _what_was_looked_for(names: Sequence[str], found: list[str]) -> str:
    looked = ", ".join(f"{names[0]}{ending}" for ending in ENDINGS)
    return f"looked for {looked} ({' '.join(SUFFIXES)}); found {', '.join(found[:3]) or 'no video at all'}"

"""A few frames of one video, or of one folder of images, by one exact sequential pass."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# a broken clip is a row in the cache, not noise on the terminal
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
COLOURED = ("rgb", "color")  # the pictures wanted of a folder that mixes kinds: frame_1_rgb.jpg, frame_1_depth.png

Alive = Callable[[], None]


@dataclass(frozen=True)
class Clip:
    """Frames uint8 RGB [n, H, W, 3], their numbers in the video [n], and how many frames the video really has.

    `claimed` is the number in the video's header, 0 where it says none or nonsense: another one tells of damage.
    """

    frames: np.ndarray
    index: np.ndarray
    total: int
    claimed: int


def size_of(path: Path) -> int:
    """Bytes of a video's file, or of all frames in a folder; OSError or ValueError where there is none."""
    return sum(file.stat().st_size for file in (frame_files(path) if path.is_dir() else [path]))


def read_clip(path: Path, counts: Sequence[int], alive: Alive = lambda: None) -> list[Clip]:
    """For each count that many frames, at the centres of as many equal parts of the video, in time order.

    All come from one pass over the video, unless its header lies about the number of frames: then it is read again
    with the true one. `alive` is called at every frame passed. Raises OSError for a file that can't be opened and
    ValueError for what can't be decoded.
    """
    read = _read_folder if path.is_dir() else _read_video
    frames, total, claimed = read(path, counts, alive)
    if len({frame.shape for frame in frames.values()}) > 1:
        sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames.values()})
        raise ValueError(f"undecodable: frames of different sizes ({', '.join(sizes)}); those of a clip have one")
    indices = [bin_centres(total, count) for count in counts]
    return [Clip(np.stack([frames[i] for i in index]), np.array(index), total, claimed) for index in indices]


def has_suffix(file: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name ends so, in any case; those that a file manager hides never do."""
    return file.lower().endswith(suffixes) and not file.startswith(".")


def bin_centres(total: int, count: int) -> list[int]:
    """The middles of `count` equal parts of `total` frames; the paper's code never looks at the last part."""
    return [min(int((i + 0.5) * total / count), total - 1) for i in range(count)]


def frame_files(folder: Path) -> list[Path]:
    """The frames of a folder of images in the order of their numbers; of several kinds of pictures the coloured one.

    Raises ValueError where there are none, or kinds between which the names don't decide.
    """
    kinds = defaultdict[str, list[str]](list)
    for name in os.listdir(folder):  # noqa: PTH208 - a Path a frame costs more than all the rest
        if has_suffix(name, (*IMAGES, *SUFFIXES)):
            kinds[re.sub("[0-9]+", "#", name.lower())].append(name)
    names = sorted(_of_one_kind(folder, kinds), key=lambda name: (_numbers(name), name))
    return [folder / name for name in names]


def _of_one_kind(folder: Path, kinds: Mapping[str, list[str]]) -> list[str]:
    if not kinds:
        raise ValueError(f"unreadable: no images in the folder {folder.name}")
    for fitting in (list(kinds), *([kind for kind in kinds if word in kind] for word in COLOURED)):
        if len(fitting) == 1:
            return kinds[fitting[0]]
    examples = sorted(min(names) for names in kinds.values())
    raise ValueError(
        f"unreadable: {folder.name} has pictures of {len(kinds)} kinds ({', '.join(examples[:4])}) and nothing tells "
        f"which are the frames; leave those alone in it, or call them {' or '.join(COLOURED)}"
    )


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", name)]


def _wanted(total: int, counts: Sequence[int]) -> set[int]:
    return {number for count in counts for number in bin_centres(total, count)} if total else set()


Decoded = tuple[dict[int, np.ndarray], int, int]  # the wanted frames by number, how many there are, how many claimed


def _read_folder(folder: Path, counts: Sequence[int], alive: Alive) -> Decoded:
    files, frames = frame_files(folder), dict[int, np.ndarray]()
    for number in sorted(_wanted(len(files), counts)):
        frames[number] = _image(files[number])
        alive()
    return frames, len(files), len(files)


def _image(file: Path) -> np.ndarray:
    content = np.fromfile(file, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    if image is None:
        raise ValueError(f"undecodable: {file.name} is {'no image' if content.size else 'an empty file'}")
    return image


def _read_video(path: Path, counts: Sequence[int], alive: Alive) -> Decoded:
    frames, total, claimed = _decode(path, None, counts, alive)
    wanted = _wanted(total, counts)
    if not wanted <= frames.keys():
        frames, again, _ = _decode(path, total, counts, alive)
        if again != total:
            raise ValueError(f"undecodable: {total} frames at the first reading, {again} at the second")
        if not wanted <= frames.keys():
            raise ValueError(f"undecodable: frames {sorted(wanted - frames.keys())} of {total} can't be decoded")
    return {number: frames[number] for number in wanted}, total, claimed


def _decode(path: Path, total: int | None, counts: Sequence[int], alive: Alive) -> Decoded:
    name: Any = os.fsencode(path.absolute())  # OpenCV takes bytes, and crashes on a name that is no UTF-8
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise ValueError(f"unreadable: {'not a video' if _has_bytes(path) else 'an empty file'}")
        header = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        claimed = int(header) if 0 < header < 1 << 31 else 0
        frames, there = _walk(capture, _wanted(claimed if total is None else total, counts), alive)
        return frames, there, claimed
    finally:
        capture.release()


def _walk(capture: cv2.VideoCapture, wanted: set[int], alive: Alive) -> tuple[dict[int, np.ndarray], int]:
    frames, number = dict[int, np.ndarray](), 0
    while capture.grab():
        if number in wanted:
            there, frame = capture.retrieve()
            if there:
                frames[number] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        number += 1
        alive()
    if not number:
        raise ValueError("undecodable: no frame could be decoded")
    return frames, number


def _has_bytes(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(file.read(1))

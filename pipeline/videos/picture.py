"""The person image: crops in time order laid out as one picture or several, and the JPEG files they are kept as."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

GREY = 127  # of a blank image, and of what lies outside the picture
QUALITY = 95
MOST = 64  # frames of a layout


@dataclass(frozen=True)
class ImageLayout:
    """How a clip becomes an image: how many frames it takes, the side of its pictures in pixels, and how they fit.

    "strip" lays its crops side by side, each squeezed to an equal part of one square picture (MMCL, I). The others
    keep the crops' proportions: "single" is one square picture, "frames-N" N of them, all cut from the same place.
    """

    name: str
    frames: int
    size: int
    resize: str
    version: int  # raised when the numbers of this layout change

    @property
    def settings(self) -> dict[str, Any]:
        """What the recipe of the person images says."""
        return {
            "layout": self.name,
            "frames": self.frames,
            "sampling": "bin-centres",
            "size": self.size,
            "resize": self.resize,
            "jpeg_quality": QUALITY,
            "version": self.version,
        }

    def compose(self, frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The image of frames uint8 RGB [n, H, W, 3] and boxes [n, 4]: [size, size, 3], or of "frames-N" [N, ...]."""
        if self.name == "strip":
            return _strip(frames, boxes, self.size)
        box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        pictures = [_square(frame, box, self.size) for frame in frames]
        return pictures[0] if self.name == "single" else np.stack(pictures)

    def blank(self) -> np.ndarray:
        """What stands in a failed clip's place, so that the batch around it stays as it was."""
        picture = self.size, self.size, 3
        return np.full(picture if self.name in ONE_PICTURE else (self.frames, *picture), GREY, np.uint8)


ONE_PICTURE = {
    "strip": ImageLayout("strip", 5, 480, "cv2-area", 1),  # five crops of 96 x 480, as in the paper
    "single": ImageLayout("single", 1, 480, "cv2-area-cubic", 1),
}


def image_layout(name: str) -> ImageLayout:
    """The layout "strip", "single" or "frames-N"; ValueError with these choices for another name."""
    if name in ONE_PICTURE:
        return ONE_PICTURE[name]
    count = int(name[7:]) if re.fullmatch(r"frames-[1-9][0-9]?", name) else 0
    if not 2 <= count <= MOST:
        choices = f"{', '.join(ONE_PICTURE)} and frames-N, N from 2 to {MOST}"
        raise ValueError(f"no person-image layout {name!r}; there are {choices}")
    return ImageLayout(name, count, 256, "cv2-area-cubic", 1)


def to_jpegs(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image's pictures as JPEG files laid end to end, uint8 [bytes], and where each of them ends, int32 [k]."""
    files = [_to_jpeg(picture) for picture in (image if image.ndim == 4 else [image])]
    return np.concatenate(files), np.cumsum([len(file) for file in files], dtype=np.int32)


def from_jpegs(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The image that `to_jpegs` was given: [H, W, 3] of one file, [k, H, W, 3] of more; ValueError if damaged."""
    pictures = [_from_jpeg(data[start:end]) for start, end in zip([0, *ends][:-1], ends, strict=True)]
    if len({picture.shape for picture in pictures}) != 1:
        raise ValueError(f"damaged: {len(pictures)} pictures, wanted some, all of one size")
    return pictures[0] if len(pictures) == 1 else np.stack(pictures)


def _strip(frames: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    width = size // len(frames)
    crops = [frame[top:bottom, left:right] for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True)]
    return np.concatenate([cv2.resize(crop, (width, size), interpolation=cv2.INTER_AREA) for crop in crops], axis=1)


def _square(frame: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The square around a box, [size, size, 3]; it is moved into the frame, and grey where it is larger."""
    left, top, right, bottom = (int(edge) for edge in box)
    side = max(right - left, bottom - top)
    rows, down = _span(top + bottom, side, frame.shape[0], size)
    columns, across = _span(left + right, side, frame.shape[1], size)
    crop, shape = frame[rows, columns], (across.stop - across.start, down.stop - down.start)
    image = np.full((size, size, 3), GREY, np.uint8)
    smaller = side >= size
    image[down, across] = cv2.resize(crop, shape, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return image


def _span(twice_middle: int, side: int, extent: int, size: int) -> tuple[slice, slice]:
    """Along one axis: what is taken of the frame's `extent` pixels, and where it lies in the picture's `size`."""
    if side <= extent:
        start = min(max((twice_middle - side) // 2, 0), extent - side)
        return slice(start, start + side), slice(0, size)
    length = max(round(extent * size / side), 1)
    start = (size - length) // 2
    return slice(0, extent), slice(start, start + length)


def _to_jpeg(picture: np.ndarray) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
    if not done:
        raise RuntimeError(f"a picture of shape {picture.shape} could not be encoded as JPEG")
    return data.reshape(-1)


def _from_jpeg(data: np.ndarray) -> np.ndarray:
    picture = cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR) if len(data) else None
    if picture is None:
        raise ValueError(f"damaged: {len(data)} bytes that are no JPEG")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

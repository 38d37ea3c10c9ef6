"""Person boxes, and the person image: crops in time order side by side on one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import cv2
import numpy as np

FRAMES = 5
SIZE = 480  # side of the person image, pixels; each of the five crops is squeezed to 96 x 480 as in the paper
VERSION = 1  # raised when our person images change

STRIP: Mapping[str, Any] = {
    "layout": "strip",
    "frames": FRAMES,
    "sampling": "bin-centres",
    "size": SIZE,
    "resize": "cv2-area",
    "jpeg_quality": 95,
    "version": VERSION,
}


class Boxes(Protocol):
    """Finds the person: `settings` are part of the person images' recipe."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def find(self, frames: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Boxes int [n, 4] (left, top, right, bottom; pixels) of frames [n, H, W, 3], and bool [n]: who was found."""
        ...


class WholeFrame:
    """No search: the frame is the crop."""

    settings: Mapping[str, Any] = {"person": "frame"}

    def find(self, frames: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        count, height, width = frames.shape[:3]
        return np.tile([0, 0, width, height], (count, 1)), np.zeros(count, bool)


def person_image(frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Frames [n, H, W, 3] cropped to boxes [n, 4], side by side in time order: uint8 RGB [480, 480, 3] (MMCL, I)."""
    width = SIZE // len(frames)
    crops = [frame[top:bottom, left:right] for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True)]
    return np.concatenate([cv2.resize(crop, (width, SIZE), interpolation=cv2.INTER_AREA) for crop in crops], axis=1)


def blank_image() -> np.ndarray:
    """What stands in a failed clip's place, so that the batch around it stays as it was."""
    return np.full((SIZE, SIZE, 3), 127, np.uint8)


def to_jpeg(image: np.ndarray) -> np.ndarray:
    """RGB picture to the bytes of a JPEG file, uint8 [n]."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(STRIP["jpeg_quality"])]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    if not done:
        raise RuntimeError(f"a picture of shape {image.shape} could not be encoded as JPEG")
    return data.reshape(-1)


def from_jpeg(data: np.ndarray) -> np.ndarray:
    """The bytes of a JPEG file to an RGB picture; ValueError where they are none."""
    image = cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise ValueError(f"damaged: {len(data)} bytes that are no JPEG")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

"""What colours a person image has: an encoder without any weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 4  # a channel, so that the feature has 4 x 4 x 4 numbers


class Colours:
    layout = "strip"  # the person image that it looks at: five crops side by side, uint8 RGB [480, 480, 3]

    def __init__(self, device: str) -> None:
        self.device = device  # "cpu", "cuda" ...; where a network would be put when it is first needed
        self.settings = {"bins": BINS}  # whatever changes the numbers: the cache's key follows from it

    def prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The CPU's work, in a thread beside the device: each pixel's bin, int64 [n, pixels]."""
        bins = [image.reshape(-1, 3) // (256 // BINS) for image in images]
        return np.stack([pixel @ (BINS * BINS, BINS, 1) for pixel in bins])

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        """The device's work: the share of each colour, `feature` float32 [n, 64]."""
        counts = [np.bincount(pixels, minlength=BINS**3) / len(pixels) for pixels in prepared]
        return {"feature": np.stack(counts).astype(np.float32)}

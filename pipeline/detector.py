"""Person boxes from any transformers object detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForObjectDetection

from .checkpoint import find_checkpoint, pictures

CONFIDENCE = 0.25


class Detector:
    """The most confident person of each frame; where nobody is found, the box of the nearest frame with somebody.

    A clip in which nobody is found at all keeps whole frames, and its row says so.
    """

    def __init__(self, model: str, device: str) -> None:
        checkpoint = find_checkpoint(model)
        self._processor = checkpoint.image_processor()
        self._model, _ = checkpoint.load(AutoModelForObjectDetection, torch.float32, device, exact=True)
        self._person = _person_label(model, checkpoint.config.id2label)
        self.settings: Mapping[str, Any] = {
            "person": checkpoint.name,
            "person_fingerprint": checkpoint.fingerprint,
            "person_confidence": CONFIDENCE,
        }

    def find(self, frames: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        count, height, width = frames.shape[:3]
        found = [self._best(one, height, width) for one in self._detect(frames)]
        there = np.array([box is not None for box in found])
        if not there.any():
            return np.tile([0, 0, width, height], (count, 1)), there
        known = np.flatnonzero(there)
        nearest = [known[np.abs(known - frame).argmin()] for frame in range(count)]
        return np.array([found[frame] for frame in nearest]), there

    def _detect(self, frames: np.ndarray) -> list[dict[str, torch.Tensor]]:
        inputs = self._processor(images=pictures(list(frames)), return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        sizes = [frame.shape[:2] for frame in frames]
        return self._processor.post_process_object_detection(outputs, threshold=CONFIDENCE, target_sizes=sizes)

    def _best(self, found: dict[str, torch.Tensor], height: int, width: int) -> np.ndarray | None:
        people = found["labels"] == self._person
        if not people.any():
            return None
        box = found["boxes"][people][found["scores"][people].argmax()].cpu().numpy()
        low = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1))
        high = np.clip(np.ceil(box[2:]), low + 1, (width, height))
        return np.concatenate([low, high]).astype(int)


def _person_label(model: str, labels: Mapping[int, str] | Mapping[str, str] | None) -> int:
    for number, label in (labels or {}).items():
        if label.lower() == "person":
            return int(number)
    raise ValueError(
        f"{model}: none of its {len(labels or {})} classes is called person; give a detector that knows people"
    )

"""Person boxes from any transformers object detector."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForObjectDetection

from ..encoders.checkpoint import find_checkpoint, pictures
from ..extraction.shard import Shard, find_device
from .person import Found, Shot, nearest, whole_frame, within

CONFIDENCE = 0.25
SAME = 0.7  # two boxes that share more than this part of their union are one person, seen twice
RULE = 1  # raised when the boxes that the same answers give change
AT_ONCE = 16  # frames in one forward pass


@dataclass(frozen=True)
class Batch:
    """Preprocessed frames of one size, and whose they are: (shot, frame) of each."""

    places: list[tuple[int, int]]
    size: tuple[int, int]  # height and width before preprocessing
    inputs: Any


class Detector:
    """The most confident person of each frame; of a clip with `people` two or more, the two most confident together.

    A frame where nobody is found takes the box of the nearest frame with somebody; a clip in which nobody is found at
    all keeps whole frames, and its row says so. Weights are loaded at the first `find`; ValueError, there or here,
    for a detector that can't be loaded or does not know people.
    """

    def __init__(self, model: str, device: str, people: Mapping[str, int]) -> None:
        checkpoint = find_checkpoint(model)
        checkpoint.check_class(AutoModelForObjectDetection)
        self._checkpoint, self._people = checkpoint, people
        self._device = find_device(None, Shard()) if device == "auto" else device  # it is small: one is enough
        self._person = _person_label(model, checkpoint.config.id2label)
        self._processor = checkpoint.image_processor()
        account = checkpoint.account(checkpoint.class_name(AutoModelForObjectDetection), self._processor)
        self.settings: Mapping[str, Any] = {
            "person": account.pop("model"),
            **{f"person_{name}": value for name, value in account.items()},
            "person_dtype": "float32",
            "person_confidence": CONFIDENCE,
            "person_rule": RULE,
            "person_pairs": _digest(sorted(name for name, count in people.items() if count > 1)),
        }

    def prepare(self, shots: Sequence[Shot], /) -> list[Batch]:
        """The frames of all shots, preprocessed; only frames of one size share a batch, so that none is padded."""
        return [
            Batch(places, size, self._processor(images=_pictures(shots, places), return_tensors="pt"))
            for size, places in _batches(shots)
        ]

    def find(self, shots: Sequence[Shot], prepared: Sequence[Batch], /) -> list[Found]:
        boxes: list[list[np.ndarray | None]] = [[None] * len(shot.frames) for shot in shots]
        for batch in prepared:
            for (number, frame), answer in zip(batch.places, self._answers(batch), strict=True):
                boxes[number][frame] = self._box(answer, self._people.get(shots[number].name, 1))
        return [_completed(shot, found) for shot, found in zip(shots, boxes, strict=True)]

    @cached_property
    def _model(self) -> Any:
        model, _ = self._checkpoint.load(AutoModelForObjectDetection, torch.float32, self._device, exact=True)
        return model

    def _answers(self, batch: Batch) -> list[dict[str, torch.Tensor]]:
        """Scores, labels and boxes (pixels) of what is seen in each frame."""
        with torch.inference_mode():
            said = self._model(**{name: part.to(self._model.device) for name, part in batch.inputs.items()})
        seen = SimpleNamespace(logits=said.logits.cpu(), pred_boxes=said.pred_boxes.cpu())
        sizes = [batch.size] * len(batch.places)
        return self._processor.post_process_object_detection(seen, threshold=CONFIDENCE, target_sizes=sizes)

    def _box(self, answer: dict[str, torch.Tensor], people: int) -> np.ndarray | None:
        """The box around the people that count, [4], or None where there is nobody."""
        persons = answer["labels"] == self._person
        order = answer["scores"][persons].argsort(descending=True, stable=True)
        boxes = answer["boxes"][persons][order].numpy()
        if not len(boxes):
            return None
        counted = np.concatenate([boxes[:1], _others(boxes)[: min(people, 2) - 1]])
        return np.concatenate([counted[:, :2].min(axis=0), counted[:, 2:].max(axis=0)])


def _batches(shots: Sequence[Shot]) -> Iterator[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """All frames of all shots as (height, width) and the (shot, frame) of that size, so many at once as allowed."""
    by_size: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for number, shot in enumerate(shots):
        height, width = shot.frames.shape[1:3]
        by_size[height, width] += [(number, frame) for frame in range(len(shot.frames))]
    for size, places in by_size.items():
        for start in range(0, len(places), AT_ONCE):
            yield size, places[start : start + AT_ONCE]


def _pictures(shots: Sequence[Shot], places: Sequence[tuple[int, int]]) -> list[Any]:
    return pictures([shots[number].frames[frame] for number, frame in places])


def _completed(shot: Shot, boxes: Sequence[np.ndarray | None]) -> Found:
    """A box for every frame of the shot, of those that some frames have."""
    there = np.array([box is not None for box in boxes])
    if not there.any():
        return whole_frame(shot)
    chosen = np.array([boxes[frame] for frame in nearest(there, np.arange(len(boxes)))])
    return Found(within(chosen, *shot.frames.shape[1:3]), there)


def _others(boxes: np.ndarray) -> np.ndarray:
    """Those of boxes [k, 4] that show somebody else than the first."""
    low, high = np.maximum(boxes[0, :2], boxes[:, :2]), np.minimum(boxes[0, 2:], boxes[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return boxes[shared <= SAME * (areas[0] + areas - shared)]


def _digest(names: Sequence[str]) -> str:
    """Twelve hex digits that change with the clips of two people; "" where there are none."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12] if names else ""


def _person_label(model: str, labels: Mapping[int, str] | Mapping[str, str] | None) -> int:
    for number, label in (labels or {}).items():
        if label.lower() == "person":
            return int(number)
    raise ValueError(
        f"{model}: none of its {len(labels or {})} classes is called person; give a detector that knows people"
    )

"""A vision checkpoint's own preprocessing; by PIL where transformers has only torchvision's and that is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoVideoProcessor, VideoMAEImageProcessorPil, ViTImageProcessorPil
from transformers.utils import IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME
from transformers.utils.hub import cached_file
from transformers.utils.import_utils import is_torchvision_available

from .checkpoint import Checkpoint, quiet
from .families import EXTRAS

# What a checkpoint names, and the class that takes the same steps by PIL. DINOv3's own scales before it resizes, which
# spares it a rounding: they differ by a grey level, as PIL and torchvision do elsewhere.
STAND_INS: dict[str, Any] = {
    "DINOv3ViTImageProcessor": ViTImageProcessorPil,
    "TimesformerVideoProcessor": VideoMAEImageProcessorPil,
    "VideoMAEVideoProcessor": VideoMAEImageProcessorPil,
    "VJEPA2VideoProcessor": VideoMAEImageProcessorPil,
}
NEEDED = ("do_resize", "size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
OPTIONAL = ("do_center_crop", "crop_size")


def load_preprocessing(checkpoint: Checkpoint, *, videos: bool) -> Any:
    """What turns pictures, or clips as lists of pictures, into a model's inputs.

    Raises ValueError where the checkpoint has none, or has one that cannot be had without torchvision.
    """
    if is_torchvision_available():
        return _video_processor(checkpoint) if videos else checkpoint.image_processor()
    said = _said(checkpoint)
    name = said.get("video_processor_type") or said.get("image_processor_type") or ""
    made_by, get_it = STAND_INS.get(name.removesuffix("Fast")), EXTRAS["torchvision"]
    if made_by is None and name.endswith("VideoProcessor"):
        raise ValueError(f"{checkpoint.source}: its {name} needs torchvision; {get_it}")
    if made_by is None:
        return checkpoint.image_processor()
    if missing := [key for key in NEEDED if said.get(key) is None]:
        fault = f"its {name} says no {', '.join(missing)}"
        raise ValueError(f"{checkpoint.source}: {fault}; to guess as transformers does it needs torchvision: {get_it}")
    return made_by(**{key: said[key] for key in (*NEEDED, *OPTIONAL) if said.get(key) is not None})


def _video_processor(checkpoint: Checkpoint) -> Any:
    with quiet(), checkpoint.explained("has no video preprocessing"):
        processor = AutoVideoProcessor.from_pretrained(checkpoint.source, **checkpoint.pinned)
    processor.do_sample_frames = False  # the person images hold the frames that it is to see
    return processor


def _said(checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint's preprocessing file; empty where it has none."""
    with quiet(), checkpoint.explained("has no preprocessing"):
        found = (
            cached_file(checkpoint.source, name, _raise_exceptions_for_missing_entries=False, **_where(checkpoint))
            for name in (VIDEO_PROCESSOR_NAME, IMAGE_PROCESSOR_NAME)
        )
        return next((json.loads(Path(path).read_text()) for path in found if path), {})


def _where(checkpoint: Checkpoint) -> dict[str, Any]:
    return {key: value for key, value in checkpoint.pinned.items() if key != "trust_remote_code"}

"""Any transformers vision or video model as an encoder: a pooled feature an image and, from a classifier, logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForVideoClassification,
)

from ...cache.table import Columns
from .checkpoint import Checkpoint, find_checkpoint, missing_package
from .families import EXTRAS, KNOWN_NOT_TO_WORK
from .preprocessing import load_preprocessing

VERSION = 1  # raised when the numbers of this file change
STRIP = "strip"

Reader = Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]]  # model, its inputs -> columns


@dataclass(frozen=True)
class RgbEncoder:
    """Columns: feature [N, D] and, where the checkpoint is a classifier, logits [N, K]; float32.

    The weights are loaded at the first `encode`, which raises ValueError where they do not fit.
    """

    checkpoint: Checkpoint
    processor: Any
    device: str
    settings: Mapping[str, Any]
    layout: str

    def prepare(self, images: Sequence[np.ndarray], /) -> dict[str, Tensor]:
        """The model's inputs, on the CPU, in pinned memory where they are bound for a GPU."""
        shown = [_pictures(image) for image in images]
        inputs = self.processor(shown, return_tensors="pt")
        pinned = torch.device(self.device).type == "cuda"
        return {name: tensor.pin_memory() if pinned else tensor for name, tensor in inputs.items()}

    @torch.inference_mode()
    def encode(self, prepared: Mapping[str, Tensor], /) -> Columns:
        network, read = self._network
        inputs = {name: tensor.to(network.device, non_blocking=True) for name, tensor in prepared.items()}
        if self.layout != STRIP:  # a clip is the only input, and its name in the processor may be another
            inputs = dict(zip([network.main_input_name], inputs.values(), strict=True))
        return {name: column.float().cpu().numpy() for name, column in read(network, inputs).items()}

    @property
    def parameters(self) -> int:
        """Of the whole network, which is loaded for that."""
        return sum(part.numel() for part in self._network[0].parameters())

    @cached_property
    def _network(self) -> tuple[Any, Reader]:
        return _load_network(self.checkpoint, self.device)


def load(model: str, device: str) -> RgbEncoder:
    """The vision model by hub id or folder, in float32 on every device; its weights are not loaded yet."""
    checkpoint = _find(model)
    if reason := dict(KNOWN_NOT_TO_WORK).get(checkpoint.config.model_type):
        raise ValueError(f"{checkpoint.source}: {checkpoint.config.model_type} is known not to work: {reason}")
    layout = layout_of(checkpoint)
    processor = load_preprocessing(checkpoint, videos=layout != STRIP)
    auto = _auto_class(checkpoint)
    if auto is not AutoModel:
        checkpoint.check_class(auto)
    account = checkpoint.account(checkpoint.class_name(auto), processor)
    return RgbEncoder(checkpoint, processor, device, {**account, "version": VERSION, "dtype": "float32"}, layout)


def layout_of(checkpoint: Checkpoint) -> str:
    """The person images that a model looks at: as many frames as a video model was made for, or a strip."""
    config: Any = checkpoint.config
    if type(config) not in MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING:
        return STRIP
    frames = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    if not frames:
        raise ValueError(f"{checkpoint.source}: its config.json does not say of how many frames a clip is made")
    return f"frames-{frames}"


def _find(model: str) -> Checkpoint:
    needs_timm = f"{model}: needs timm; {EXTRAS['timm']}"
    try:
        checkpoint = find_checkpoint(model)
    except ValueError as error:  # of a model on the hub, even the config is read by timm
        if isinstance(error.__cause__, ImportError) and missing_package(error.__cause__) == "timm":
            raise ValueError(needs_timm) from error
        raise
    if checkpoint.config.model_type != "timm_wrapper":
        return checkpoint
    if find_spec("timm") is None:
        raise ValueError(needs_timm)
    # newer timm writes the number of classes twice, and transformers would pass both to it
    said: Mapping[str, Any] = checkpoint.config.model_args or {}
    checkpoint.config.model_args = {key: value for key, value in said.items() if key != "num_classes"}
    return replace(checkpoint, pinned=checkpoint.pinned | {"config": checkpoint.config})


def _auto_class(checkpoint: Checkpoint) -> Any:
    if checkpoint.architecture.endswith("ForVideoClassification"):
        return AutoModelForVideoClassification
    of_timm = checkpoint.config.model_type == "timm_wrapper" and not checkpoint.architecture
    if checkpoint.architecture.endswith("ForImageClassification") or (of_timm and checkpoint.config.num_labels):
        return AutoModelForImageClassification
    return AutoModel


def _load_network(checkpoint: Checkpoint, device: str) -> tuple[Any, Reader]:
    auto = _auto_class(checkpoint)
    if auto is not AutoModel:
        network, _ = checkpoint.load(auto, torch.float32, device, exact=True)
        return network, read_classifier
    network, pooler_is_random = checkpoint.load(AutoModel, torch.float32, device, exact=False, spare="pooler")
    if hasattr(network, "get_image_features"):
        return network, read_image_tower
    if layout_of(checkpoint) != STRIP and hasattr(network, "get_vision_features"):
        return network, read_vision_tower
    return network, read_tokens if pooler_is_random else read_pooled


def read_classifier(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What enters the last linear layer, and what leaves it, from one forward pass."""
    entered: list[Tensor] = []
    handle = _head(model).register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    try:
        logits = model(**inputs).logits
    finally:
        handle.remove()
    return {"feature": entered[-1].flatten(1), "logits": logits}


def read_image_tower(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image embedding of a vision-language model."""
    feature: Any = getattr(model.get_image_features(**inputs), "pooler_output", None)
    if getattr(feature, "ndim", 0) != 2:
        raise ValueError(f"{type(model).__name__} gives no single feature per image; use it as a language model")
    return {"feature": feature}


def read_vision_tower(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean over the encoder's tokens, without running the predictor behind it."""
    return {"feature": _mean(model.get_vision_features(**inputs))}


def read_pooled(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's own pooled feature; the mean over tokens or places where it has none."""
    outputs = model(**inputs)
    named = (getattr(outputs, name, None) for name in ("pooler_output", "image_embeds"))
    feature = next((found for found in named if found is not None), None)
    return {"feature": _mean(outputs.last_hidden_state) if feature is None else feature.flatten(1)}


def read_tokens(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For a checkpoint without the pooler's weights: the class token, or the mean where there is none."""
    states = model(**inputs).last_hidden_state
    has_class_token = any(name.endswith(("cls_token", "class_embedding")) for name, _ in model.named_parameters())
    return {"feature": states[:, 0] if has_class_token else _mean(states)}


def _mean(states: Tensor) -> Tensor:
    """[N, T, D] or [N, D, H, W] -> [N, D]."""
    return states.mean(1) if states.ndim == 3 else states.flatten(2).mean(2)


def _head(model: Any) -> nn.Module:
    """The last layer; timm, whose classifiers need not be linear, says which it is."""
    if hasattr(model, "timm_model"):
        return model.timm_model.get_classifier()
    labels = model.config.num_labels
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == labels]
    if not heads:
        raise ValueError(f"{type(model).__name__}: no linear layer with {labels} outputs to take the feature from")
    return heads[-1]


def _pictures(image: np.ndarray) -> Any:
    """What processors take: a picture, or a clip's pictures."""
    return Image.fromarray(image) if image.ndim == 3 else [Image.fromarray(frame) for frame in image]

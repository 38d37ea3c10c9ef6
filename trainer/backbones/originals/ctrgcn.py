"""Weights of the original CTR-GCN release under our names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..ctrgcn import SUBSETS
from .parts import network, norm, projection, temporal


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The 822 entries of an original state dict as the entries of ours; ValueError where one is missing."""
    return network(state, _block, "CTR-GCN")


def _block(state: Mapping[str, Tensor], block: str) -> dict[str, Tensor]:
    parts = {"spatial": _spatial(state, f"{block}.gcn1"), "temporal": temporal(state, f"{block}.tcn1")}
    if f"{block}.residual.conv.weight" in state:
        parts["project"] = projection(state, f"{block}.residual.conv", f"{block}.residual.bn")
    return {f"{part}.{name}": value for part, entries in parts.items() for name, value in entries.items()}


def _spatial(state: Mapping[str, Tensor], gcn: str) -> dict[str, Tensor]:
    subsets = [f"{gcn}.convs.{s}" for s in range(SUBSETS)]
    ours = {"topology": state[f"{gcn}.PA"], "alpha": state[f"{gcn}.alpha"]}
    for entry in ("weight", "bias"):
        relate = [state[f"{subset}.{conv}.{entry}"] for conv in ("conv1", "conv2") for subset in subsets]
        refine = [state[f"{subset}.conv4.{entry}"] for subset in subsets]
        value = [state[f"{subset}.conv3.{entry}"] for subset in subsets]
        ours[f"relate.{entry}"] = torch.cat(relate)
        ours[f"refine.{entry}"] = torch.cat(refine)
        ours[f"value.{entry}"] = torch.stack(value, 1).flatten(0, 1)  # a channel's three subsets side by side
    ours["relate.weight"], ours["refine.weight"] = (ours[f"{n}.weight"].squeeze(-1) for n in ("relate", "refine"))
    ours |= {f"bn.{k}": v for k, v in norm(state, [f"{gcn}.bn"]).items()}
    if f"{gcn}.down.0.weight" in state:
        down = projection(state, f"{gcn}.down.0", f"{gcn}.down.1")
        ours |= {f"down.{name}": value for name, value in down.items()}
    return ours

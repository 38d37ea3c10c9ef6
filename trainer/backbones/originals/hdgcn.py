"""Weights of the original HD-GCN release under our names, by concatenation and reshape, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .parts import network, norm, projection, temporal


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of an original state dict as the entries of ours; ValueError where one is missing."""
    return network(state, _block, "HD-GCN")


def _block(state: dict[str, Tensor], block: str) -> dict[str, Tensor]:
    tcn = f"{block}.tcn1"
    biases = {f"{tcn}.branches.{i}.3.conv.bias": state[f"{tcn}.branches.{i}.3.bias"].flatten() for i in range(2)}
    parts = {"spatial": _spatial(state, f"{block}.gcn1"), "temporal": temporal(state | biases, tcn)}
    if f"{block}.residual.conv.weight" in state:
        parts["project"] = projection(state, f"{block}.residual.conv", f"{block}.residual.bn")
    return {f"{part}.{name}": value for part, entries in parts.items() for name, value in entries.items()}


def _spatial(state: Mapping[str, Tensor], gcn: str) -> dict[str, Tensor]:
    ours = {"topology": state[f"{gcn}.PA"]}
    pairs, subsets = ours["topology"].shape[:2]
    convs = [f"{gcn}.conv.{pair}.{subset}" for pair in range(pairs) for subset in range(subsets)]
    values = _convolution(state, convs, "value")
    weight, bias = values.pop("value.weight"), values.pop("value.bias")
    ours |= values | {"value": weight.view(pairs, -1, weight.shape[1]), "bias": bias.view(pairs, subsets, -1)}
    ours |= _convolution(state, [f"{gcn}.conv_down.{pair}" for pair in range(pairs)], "reduce")
    nearest = _nearest(state, [f"{gcn}.conv.{pair}.{subsets}" for pair in range(pairs)])
    ours |= {f"nearest.{name}": value for name, value in nearest.items()}
    ours |= {f"bn.{k}": v for k, v in norm(state, [f"{gcn}.bn"]).items()}
    if f"{gcn}.aha.aggregate.weight" in state:
        ours |= {f"attention.{name}": value for name, value in _attention(state, f"{gcn}.aha").items()}
    if f"{gcn}.down.0.weight" in state:
        ours |= {f"down.{k}": v for k, v in projection(state, f"{gcn}.down.0", f"{gcn}.down.1").items()}
    return ours


def _attention(state: Mapping[str, Tensor], aha: str) -> dict[str, Tensor]:
    ours = _convolution(state, [f"{aha}.conv_down"], "reduce")
    ours["reduce.weight"] = ours["reduce.weight"].squeeze(-1)
    ours |= {f"expand.{entry}": state[f"{aha}.aggregate.{entry}"] for entry in ("weight", "bias")}
    return ours | {f"nearest.{name}": value for name, value in _nearest(state, [f"{aha}.edge_conv"]).items()}


def _nearest(state: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    weight = torch.cat([state[f"{name}.conv.0.weight"] for name in names]).flatten(1)
    return {"weight": weight} | {f"bn.{k}": v for k, v in norm(state, [f"{name}.conv.1" for name in names]).items()}


def _convolution(state: Mapping[str, Tensor], names: list[str], ours: str) -> dict[str, Tensor]:
    """Convolutions with their batch norms that lie side by side in ours, as one."""
    entries = {f"{ours}.{entry}": torch.cat([state[f"{n}.0.{entry}"] for n in names]) for entry in ("weight", "bias")}
    return entries | {f"{ours}_bn.{k}": v for k, v in norm(state, [f"{name}.1" for name in names]).items()}

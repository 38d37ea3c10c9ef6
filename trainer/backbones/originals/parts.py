"""Parts that the original networks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..ctrgcn import BLOCKS

State = Mapping[str, Tensor]
_NORM = ("weight", "bias", "running_mean", "running_var")


def network(state: State, block: Callable[[dict[str, Tensor], str], dict[str, Tensor]], name: str) -> dict[str, Tensor]:
    """A whole network's entries, `block` giving those of one of its blocks; "module." prefixes are taken off.

    Raises ValueError where one is missing.
    """
    state = {entry.removeprefix("module."): value for entry, value in state.items()}
    try:
        ours = {f"backbone.data_bn.{k}": v for k, v in norm(state, ["data_bn"]).items()}
        for index in range(len(BLOCKS)):
            entries = block(state, f"l{index + 1}")
            ours |= {f"backbone.blocks.{index}.{entry}": value for entry, value in entries.items()}
        return ours | {"classifier.weight": state["fc.weight"], "classifier.bias": state["fc.bias"]}
    except KeyError as error:
        raise ValueError(f"not an original {name} checkpoint: it has no {error}") from error


def temporal(state: State, tcn: str) -> dict[str, Tensor]:
    """CTR-GCN's temporal convolution of four branches."""
    branches = [f"{tcn}.branches.{i}" for i in range(4)]
    last = [f"{branches[0]}.3.bn", f"{branches[1]}.3.bn", f"{branches[2]}.4", f"{branches[3]}.1"]
    ours = {f"bn.{k}": v for k, v in norm(state, last).items()}
    ours |= {f"reduce_bn.{k}": v for k, v in norm(state, [f"{branch}.1" for branch in branches[:3]]).items()}
    for entry in ("weight", "bias"):
        ours[f"reduce.{entry}"] = torch.cat([state[f"{branch}.0.{entry}"] for branch in branches[:3]])
        ours[f"point.{entry}"] = state[f"{branches[3]}.0.{entry}"]
        ours[f"near.{entry}"] = state[f"{branches[0]}.3.conv.{entry}"]
        ours[f"far.{entry}"] = state[f"{branches[1]}.3.conv.{entry}"]
    for conv in ("near", "far"):
        ours[f"{conv}.weight"] = ours[f"{conv}.weight"].transpose(2, 3)  # time is the last axis here
    return ours


def projection(state: State, conv: str, bn: str) -> dict[str, Tensor]:
    """A convolution and its batch norm, where a shortcut changes shape."""
    entries = {f"0.{entry}": state[f"{conv}.{entry}"] for entry in ("weight", "bias")}
    return entries | {f"1.{k}": v for k, v in norm(state, [bn]).items()}


def norm(state: State, names: list[str]) -> dict[str, Tensor]:
    """Batch norms that lie side by side in ours, as one."""
    ours = {entry: torch.cat([state[f"{name}.{entry}"] for name in names]) for entry in _NORM}
    return ours | {"num_batches_tracked": state[f"{names[0]}.num_batches_tracked"]}

"""Weights of the original CTR-GCN release under our names, by concatenation and reshape, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from .ctrgcn import BLOCKS, SUBSETS

_NORM = ("weight", "bias", "running_mean", "running_var")


def load_original(path: Path) -> dict[str, Tensor]:
    """A state dict for `SkeletonClassifier` from an original `.pt`, read without executing anything.

    Raises ValueError where it is damaged, holds more than arrays, or lacks an entry.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, LookupError, EOFError) as error:
        raise ValueError(f"{path}: not a file of arrays ({str(error).splitlines()[0]})") from error
    return from_original(state)


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The 822 entries of an original state dict as the entries of ours; "module." prefixes are taken off."""
    state = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        ours = {f"backbone.data_bn.{k}": v for k, v in _norm(state, ["data_bn"]).items()}
        for index in range(len(BLOCKS)):
            block = _block(state, f"l{index + 1}")
            ours |= {f"backbone.blocks.{index}.{name}": value for name, value in block.items()}
        return ours | {"classifier.weight": state["fc.weight"], "classifier.bias": state["fc.bias"]}
    except KeyError as error:
        raise ValueError(f"not an original CTR-GCN checkpoint: it has no {error}") from error


def _block(state: Mapping[str, Tensor], block: str) -> dict[str, Tensor]:
    parts = {"spatial": _spatial(state, f"{block}.gcn1"), "temporal": _temporal(state, f"{block}.tcn1")}
    if f"{block}.residual.conv.weight" in state:
        parts["project"] = _projection(state, f"{block}.residual.conv", f"{block}.residual.bn")
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
    ours |= {f"bn.{k}": v for k, v in _norm(state, [f"{gcn}.bn"]).items()}
    if f"{gcn}.down.0.weight" in state:
        down = _projection(state, f"{gcn}.down.0", f"{gcn}.down.1")
        ours |= {f"down.{name}": value for name, value in down.items()}
    return ours


def _temporal(state: Mapping[str, Tensor], tcn: str) -> dict[str, Tensor]:
    branches = [f"{tcn}.branches.{i}" for i in range(4)]
    last = [f"{branches[0]}.3.bn", f"{branches[1]}.3.bn", f"{branches[2]}.4", f"{branches[3]}.1"]
    ours = {f"bn.{k}": v for k, v in _norm(state, last).items()}
    ours |= {f"reduce_bn.{k}": v for k, v in _norm(state, [f"{branch}.1" for branch in branches[:3]]).items()}
    for entry in ("weight", "bias"):
        ours[f"reduce.{entry}"] = torch.cat([state[f"{branch}.0.{entry}"] for branch in branches[:3]])
        ours[f"point.{entry}"] = state[f"{branches[3]}.0.{entry}"]
        ours[f"near.{entry}"] = state[f"{branches[0]}.3.conv.{entry}"]
        ours[f"far.{entry}"] = state[f"{branches[1]}.3.conv.{entry}"]
    for conv in ("near", "far"):
        ours[f"{conv}.weight"] = ours[f"{conv}.weight"].transpose(2, 3)  # time is the last axis here
    return ours


def _projection(state: Mapping[str, Tensor], conv: str, norm: str) -> dict[str, Tensor]:
    entries = {f"0.{entry}": state[f"{conv}.{entry}"] for entry in ("weight", "bias")}
    return entries | {f"1.{k}": v for k, v in _norm(state, [norm]).items()}


def _norm(state: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Batch norms that lie side by side in ours, as one."""
    ours = {entry: torch.cat([state[f"{name}.{entry}"] for name in names]) for entry in _NORM}
    return ours | {"num_batches_tracked": state[f"{names[0]}.num_batches_tracked"]}

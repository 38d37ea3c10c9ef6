"""An original checkpoint from its file, whichever network it is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from torch import Tensor

from . import ctrgcn, ctrsgcn, hdgcn

# an entry that only this network has, and how its entries become ours
KNOWN = {
    "ctrgcn": ("l1.gcn1.convs.0.conv1.weight", ctrgcn.from_original),
    "ctrsgcn": ("l1.gcn1.conv_d.0.weight", ctrsgcn.from_original),
    "hdgcn": ("l1.gcn1.conv_down.0.0.weight", hdgcn.from_original),
}


class Original(NamedTuple):
    """The entries of a `SkeletonClassifier` with the backbone of that name."""

    backbone: str
    state: dict[str, Tensor]


def load_original(path: Path) -> Original:
    """The weights in an original `.pt` of CTR-GCN, CTRS-GCN or HD-GCN, read without executing anything.

    Raises ValueError where it is damaged, holds more than arrays, lacks an entry, or is of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, LookupError, EOFError) as error:
        raise ValueError(f"{path}: not a file of arrays ({str(error).splitlines()[0]})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: not a state dict of arrays")
    plain = {str(name).removeprefix("module."): value for name, value in state.items()}
    for backbone, (entry, from_original) in KNOWN.items():
        if entry in plain:
            return Original(backbone, from_original(plain))
    raise ValueError(f"{path}: not an original checkpoint of {', '.join(KNOWN)}; it has none of their entries")

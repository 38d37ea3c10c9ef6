"""What a network costs, counted as the papers count it, beside what was published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from ...cache.skeletons import Layout
from ..model import build_model
from . import BACKBONES


class Cost(NamedTuple):
    """Parameters with the classifier, and multiply-adds of one clip; the papers call a multiply-add a FLOP."""

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Published:
    """What is said of a network for NTU RGB+D: millions of parameters, billions of multiply-adds a clip, who says so.

    `released` are the billions of the authors' released code, counted as `cost` counts ours.
    """

    parameters: float | None
    multiply_adds: float | None
    source: str
    released: float
    note: str


_HDGCN = Published(
    1.66,
    1.72,
    "Do and Kim, ECCV 2024",
    1.822,
    "for 60 classes, as 3.44 GFLOPs at two a multiply-add; products that are no convolution left out",
)
PUBLISHED = {
    "ctrgcn": Published(
        1.46, 1.97, "Chen et al., ICCV 2021", 1.939, "ours has the mean over time before the relation convolutions"
    ),
    "ctrsgcn": Published(None, None, "CTR-GCN's release, its baseline", 2.527, "its authors give its accuracy only"),
    "hdgcn": _HDGCN,
    "hdgcn-belly": _HDGCN,
    "hdgcn-hip": _HDGCN,
}


def cost(name: str, layout: Layout, *, frames: int = 64, bodies: int = 2, classes: int = 120, width: int = 64) -> Cost:
    """What the network of that name costs for one clip, all bodies computed; it takes no memory to find out."""
    with torch.device("meta"):
        model = build_model(name, layout, bodies=bodies, width=width, classes=classes).requires_grad_(False).eval()
        clip = torch.empty(1, 3, frames, len(layout.joints), bodies)
    with FlopCounterMode(display=False) as counter:
        model(clip)
    # the counter counts a multiply-add as two
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


def backbone_table(layout: Layout) -> Table:
    """Every backbone's cost for a clip of two bodies, 64 frames and 120 classes, beside the published figures."""
    title = f"Backbones: {len(layout.joints)} joints ({layout.name}), 64 frames, 2 bodies, 120 classes"
    table = Table(title=title, caption="GFLOPs are billions of multiply-adds a clip, as the papers count them.")
    for column in ("", "parameters", "GFLOPs", "published", "GFLOPs", "released code, counted"):
        table.add_column(column, justify="right" if column else "left")
    table.add_column("source")
    for name in BACKBONES:
        table.add_row(*_row(name, cost(name, layout)))
    return table


def _row(name: str, found: Cost) -> tuple[str, ...]:
    said = PUBLISHED.get(name)
    ours = (name, f"{found.parameters / 1e6:.2f} M", f"{found.multiply_adds / 1e9:.2f}")
    if said is None:
        return (*ours, "-", "-", "-", "-")
    parameters = "-" if said.parameters is None else f"{said.parameters:.2f} M"
    multiply_adds = "-" if said.multiply_adds is None else f"{said.multiply_adds:.2f}"
    return (*ours, parameters, multiply_adds, f"{said.released:.2f}", f"{said.source}; {said.note}")

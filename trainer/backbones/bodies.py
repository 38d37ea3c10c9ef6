"""Bodies that are absent, computed once.

Where a clip has fewer bodies than the network has slots and the others are zero (NTU RGB+D 60), all absent bodies of a
slot have the same activations up to pooling. One row stands for them all: batch norm counts it as often as it stands
for, and everything else is linear in its summed gradient. Outputs, gradients and statistics are those of the plain
network; leaving absent bodies out would change the statistics, and so the network.

Axes: N clips, M body slots, B computed rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Bodies(NamedTuple):
    """Which bodies a network computes, of N * M in the order (clip, slot).

    `pick` int64 [B] are the computed ones, `weight` float32 [B] how many bodies each stands for (0 for rows that only
    fill up), `back` int64 [N * M] the computed row of each body.
    """

    pick: Tensor
    weight: Tensor
    back: Tensor


def bodies_of(counts: Tensor, slots: int, device: torch.device | str, multiple: int = 1) -> Bodies | None:
    """The computed bodies of clips with `counts` real ones, int64 [N] on the CPU; None where all slots are full.

    `multiple` fills the rows up to a multiple of it, so that a compiled network meets few shapes.
    """
    there = (torch.arange(slots) < counts[:, None]).flatten()
    if there.all():
        return None
    slot = torch.arange(slots).expand(len(counts), slots).flatten()
    real = there.nonzero()[:, 0]
    absent = [((slot == s) & ~there).nonzero()[:, 0] for s in range(slots)]
    absent = [rows for rows in absent if len(rows)]
    back = torch.empty(len(there), dtype=torch.long)
    back[real] = torch.arange(len(real))
    for number, rows in enumerate(absent):
        back[rows] = len(real) + number
    pick = torch.cat([real, *(rows[:1] for rows in absent)])
    weight = torch.cat([torch.ones(len(real)), torch.tensor([float(len(rows)) for rows in absent])])
    filling = -len(pick) % multiple
    pick, weight = torch.cat([pick, pick[:1].expand(filling)]), torch.cat([weight, torch.zeros(filling)])
    return Bodies(*(column.to(device, non_blocking=True) for column in (pick, weight, back)))


def pick_bodies(x: Tensor, bodies: Bodies | None) -> Tensor:
    """The computed rows [B, ...] of all bodies [N * M, ...]."""
    return x if bodies is None else x.index_select(0, bodies.pick)


def pool_bodies(x: Tensor, clips: int, bodies: Bodies | None) -> Tensor:
    """Features of the computed rows [B, D] as the means over each clip's bodies, [N, D]."""
    every = x if bodies is None else x.index_select(0, bodies.back)
    return every.view(clips, -1, x.shape[1]).mean(1)

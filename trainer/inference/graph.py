"""The preprocessing and the network as one graph: raw joints in, scores out.

The numbers are those that trainer/data/skeleton.py makes of a test clip, in operations that can be exported: here clips
are padded to a common length, there they are packed end to end. Axes: N clips, M body slots, T frames as they come in,
W frames of the window, V joints, C = 3 coordinates, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import Config
from ..data.skeleton import Body, minmax, motion, positions


class RawClassifier(nn.Module):
    """Raw joints float32 [N, M, T, V, C] and lengths int64 [N] to scores and probabilities, [N, K] both.

    Bodies that are absent are all zero. What lies at and behind a clip's length is ignored, whatever it is; a length
    below 1 counts as 1, one above T as T. `network` makes scores of the window, [N, C, W, V, M].
    """

    def __init__(self, network: nn.Module, body: Body, config: Config) -> None:
        super().__init__()
        self.network, self.body, self.config = network, body, config

    def forward(self, joints: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.network(network_input(joints, lengths, self.body, self.config))
        return scores, scores.softmax(1)


def network_input(joints: Tensor, lengths: Tensor, body: Body, config: Config) -> Tensor:
    """What the network sees of raw clips, [N, C, W, V, M]: `batch` of the same clips without draws."""
    number = torch.arange(joints.shape[2], device=joints.device)
    frames = lengths.clamp(min=1).minimum(number[-1] + 1)
    inside = (number < frames[:, None])[:, None]  # [N, 1, T]
    seen = (joints != 0).any(4).any(3) & inside
    real = _real_bodies(seen)
    slots = torch.arange(body.slots, device=joints.device)
    kept = torch.where(real, slots, 0) if body.rule == "repeat" else slots.expand_as(real)
    x, share = _window(joints, seen, positions(frames, config, None), kept)
    if config.centre:
        origin = _origins(joints, seen, body.centre)
        x = x - origin[:, None, None, :, None] * share[:, :, None, None]
        joints = joints - origin[:, None, None, None] * seen[..., None, None]
    if config.minmax:
        x = _scaled(x, joints, inside & real[..., None])
        x = x if body.rule == "repeat" else x * real[:, :, None, None, None]
    if config.stream.startswith("bone"):  # `bone` keeps its index from call to call, and an exporter's is no tensor
        x = x - x.index_select(2, torch.tensor(body.parents, device=x.device))
    if config.stream.endswith("motion"):
        x = motion(x.flatten(0, 1)).unflatten(0, real.shape)
    return x.permute(0, 3, 4, 2, 1)


def _real_bodies(seen: Tensor) -> Tensor:
    """Which slots hold a body, bool [N, M]: the first, and all up to the last that is seen in any frame [N, M, T]."""
    number = torch.arange(seen.shape[1], device=seen.device)
    last = (seen.any(2) * number).amax(1)
    return number <= last[:, None]


def _window(joints: Tensor, seen: Tensor, at: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Frames at fractional positions [N, W] of the slots in `kept` [N, M], linearly interpolated: [N, M, V, C, W].

    And how much of a body each saw, [N, M, W]. No position lies behind a clip's last frame.
    """
    n, m, t, v, c = joints.shape
    clip = torch.arange(n, device=joints.device)[:, None]
    first = ((clip * m + kept) * t)[..., None]
    low, high = at.floor(), at.ceil()
    rows = [(first + side.long()[:, None]).flatten() for side in (low, high)]
    weight = (at - low)[:, None]
    a, b = (joints.reshape(-1, v * c)[side].view(n, m, -1, v, c) for side in rows)
    x = a * (1 - weight)[..., None, None] + b * weight[..., None, None]
    there = seen.to(joints).flatten()
    share = there[rows[0]].view(n, m, -1) * (1 - weight) + there[rows[1]].view(n, m, -1) * weight
    return x.permute(0, 1, 3, 4, 2), share


def _origins(joints: Tensor, seen: Tensor, centre: int) -> Tensor:
    """Where the centre joint of each clip's first body is first seen, [N, C]; in frame 0 where it never is."""
    first = seen[:, 0].float().argmax(1)
    return joints[:, 0, :, centre].gather(1, first[:, None, None].expand(-1, -1, joints.shape[4]))[:, 0]


def _scaled(x: Tensor, joints: Tensor, inside: Tensor) -> Tensor:
    """The window [N, M, V, C, W] with each axis scaled by its extremes over the clip's own frames, [N, M, T] in all."""
    inside = inside[..., None, None]
    low = joints.masked_fill(~inside, torch.inf).amin((1, 2, 3))
    high = joints.masked_fill(~inside, -torch.inf).amax((1, 2, 3))
    return minmax(x.flatten(1, 2), low, high).view_as(x)

"""Whole batches of skeletons, from packed frames to what the network sees, on the device.

Axes: N clips, M body slots, B bodies that are computed, T frames, V joints, C = 3 coordinates; F all frames of all
bodies of the data set. T is innermost, so that every step runs over long stretches of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...cache.skeletons import Layout, Skeletons
from ..config import Config

CHUNK = 1 << 14  # frames that packing looks at in one go


class Packed(NamedTuple):
    """All clips end to end. joints [F, V, C]; a body's frames lie together.

    `seen` [F] is 1 where a frame holds a body and 0 where all its coordinates are zero. start, frames, bodies and
    origin are int64 [clips]; `origin` is the first frame in which the first body is seen.
    """

    joints: Tensor
    seen: Tensor
    start: Tensor
    frames: Tensor
    bodies: Tensor
    origin: Tensor

    def to(self, device: torch.device) -> Packed:
        return Packed(*(tensor.to(device) for tensor in self))


class Body(NamedTuple):
    """How bodies are laid out: slots M, what fills an absent one ("zero" or "repeat"), parents, the centre joint."""

    slots: int
    rule: str
    parents: tuple[int, ...]
    centre: int


class Draws(NamedTuple):
    """A batch's random numbers, each uniform in [0, 1): crop length and place [N], angles [N, 3], frames [N, T]."""

    length: Tensor
    place: Tensor
    angles: Tensor
    frames: Tensor


class Computed(NamedTuple):
    """The bodies of a batch that are computed: `clip` and `slot` [B] say which, `there` [B] is 0 for an absent one.

    `back` [N * M] says where each slot finds its own among them; None where they are the slots as they lie.
    """

    clip: Tensor
    slot: Tensor
    there: Tensor
    back: Tensor | None


def pack(skeletons: Skeletons) -> Packed:
    """The clips as tensors on the CPU; the joints are a view of the cache's memory map where it is aligned.

    Nothing here writes to them. Where the file has them at an odd byte they are copied: torch's loops count on floats
    at multiples of four.
    """
    joints = torch.from_dlpack(np.require(skeletons.joints.values, requirements=["C", "A"]))
    columns = (skeletons.joints.offsets[:-1], skeletons.frames, skeletons.bodies)
    start, frames, bodies = (torch.tensor(column, dtype=torch.int64) for column in columns)
    seen = torch.cat([(chunk != 0).any(1) for chunk in joints.flatten(1).split(CHUNK)])
    return Packed(joints, seen.to(joints), start, frames, bodies, _first_seen(seen, start, frames))


def _first_seen(seen: Tensor, start: Tensor, frames: Tensor) -> Tensor:
    """The first frame of each clip's first body that is not all zero; its very first where all of them are."""
    there = torch.cat([seen.nonzero()[:, 0], torch.tensor([len(seen)])])
    first = there[torch.searchsorted(there, start)]
    return torch.where(first < start + frames, first, start)


def body_of(layout: Layout, slots: int, rule: str) -> Body:
    return Body(slots, rule, tuple(layout.parents), layout.centre)


def draw(generator: torch.Generator, clips: int, window: int) -> Draws:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return Draws(uniform(clips), uniform(clips), uniform(clips, 3), uniform(clips, window))


def batch(packed: Packed, rows: Tensor, body: Body, config: Config, draws: Draws | None) -> Tensor:
    """The network's input for some clips, [N, C, T, V, M]; augmented where `draws` are given.

    The steps are CTR-GCN's: frames, centre, rotation, scale, then bones and motion. Absent bodies stay zero
    throughout, or repeat the first one, as the split's rule says. In memory it lies as [N, M, V, C, T].
    """
    clips = Packed(packed.joints, packed.seen, *(column[rows] for column in packed[2:]))
    turn = None if draws is None else _random_rotations(draws.angles, config).to(rows.device, non_blocking=True)
    computed = computed_bodies(clips.bodies, body)
    x, seen = gather(clips, positions(clips.frames, config, draws), computed)
    origin = _origins(clips, body, config)
    x = _placed(x, origin, seen, computed.clip, turn)
    if config.minmax:
        x = minmax(x, *(side[computed.clip] for side in extremes(clips, body, origin, turn)))
        x = x * computed.there[:, None, None, None]
    if config.stream.startswith("bone"):
        x = bone(x, body.parents)
    if config.stream.endswith("motion"):
        x = motion(x)
    x = x if computed.back is None else x.index_select(0, computed.back)
    return x.unflatten(0, (len(rows), body.slots)).permute(0, 3, 4, 2, 1)


def computed_bodies(bodies: Tensor, body: Body) -> Computed:
    """On the CPU each body that is there once, and one that stands for all that are not; elsewhere every slot.

    How many there are only the device knows, and asking a GPU would make it wait.
    """
    real = torch.arange(body.slots, device=bodies.device) < bodies[:, None]
    repeat = body.rule == "repeat"
    return every_slot(real, repeat) if bodies.device.type != "cpu" or real.all() else real_bodies(real, repeat)


def every_slot(real: Tensor, repeat: bool) -> Computed:
    """All slots of all clips; absent ones are the first body, there or not. `real` is bool [N, M]."""
    clips, slots = (torch.arange(size, device=real.device) for size in real.shape)
    slot = torch.where(real, slots, 0).flatten()
    return Computed(clips.repeat_interleave(len(slots)), slot, (real | repeat).flatten().float(), None)


def real_bodies(real: Tensor, repeat: bool) -> Computed:
    """The bodies that are there, and one more, of zeros, where absent slots are zero."""
    clip, slot = real.nonzero().unbind(1)
    place = (real.flatten().cumsum(0) - 1).view_as(real)
    there = torch.ones(len(clip), device=real.device)
    if repeat:
        return Computed(clip, slot, there, torch.where(real, place, place[:, :1]).flatten())
    nobody = clip.new_zeros(1)
    clip, slot, there = (torch.cat([column, nobody.to(column)]) for column in (clip, slot, there))
    return Computed(clip, slot, there, torch.where(real, place, len(clip) - 1).flatten())


def positions(frames: Tensor, config: Config, draws: Draws | None) -> Tensor:
    """Where in each clip the window's frames lie, fractional frame numbers [N, T]."""
    if config.sampling == "random":
        if draws is None:
            return _linspace(frames, config.window)
        drawn = draws.frames.sort(1).values.to(frames.device, non_blocking=True)
        return (drawn * frames[:, None]).floor()
    if draws is None:
        first = ((1 - config.test_crop) * frames / 2).floor()
        return resized(first, frames - 2 * first, config.window)
    share = config.crop + (1 - config.crop) * draws.length.to(frames.device, non_blocking=True)
    length = (frames * share).floor().clamp(min=config.crop_frames).minimum(frames)
    first = (draws.place.to(frames.device, non_blocking=True) * (frames - length + 1)).floor()
    return resized(first, length, config.window)


def resized(first: Tensor, length: Tensor, window: int) -> Tensor:
    """The positions of `window` frames spread over a stretch, as bilinear resizing (align_corners=False) puts them."""
    centres = (torch.arange(window, device=length.device) + 0.5) / window
    inside = (centres * length[:, None] - 0.5).clamp(min=0).minimum((length - 1)[:, None].float())
    return first[:, None] + inside


def gather(clips: Packed, at: Tensor, computed: Computed) -> tuple[Tensor, Tensor]:
    """Frames at fractional positions, linearly interpolated, [B, V, C, T], and how much of a body each saw, [B, T].

    Each frame is a weighted sum of two rows of the data set: one operation for all, without copies of both.
    """
    last = clips.frames[:, None] - 1
    low = at.long().minimum(last)
    pair = torch.stack([low, (low + 1).minimum(last)], 2)
    weight = (at.minimum(last) - low)[..., None]
    first = clips.start[computed.clip] + computed.slot * clips.frames[computed.clip]
    rows = pair[computed.clip] + first[:, None, None]
    weights = torch.cat([1 - weight, weight], 2)[computed.clip] * computed.there[:, None, None]
    joints = clips.joints.flatten(1)
    x = F.embedding_bag(rows.view(-1, 2), joints, per_sample_weights=weights.view(-1, 2), mode="sum")
    x = x.view(*weights.shape[:2], -1).mT.contiguous().unflatten(1, clips.joints.shape[1:])
    return x, (clips.seen[rows] * weights).sum(2)


def extremes(clips: Packed, body: Body, origin: Tensor | None, turn: Tensor | None) -> tuple[Tensor, Tensor]:
    """The lowest and the highest coordinates over all frames of each clip, [N, C] both."""
    rows = clips.bodies.clamp(max=body.slots) * clips.frames
    clip = torch.arange(len(rows), device=rows.device).repeat_interleave(rows)
    row = torch.arange(len(clip), device=rows.device) - (rows.cumsum(0) - rows - clips.start)[clip]
    x = _placed(clips.joints[row][..., None], origin, clips.seen[row][:, None], clip, turn)[..., 0]
    found = torch.stack([x.amin(1), -x.amax(1)])  # [2, rows, C]
    start = found.new_full((2, len(rows), x.shape[2]), torch.inf)
    low, high = start.scatter_reduce(1, clip[None, :, None].expand_as(found), found, "amin")
    return low, -high


def rotations(degrees: Tensor) -> Tensor:
    """One rotation a clip from angles [N, 3] about x, then y, then z: [N, 3, 3]."""
    s, c = degrees.deg2rad().sin().unbind(1), degrees.deg2rad().cos().unbind(1)
    one, zero = torch.ones_like(s[0]), torch.zeros_like(s[0])
    x = _matrix([one, zero, zero, zero, c[0], s[0], zero, -s[0], c[0]])
    y = _matrix([c[1], zero, -s[1], zero, one, zero, s[1], zero, c[1]])
    z = _matrix([c[2], s[2], zero, -s[2], c[2], zero, zero, zero, one])
    return z @ y @ x


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """Each body [B, V, C, T] by its own rotation [B, C, C], a coordinate at a time: faster than tiny products."""
    out = torch.empty_like(x)
    for row, into in zip(turn[..., None, None].unbind(1), out.unbind(2), strict=True):
        torch.mul(x[:, :, 0], row[:, 0], out=into)
        for axis in range(1, x.shape[2]):
            into.addcmul_(x[:, :, axis], row[:, axis])
    return out


def minmax(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Each axis scaled so that low to high [B, C] becomes -1 to 1 (NW-UCLA in CTR-GCN's feeder)."""
    low, high = low[:, None, :, None], high[:, None, :, None]
    return (x - low) / (high - low).clamp(min=1e-6) * 2 - 1


def bone(x: Tensor, parents: Sequence[int]) -> Tensor:
    """Each joint minus its parent; zero at the root."""
    above = x.index_select(1, _index(tuple(parents), x.device))
    return torch.sub(x, above, out=above)


def motion(x: Tensor) -> Tensor:
    """The next frame minus this one; zero in the last."""
    moved = torch.zeros_like(x)
    torch.sub(x[..., 1:], x[..., :-1], out=moved[..., :-1])
    return moved


def _origins(clips: Packed, body: Body, config: Config) -> Tensor | None:
    """Where the centre joint of each clip's first body is first seen, [N, C]."""
    return clips.joints[clips.origin, body.centre] if config.centre else None


def _placed(x: Tensor, origin: Tensor | None, seen: Tensor, clip: Tensor, turn: Tensor | None) -> Tensor:
    """Bodies [B, V, C, T] of clips [B], moved by their clip's origin and turned; what holds no body stays zero.

    `x` itself is moved: it is nobody else's.
    """
    if origin is not None:
        x.sub_((origin[clip][..., None] * seen[:, None])[:, None])
    return x if turn is None else turned(x, turn[clip])


def _linspace(frames: Tensor, window: int) -> Tensor:
    """linspace(0, frames - 1, window) cut to integers, in integers: a float may land just below one."""
    at = torch.arange(window, device=frames.device)
    return ((frames - 1)[:, None] * at // max(window - 1, 1)).float()


def _random_rotations(uniform: Tensor, config: Config) -> Tensor:
    return rotations((2 * uniform - 1) * torch.tensor(config.rotation).to(uniform))


@lru_cache(8)
def _index(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers, device=device)


def _matrix(entries: list[Tensor]) -> Tensor:
    return torch.stack(entries, 1).view(-1, 3, 3)

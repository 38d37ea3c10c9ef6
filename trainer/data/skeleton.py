"""Whole batches of skeletons, from packed frames to what the network sees, on the device.

Axes: N clips, M body slots, T frames, V joints, C = 3 coordinates; F all frames of all bodies of the data set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...cache.skeletons import Layout, Skeletons
from ..config import Config


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
    parents: list[int]
    centre: int


class Draws(NamedTuple):
    """A batch's random numbers, each uniform in [0, 1): crop length and place [N], angles [N, 3], frames [N, T]."""

    length: Tensor
    place: Tensor
    angles: Tensor
    frames: Tensor


def pack(skeletons: Skeletons) -> Packed:
    joints = torch.tensor(skeletons.joints.values)
    start, frames, bodies = (
        torch.tensor(a) for a in (skeletons.joints.offsets[:-1], skeletons.frames, skeletons.bodies)
    )
    seen = (joints != 0).flatten(1).any(1)
    return Packed(joints, seen.to(joints), start, frames, bodies, _first_seen(seen, start, frames))


def _first_seen(seen: Tensor, start: Tensor, frames: Tensor) -> Tensor:
    """The first frame of each clip's first body that is not all zero; its very first where all of them are."""
    there = torch.cat([seen.nonzero()[:, 0], torch.tensor([len(seen)])])
    first = there[torch.searchsorted(there, start)]
    return torch.where(first < start + frames, first, start)


def body_of(layout: Layout, slots: int, rule: str) -> Body:
    return Body(slots, rule, layout.parents, layout.centre)


def draw(generator: torch.Generator, clips: int, window: int) -> Draws:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return Draws(uniform(clips), uniform(clips), uniform(clips, 3), uniform(clips, window))


def batch(packed: Packed, rows: Tensor, body: Body, config: Config, draws: Draws | None) -> Tensor:
    """The network's input for some clips, [N, C, T, V, M]; augmented where `draws` are given.

    The steps are CTR-GCN's: frames, centre, rotation, scale, then bones and motion. Absent bodies stay zero
    throughout, or repeat the first one, as the split's rule says.
    """
    clips = Packed(packed.joints, packed.seen, *(column[rows] for column in packed[2:]))
    turn = None if draws is None else _random_rotations(draws.angles.to(clips.joints), config)
    x = _placed(clips, positions(clips.frames, config, draws), body, config, turn)
    if config.minmax:
        every = torch.arange(int(clips.frames.max()), device=rows.device).expand(len(rows), -1)
        x = minmax(x, _placed(clips, every.float(), body, config, turn))
    x = x * _present(clips, body)
    if config.stream.startswith("bone"):
        x = bone(x, body.parents)
    if config.stream.endswith("motion"):
        x = motion(x)
    return x.permute(0, 4, 2, 3, 1)


def positions(frames: Tensor, config: Config, draws: Draws | None) -> Tensor:
    """Where in each clip the window's frames lie, fractional frame numbers [N, T]."""
    if config.sampling == "random":
        if draws is None:
            return _linspace(frames, config.window)
        return (draws.frames.to(frames.device).sort(1).values * frames[:, None]).floor()
    if draws is None:
        first = ((1 - config.test_crop) * frames / 2).floor()
        return resized(first, frames - 2 * first, config.window)
    share = config.crop + (1 - config.crop) * draws.length.to(frames.device)
    length = (frames * share).floor().clamp(min=config.crop_frames).minimum(frames)
    first = (draws.place.to(frames.device) * (frames - length + 1)).floor()
    return resized(first, length, config.window)


def resized(first: Tensor, length: Tensor, window: int) -> Tensor:
    """The positions of `window` frames spread over a stretch, as bilinear resizing (align_corners=False) puts them."""
    centres = (torch.arange(window, device=length.device) + 0.5) / window
    inside = (centres * length[:, None] - 0.5).clamp(min=0).minimum((length - 1)[:, None].float())
    return first[:, None] + inside


def gather(clips: Packed, at: Tensor, body: Body, *, centre: bool) -> Tensor:
    """Frames at fractional positions, linearly interpolated, [N, M, T, V, C]; absent slots hold the first body.

    `centre` moves each clip by its centre joint, before the interpolation: frames without a body stay zero.
    """
    low = at.floor().long().minimum(clips.frames[:, None] - 1)
    high = (low + 1).minimum(clips.frames[:, None] - 1)
    slot = torch.arange(body.slots, device=at.device)
    slot = torch.where(slot < clips.bodies[:, None], slot, 0)
    offset = (clips.start[:, None] + slot * clips.frames[:, None])[:, :, None]
    low, high, weight = offset + low[:, None], offset + high[:, None], (at - low)[:, None].to(clips.joints)
    x = clips.joints[low].lerp(clips.joints[high], weight[..., None, None])
    if not centre:
        return x
    moved = clips.seen[low].lerp(clips.seen[high], weight.expand(low.shape))
    return x - clips.joints[clips.origin, body.centre][:, None, None, None] * moved[..., None, None]


def rotations(degrees: Tensor) -> Tensor:
    """One rotation a clip from angles [N, 3] about x, then y, then z: [N, 3, 3]."""
    s, c = degrees.deg2rad().sin().unbind(1), degrees.deg2rad().cos().unbind(1)
    one, zero = torch.ones_like(s[0]), torch.zeros_like(s[0])
    x = _matrix([one, zero, zero, zero, c[0], s[0], zero, -s[0], c[0]])
    y = _matrix([c[1], zero, -s[1], zero, one, zero, s[1], zero, c[1]])
    z = _matrix([c[2], s[2], zero, -s[2], c[2], zero, zero, zero, one])
    return z @ y @ x


def minmax(x: Tensor, clip: Tensor) -> Tensor:
    """Each axis scaled so that the whole clip fills [-1, 1] (NW-UCLA in CTR-GCN's feeder)."""
    low, high = clip.amin((1, 2, 3), keepdim=True), clip.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-6) * 2 - 1


def bone(x: Tensor, parents: list[int]) -> Tensor:
    """Each joint minus its parent; zero at the root."""
    return x - x[:, :, :, parents]


def motion(x: Tensor) -> Tensor:
    """The next frame minus this one; zero in the last."""
    return torch.cat([x[:, :, 1:] - x[:, :, :-1], torch.zeros_like(x[:, :, :1])], 2)


def _placed(clips: Packed, at: Tensor, body: Body, config: Config, turn: Tensor | None) -> Tensor:
    """Gathered, centred and turned; frames in which a body is all zero stay zero."""
    x = gather(clips, at.minimum(clips.frames[:, None] - 1), body, centre=config.centre)
    return x if turn is None else torch.einsum("nij,nmtvj->nmtvi", turn, x)


def _present(clips: Packed, body: Body) -> Tensor:
    slots = torch.arange(body.slots, device=clips.bodies.device)
    there = (slots < clips.bodies[:, None]) | (body.rule == "repeat")
    return there[:, :, None, None, None].to(clips.joints)


def _linspace(frames: Tensor, window: int) -> Tensor:
    """linspace(0, frames - 1, window) cut to integers, in integers: a float may land just below one."""
    at = torch.arange(window, device=frames.device)
    return ((frames - 1)[:, None] * at // max(window - 1, 1)).float()


def _random_rotations(uniform: Tensor, config: Config) -> Tensor:
    return rotations((2 * uniform - 1) * torch.tensor(config.rotation).to(uniform))


def _matrix(entries: list[Tensor]) -> Tensor:
    return torch.stack(entries, 1).view(-1, 3, 3)

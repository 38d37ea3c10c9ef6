"""Batches of skeletons against a slow, straightforward version, and each step against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcl.cache.skeletons import Skeletons
from mmcl.tests.joints import CROP, FRAMES, LAYOUT, RANDOM, clips, drawn, made
from mmcl.trainer.config import STREAMS, Config
from mmcl.trainer.data.skeleton import Draws, batch, body_of, bone, draw, motion, pack, positions, resized, rotations


def slow_rotation(angles: np.ndarray) -> np.ndarray:
    """About x, then y, then z; clockwise seen from the axis, as CTR-GCN turns."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return z @ y @ x


def slow_stretch(x: np.ndarray, first: int, length: int, window: int) -> np.ndarray:
    out = np.zeros((len(x), window, *x.shape[2:]))
    for i in range(window):
        at = min(max((i + 0.5) * length / window - 0.5, 0), length - 1)
        low, high = int(at), min(int(at) + 1, length - 1)
        out[:, i] = x[:, first + low] * (1 - (at - low)) + x[:, first + high] * (at - low)
    return out


def slow_frames(x: np.ndarray, config: Config, draws: Draws | None, row: int) -> np.ndarray:
    frames = x.shape[1]
    if config.sampling == "random":
        if draws is None:
            return x[:, np.linspace(0, frames - 1, config.window).astype(int)]
        return x[:, np.sort((draws.frames[row].numpy() * frames).astype(int))]
    if draws is None:
        first = int((1 - config.test_crop) * frames / 2)
        return slow_stretch(x, first, frames - 2 * first, config.window)
    share = config.crop + (1 - config.crop) * float(draws.length[row])
    length = min(max(int(frames * share), config.crop_frames), frames)
    return slow_stretch(x, int(float(draws.place[row]) * (frames - length + 1)), length, config.window)


def slow_clip(skeletons: Skeletons, row: int, config: Config, draws: Draws | None, rule: str, slots: int) -> np.ndarray:
    """One clip, [C, T, V, M], one thing after the other."""
    bodies = int(skeletons.bodies[row])
    x = np.asarray(skeletons.joints[row], np.float64).reshape(bodies, -1, 5, 3).copy()
    seen = x.any((2, 3))
    if config.centre:
        origin = x[0, seen[0].argmax(), LAYOUT.centre].copy()
        x[seen] -= origin
    if draws is not None:
        angles = np.deg2rad((2 * draws.angles[row].numpy().astype(float) - 1) * config.rotation)
        x = x @ slow_rotation(angles).T
    low, high = x.min((0, 1, 2)), x.max((0, 1, 2))
    x = slow_frames(x, config, draws, row)
    if config.minmax:
        x = (x - low) / (high - low) * 2 - 1
    absent = x[:1] if rule == "repeat" else np.zeros_like(x[:1])
    x = np.concatenate([x, *[absent] * (slots - bodies)])
    if config.stream.startswith("bone"):
        x = np.stack([x[:, :, joint] - x[:, :, LAYOUT.parents[joint]] for joint in range(5)], 2)
    if config.stream.endswith("motion"):
        x = np.concatenate([np.diff(x, axis=1), np.zeros_like(x[:, :1])], 1)
    return x.transpose(3, 1, 2, 0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "test"])
@pytest.mark.parametrize("rule", ["zero", "repeat"])
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("base", [CROP, RANDOM], ids=["crop", "random"])
def test_a_batch_is_what_a_slow_loop_over_clips_makes(base: Config, stream: str, rule: str, training: bool):
    skeletons, config = clips(), replace(base, stream=stream)
    draws = drawn(skeletons, config) if training else None
    found = made(skeletons, config, draws, rule, slots=3).numpy()
    assert found.shape == (len(FRAMES), 3, config.window, 5, 3) and found.dtype == np.float32
    for row in range(len(FRAMES)):
        wanted = slow_clip(skeletons, row, config, draws, rule, 3)
        np.testing.assert_allclose(found[row], wanted, atol=2e-5, err_msg=f"clip of {FRAMES[row]} frames")


@pytest.mark.parametrize("length", [1, 2, 7, 16, 23, 300])
@pytest.mark.parametrize("window", [1, 16, 64])
def test_positions_are_those_of_bilinear_resizing(length: int, window: int):
    """A stretch read at `resized` positions equals F.interpolate(bilinear, align_corners=False) of it."""
    x = torch.rand(length, 3)
    at = resized(torch.tensor([0.0]), torch.tensor([length]), window)[0]
    low = at.long()
    found = x[low].lerp(x[(low + 1).clamp(max=length - 1)], (at - low)[:, None])
    wanted = F.interpolate(x.T[None, :, :, None], (window, 1), mode="bilinear", align_corners=False)[0, :, :, 0].T
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def test_the_test_crop_is_the_centre_that_ctr_gcn_takes():
    """int((1 - p) * T / 2) frames are left out at each end, whatever T is."""
    frames = torch.arange(1, 400)
    at = positions(frames, Config(window=2), None)
    for t, (first, last) in zip(frames.tolist(), at.tolist(), strict=True):
        bias = int((1 - 0.95) * t / 2)
        length = t - 2 * bias
        centres = [min(max(c * length - 0.5, 0), length - 1) for c in (0.25, 0.75)]
        assert [first, last] == pytest.approx([bias + c for c in centres], abs=1e-4)


def test_training_crops_keep_to_the_clip_and_to_the_shortest_length():
    frames = torch.full((500,), 100)
    draws = draw(torch.Generator().manual_seed(0), 500, 64)
    at = positions(frames, Config(crop=0.5, crop_frames=64, window=64), draws)
    spans = at[:, -1] - at[:, 0]
    assert at.min() >= 0 and at.max() <= 99
    assert 62 < spans.min() < 66 and spans.max() > 95
    assert at[:, 0].min() == 0 and at[:, 0].max() > 25 and at[:, -1].max() > 98


def test_nw_ucla_tests_on_linspace_cut_to_integers_for_every_length():
    frames = torch.arange(1, 202)  # what the data set has
    at = positions(frames, RANDOM, None)
    for t, found in zip(frames.tolist(), at.tolist(), strict=True):
        assert found == np.linspace(0, t - 1, 52).astype(int).tolist(), t


def test_nw_ucla_trains_on_52_sorted_frames_of_the_whole_clip():
    frames = torch.tensor([1, 10, 200] * 50)
    at = positions(frames, RANDOM, drawn(clips(frames.tolist(), [1] * 150), RANDOM))
    assert at.shape == (150, 52) and (at == at.floor()).all() and (at.diff(dim=1) >= 0).all()
    assert at.min() == 0 and (at.amax(1) < frames).all()
    assert (at[frames == 1] == 0).all()
    assert at[frames == 200].unique().numel() == 200  # every frame comes up


def test_min_max_is_over_the_whole_clip_not_over_the_frames_that_were_drawn():
    """A joint far out in a frame that the window misses still sets the scale."""
    skeletons = clips([200], [1])
    skeletons.joints.values[101, 3] = [0, 0, 500]
    found = made(skeletons, replace(RANDOM, window=4), None, slots=1)
    assert 101 not in np.linspace(0, 199, 4).astype(int)
    assert found[0, 2].max() < -0.9 and found[0, 2].min() >= -1
    full = made(clips([200], [1]), replace(RANDOM, window=200), None, slots=1)
    assert full.amin((0, 2, 3, 4)).tolist() == pytest.approx([-1] * 3)
    assert full.amax((0, 2, 3, 4)).tolist() == pytest.approx([1] * 3)


def test_rotations_are_proper_and_one_serves_the_whole_clip():
    turns = rotations(torch.rand(50, 3) * 360)
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(turns.det(), torch.ones(50))
    plain = replace(CROP, rotation=(0, 0, 0))
    skeletons = clips([40, 90], [1, 2])
    draws = drawn(skeletons, CROP)
    straight, turned = (made(skeletons, config, draws).double() for config in (plain, CROP))
    for a, b in zip(straight, turned, strict=True):
        a, b = a.flatten(1), b.flatten(1)
        turn = b @ a.T @ (a @ a.T).inverse()
        torch.testing.assert_close(turn @ a, b, atol=1e-5, rtol=0)
        torch.testing.assert_close(turn @ turn.T, torch.eye(3).double(), atol=1e-5, rtol=0)


def test_random_rotations_fill_the_range_of_each_axis():
    skeletons = clips([2] * 400, [1] * 400)
    config = replace(CROP, rotation=(0, 0, 30), window=2)
    straight, turned = (
        made(skeletons, c, drawn(skeletons, c))[:, :, 0, 2, 0] for c in (replace(config, rotation=(0, 0, 0)), config)
    )
    torch.testing.assert_close(straight[:, 2], turned[:, 2])  # z stays
    angle = (turned[:, 1].atan2(turned[:, 0]) - straight[:, 1].atan2(straight[:, 0])).rad2deg()
    angle = (angle + 180) % 360 - 180
    assert angle.abs().max() <= 30.01 and angle.max() > 28 and angle.min() < -28


def test_bone_is_joint_minus_parent_and_motion_the_next_frame_minus_this():
    x = torch.rand(2, 5, 3, 4)  # B V C T
    bones, moves = bone(x, LAYOUT.parents), motion(x)
    assert (bones[:, 1] == 0).all()
    assert torch.equal(bones[:, 4], x[:, 4] - x[:, 3])
    assert torch.equal(moves[..., 1], x[..., 2] - x[..., 1]) and (moves[..., -1] == 0).all()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("base", [CROP, RANDOM], ids=["crop", "random"])
def test_absent_bodies_are_zero_or_the_first_one(base: Config, stream: str):
    skeletons, config = clips([30, 30], [1, 2]), replace(base, stream=stream)
    draws = drawn(skeletons, config)
    zero, repeat = (made(skeletons, config, draws, rule) for rule in ("zero", "repeat"))
    assert (zero[0, ..., 1] == 0).all() and zero[0, ..., 0].any()
    assert torch.equal(repeat[0, ..., 1], repeat[0, ..., 0])
    assert torch.equal(zero[1], repeat[1]) and not torch.equal(zero[1, ..., 0], zero[1, ..., 1])


def test_frames_without_a_body_stay_zero_and_the_origin_is_the_first_seen_frame():
    skeletons = clips([16], [2])
    joints = skeletons.joints.values
    joints[:4] = joints[16 + 10 :] = 0
    found = made(skeletons, replace(CROP, test_crop=1.0), None)[0]
    assert (found[:, :4, :, 0] == 0).all() and (found[:, 10:, :, 1] == 0).all()
    assert (found[:, 4, LAYOUT.centre, 0] == 0).all()
    np.testing.assert_allclose(found[:, 6, :, 1].numpy(), (joints[16 + 6] - joints[4, LAYOUT.centre]).T, atol=1e-6)


def test_a_body_that_appears_between_two_frames_comes_from_the_origin():
    """Half-way between no body and a body lies half of the centred body, not one half-way to the camera."""
    skeletons = clips([4], [1])
    skeletons.joints.values[:2] = 0
    config = Config(window=8, test_crop=1.0)
    centred = skeletons.joints.values[2] - skeletons.joints.values[2, LAYOUT.centre]
    found = made(skeletons, config, None, slots=1)[0, :, 4, :, 0]  # at 1.75 of 0..3
    np.testing.assert_allclose(found.numpy(), 0.75 * centred.T, atol=1e-6)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("config", [CROP, RANDOM], ids=["crop", "random"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "test"])
def test_a_clip_of_one_frame_fills_the_window(config: Config, stream: str, training: bool):
    skeletons, config = clips([1], [1]), replace(config, stream=stream)
    found = made(skeletons, config, drawn(skeletons, config) if training else None, slots=1)
    assert found.isfinite().all() and (found == found[:, :, :1]).all()
    assert found.any() != stream.endswith("motion")


def test_without_centre_coordinates_stay_the_cameras():
    skeletons = clips([10], [1])
    found = made(skeletons, Config(window=10, test_crop=1.0, centre=False), None, slots=1)
    np.testing.assert_allclose(found[0, ..., 0].numpy(), skeletons.joints[0].transpose(2, 0, 1), atol=1e-6)


def test_the_same_draws_make_the_same_batch_and_others_another():
    skeletons = clips()
    one, same, other = (made(skeletons, CROP, drawn(skeletons, CROP, seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    draws = drawn(skeletons, CROP)
    assert all(part.min() >= 0 and part.max() < 1 for part in draws)


def test_a_clip_does_not_depend_on_its_neighbours():
    skeletons = clips()
    packed, body = pack(skeletons), body_of(LAYOUT, 2, "zero")
    for config in (CROP, RANDOM):
        whole = batch(packed, torch.arange(6), body, config, None)
        alone = [batch(packed, torch.tensor([row]), body, config, None)[0] for row in (4, 0)]
        assert torch.equal(whole[4], alone[0]) and torch.equal(whole[0], alone[1])

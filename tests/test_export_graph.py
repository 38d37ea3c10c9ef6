"""What goes into the exported graph: preprocessing of padded clips, and the network in its quickest form."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcl.cache.skeletons import Skeletons
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.tests.exported import lively
from mmcl.tests.joints import CROP, FRAMES, RANDOM, clips, made
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.config import STREAMS, Config
from mmcl.trainer.data.skeleton import body_of
from mmcl.trainer.inference.fused import fused
from mmcl.trainer.inference.graph import network_input
from mmcl.trainer.model import build_model


def padded(skeletons: Skeletons, slots: int) -> tuple[Tensor, Tensor]:
    """All clips filled up with NaN to three frames more than the longest, and their lengths."""
    joints = np.zeros((len(FRAMES), slots, max(FRAMES) + 3, 5, 3), np.float32)
    for row, frames in enumerate(FRAMES):
        joints[row, :, frames:] = np.nan
        joints[row, : skeletons.bodies[row], :frames] = skeletons.joints[row].reshape(-1, frames, 5, 3)
    return torch.from_numpy(joints), torch.tensor(FRAMES)


@pytest.mark.parametrize("rule", ["zero", "repeat"])
@pytest.mark.parametrize("stream", STREAMS)
def test_padded_clips_are_preprocessed_as_packed_ones(stream: str, rule: str) -> None:
    """Both samplings, with and without centring and minmax: the product's own test clips to float rounding."""
    skeletons = clips()
    joints, lengths = padded(skeletons, 3)
    for base, minmax, centre in product((CROP, RANDOM), (True, False), (True, False)):
        config = replace(base, stream=stream, minmax=minmax, centre=centre)
        wanted = made(skeletons, config, None, rule, slots=3)
        found = network_input(joints, lengths, body_of(skeletons.layout, 3, rule), config)
        torch.testing.assert_close(found, wanted, atol=3e-6, rtol=0, msg=f"{config.sampling} {minmax} {centre}")


def test_a_first_body_that_is_never_seen() -> None:
    """A clip whose first body is in no frame, and one without any body, are no other numbers either."""
    joints = torch.rand(2, 2, 9, 5, 3)
    joints[0, 0] = joints[1] = 0
    body = body_of(clips().layout, 2, "zero")
    found = network_input(joints, torch.tensor([9, 4]), body, Config(window=9, test_crop=1))
    torch.testing.assert_close(found[0, ..., 1].permute(1, 2, 0), joints[0, 1])
    assert not found[0, ..., 0].any()
    assert not found[1].any()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_quick_form_has_the_networks_numbers(name: str) -> None:
    """In float64, where nothing but the order of sums differs; the network itself stays as it is."""
    torch.manual_seed(0)
    model = build_model(name, KINECT_V2, bodies=2, width=8, classes=5)
    skeletons = torch.randn(4, 3, 16, 25, 2)
    lively(model, skeletons)
    before = {entry: value.clone() for entry, value in model.state_dict().items()}
    with torch.inference_mode():
        wanted = model.double()(skeletons.double()).scores
        found = fused(model)(skeletons.double())
    assert wanted.std(0).min() > 0.01
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)
    assert all(torch.equal(value.double(), model.state_dict()[entry].double()) for entry, value in before.items())

"""What every registered backbone does, in every layout: a new one is held to it by being registered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmcl.cache.skeletons import Layout
from mmcl.pipeline.preparation.layouts import KINECT_V2, LAYOUTS
from mmcl.tests.features import features_of
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.backbones.bodies import bodies_of
from mmcl.trainer.colearning.objective import build_heads, losses, teachers_of
from mmcl.trainer.config import Config
from mmcl.trainer.model import SkeletonClassifier, build_model

WIDTH, FRAMES = 8, 8
EVERY_NAME = pytest.mark.parametrize("name", BACKBONES)
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def network(name: str, layout: Layout = KINECT_V2, *, bodies: int = 2, width: int = WIDTH) -> nn.Module:
    """A backbone away from its start, where some parameters have no gradient yet."""
    backbone = BACKBONES[name](layout, bodies, width)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return backbone


def clips(layout: Layout = KINECT_V2, *, count: int = 4, bodies: int = 2) -> Tensor:
    return torch.randn(count, 3, FRAMES, len(layout.joints), bodies)


@EVERY_NAME
@EVERY_LAYOUT
def test_makes_one_feature_a_clip_of_the_size_it_says(name: str, layout: Layout):
    for bodies in (1, 2):
        backbone = network(name, layout, bodies=bodies)
        features = backbone(clips(layout, bodies=bodies))
        assert features.shape == (4, backbone.feature_dim)
        assert features.dtype == torch.float32 and features.isfinite().all()


@EVERY_NAME
@EVERY_LAYOUT
def test_gradient_reaches_every_parameter(name: str, layout: Layout):
    """In evaluation mode: in training, a bias in front of a batch norm has none. One of three starts may be unlucky.

    (The few channels of a width of 8 die together.)
    """
    unreached = []
    for _ in range(3):
        backbone = network(name, layout).eval()
        backbone(clips(layout)).square().sum().backward()
        unreached.append({n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().max() > 0})
    assert not set.intersection(*unreached)


@dataclass(frozen=True)
class Trained:
    features: Tensor
    gradients: dict[str, Tensor]
    statistics: dict[str, Tensor]


def trained(backbone: nn.Module, x: Tensor, *bodies: object) -> Trained:
    features = backbone(x, *bodies)
    directions = torch.randn(features.shape, generator=torch.Generator().manual_seed(1), dtype=features.dtype)
    backbone.zero_grad()
    (features * directions).sum().backward()
    gradients = {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}
    return Trained(features, gradients, {name: buffer.clone() for name, buffer in backbone.named_buffers()})


@EVERY_NAME
@EVERY_LAYOUT
def test_absent_bodies_computed_once_change_nothing(name: str, layout: Layout):
    """Features, gradients and running statistics are those of the plain network; in float64, so to 1e-9."""
    counts = torch.tensor([2, 1, 1, 2, 1])
    x = clips(layout, count=5).double()
    for clip, count in enumerate(counts):
        x[clip, ..., count:] = 0
    bodies = bodies_of(counts, 2, "cpu")
    assert bodies is not None and len(bodies.pick) == 8
    backbone = network(name, layout).double()
    start = {entry: value.clone() for entry, value in backbone.state_dict().items()}
    plain = trained(backbone, x)
    backbone.load_state_dict(start)
    once = trained(backbone, x, bodies)
    torch.testing.assert_close(once.features, plain.features, rtol=1e-9, atol=1e-9)
    for found, wanted in ((once.gradients, plain.gradients), (once.statistics, plain.statistics)):
        assert list(found) == list(wanted)
        for entry, value in wanted.items():
            largest = max(1.0, float(value.abs().max()))
            torch.testing.assert_close(found[entry], value, rtol=0, atol=1e-9 * largest, msg=entry)


@EVERY_NAME
def test_absent_bodies_computed_once_change_nothing_in_evaluation(name: str):
    counts, x = torch.tensor([1, 2, 1]), clips(count=3).double()
    x[0, ..., 1:] = x[2, ..., 1:] = 0
    backbone = network(name).double().eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(x, bodies_of(counts, 2, "cpu")), backbone(x), rtol=1e-9, atol=1e-9)


@EVERY_NAME
def test_evaluates_a_clip_by_itself_as_among_others(name: str):
    backbone, x = network(name).double().eval(), clips().double()
    with torch.no_grad():
        together = backbone(x)
        alone = torch.cat([backbone(clip[None]) for clip in x])
    torch.testing.assert_close(alone, together, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(together[0], together[1])


@EVERY_NAME
def test_evaluation_leaves_the_statistics_as_they_are(name: str):
    backbone = network(name).eval()
    before = {entry: buffer.clone() for entry, buffer in backbone.named_buffers()}
    backbone(clips())
    assert all(torch.equal(buffer, before[entry]) for entry, buffer in backbone.named_buffers())


@EVERY_NAME
def test_a_seed_makes_the_same_start_and_another_another(name: str):
    def start(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return list(BACKBONES[name](KINECT_V2, 2, WIDTH).parameters())

    once, again, other = start(1), start(1), start(2)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(once, other, strict=True))


@EVERY_NAME
def test_weights_go_to_another_network_and_compute_the_same(name: str):
    one, other, x = network(name), network(name), clips()
    one(x)  # statistics that are no longer those of the start
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        assert torch.equal(other.eval()(x), one.eval()(x))


@EVERY_NAME
@pytest.mark.parametrize("width", [0, 1, 2, 4, 6, 8, 12])
def test_any_width_makes_a_network_or_is_refused_by_name(name: str, width: int):
    try:
        backbone = BACKBONES[name](KINECT_V2, 1, width)
    except ValueError as error:
        assert str(error).startswith(f"width {width}: ") and "64 in the paper" in str(error)
        assert width == 0 or width % 8  # multiples of 8, such as the papers' 64, are never refused
        return
    assert backbone(clips(bodies=1)).shape == (4, 4 * width)


@EVERY_NAME
def test_learns_with_fam_and_frm_on_top(name: str):
    """Alignment and refinement alone move the network's first block."""
    model = SkeletonClassifier(network(name), 4 * WIDTH, 3)
    rgb, text = (features_of(np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32)) for seed in (1, 2))
    config = Config()
    heads = build_heads(rgb, text, feature_dim=4 * WIDTH, classes=3, config=config)
    found = losses(
        model(clips()), torch.tensor([0, 1, 2, 0]), teachers_of(rgb, text, np.arange(4)), heads, config, count=4
    )
    (found.align + found.refine).backward()
    first = [p.grad for p in next(iter(model.backbone.blocks.children())).parameters()]
    assert found.total.isfinite() and any(grad is not None and grad.abs().max() > 0 for grad in first)


def test_a_model_is_made_of_each_name_and_of_no_other():
    assert {name: build_model(name, KINECT_V2, bodies=1, width=8, classes=2) for name in BACKBONES}
    with pytest.raises(ValueError, match="backbone 'stgcn': known are ctrgcn, ctrsgcn, hdgcn"):
        build_model("stgcn", KINECT_V2, bodies=1, width=8, classes=2)

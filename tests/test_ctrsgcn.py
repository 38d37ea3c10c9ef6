"""CTRS-GCN against the numbers of the original: logits in both modes, the input's gradient, sizes."""

from __future__ import annotations

import pytest
import torch

from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.tests.golden import Golden
from mmcl.trainer.backbones.originals.ctrsgcn import from_original
from mmcl.trainer.model import SkeletonClassifier, build_model

GOLDEN = Golden("ctrsgcn_ntu120")


def golden_model() -> SkeletonClassifier:
    model = build_model("ctrsgcn", KINECT_V2, bodies=2, width=64, classes=120)
    model.load_state_dict(from_original(GOLDEN.state))
    return model


def test_logits_are_the_originals_in_both_modes():
    model = golden_model()
    with torch.no_grad():
        assert GOLDEN.error(model.eval()(GOLDEN.clips).scores, "eval_logits") < 1e-4
        assert GOLDEN.error(model.train()(GOLDEN.clips).scores, "train_logits") < 1e-4


def test_gradient_is_the_originals_in_float64():
    model, x = golden_model().double().eval(), GOLDEN.clips.double().requires_grad_()
    (model(x).scores ** 2).mean().backward()
    assert x.grad is not None
    assert GOLDEN.error(x.grad[:, :, ::4], "grad_input_every_4th_frame") < 1e-5


def test_parameter_count_is_the_originals():
    for classes, wanted in zip((60, 120), GOLDEN.arrays["parameters"], strict=True):
        model = build_model("ctrsgcn", KINECT_V2, bodies=2, width=64, classes=classes)
        assert sum(p.numel() for p in model.parameters()) == wanted


def test_original_checkpoint_may_have_prefixes_and_others_are_refused():
    prefixed = from_original({f"module.{name}": value for name, value in GOLDEN.state.items()})
    assert all(torch.equal(value, prefixed[name]) for name, value in from_original(GOLDEN.state).items())
    with pytest.raises(ValueError, match=r"not an original CTRS-GCN checkpoint: it has no 'l1\.gcn1\.PA'"):
        from_original({name: value for name, value in GOLDEN.state.items() if name != "l1.gcn1.PA"})


def test_start_is_one_topology_of_each_joint_itself_for_every_subset():
    """The layout's edges are no part of it: relations between joints are learned from nothing."""
    model = build_model("ctrsgcn", KINECT_V2, bodies=2, width=64, classes=120)
    block = model.backbone.blocks[9]
    assert torch.equal(block.spatial.topology, torch.eye(25).expand(3, -1, -1))
    assert block.spatial.value.weight.std().item() == pytest.approx((2 / (256 * 256 * 3)) ** 0.5, rel=0.02)
    assert block.temporal.conv.weight.std().item() == pytest.approx((2 / (256 * 5)) ** 0.5, rel=0.02)
    assert block.spatial.bn.weight.unique().tolist() == pytest.approx([1e-6])

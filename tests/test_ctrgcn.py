"""The network against the numbers of the original: logits in both modes, the input's gradient, sizes."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.pipeline.preparation.layouts import KINECT_V1, KINECT_V2
from mmcl.trainer.backbones.graph import adjacency
from mmcl.trainer.backbones.originals.ctrgcn import from_original
from mmcl.trainer.backbones.originals.load import load_original
from mmcl.trainer.model import build_model

GOLDEN = np.load(Path(__file__).parent / "data" / "ctrgcn_ntu120.npz", allow_pickle=False)


def original_state() -> dict[str, torch.Tensor]:
    shapes = [tuple(int(n) for n in str(s).strip("[]").split(",") if n.strip()) for s in GOLDEN["state_dict_shapes"]]
    names = [str(name) for name in GOLDEN["state_dict_names"]]
    return {name: torch.tensor(formula(name, shape)) for name, shape in zip(names, shapes, strict=True)}


def formula(name: str, s: tuple[int, ...]) -> np.ndarray:
    r = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(1)
    if name.endswith("running_var"):
        w = r.uniform(0.5, 1.5, s)
    elif name.endswith("running_mean"):
        w = r.normal(0, 0.1, s)
    elif name.endswith(".PA"):
        w = r.uniform(0, 0.02, s)
    elif name.endswith("alpha"):
        w = np.full(s, 0.2)
    elif len(s) >= 2:
        w = 0.5 * r.normal(0, 1, s) / np.sqrt(np.prod(s[1:]))
    elif "bn" in name or name.endswith(".weight"):
        w = r.uniform(0.5, 1.5, s) if name.endswith("weight") else r.normal(0, 0.1, s)
    else:
        w = r.normal(0, 0.1, s)
    return w.astype(np.float32)


def golden_input() -> torch.Tensor:
    r = np.random.RandomState(7)
    return torch.tensor(r.normal(0, 0.5, [2, 3, 64, 25, 2]).astype(np.float32))


def golden_model() -> torch.nn.Module:
    model = build_model("ctrgcn", KINECT_V2, bodies=2, width=64, classes=120)
    model.load_state_dict(from_original(original_state()))
    return model


def error(found: torch.Tensor, name: str) -> float:
    wanted = GOLDEN[name]
    return float(np.abs(found.detach().numpy() - wanted).max() / np.abs(wanted).max())


def test_logits_are_the_originals_in_both_modes():
    model = golden_model()
    with torch.no_grad():
        assert error(model.eval()(golden_input()).scores, "eval_logits") < 1e-4
        assert error(model.train()(golden_input()).scores, "train_logits") < 1e-4


def test_gradient_is_the_originals_in_float64():
    model, x = golden_model().double().eval(), golden_input().double().requires_grad_()
    (model(x).scores ** 2).mean().backward()
    assert x.grad is not None
    assert error(x.grad, "grad_input_of_mean_square_eval") < 1e-5


def test_adjacency_is_the_originals():
    np.testing.assert_allclose(adjacency(KINECT_V2), GOLDEN["adjacency"], atol=1e-7)


@pytest.mark.parametrize(
    ("layout", "bodies", "classes", "published"),
    [(KINECT_V2, 2, 120, 1_462_092), (KINECT_V2, 2, 60, 1_446_672), (KINECT_V1, 1, 10, 1_426_892)],
)
def test_parameter_count_is_the_published_one(layout, bodies, classes, published):
    model = build_model("ctrgcn", layout, bodies=bodies, width=64, classes=classes)
    assert sum(p.numel() for p in model.parameters()) == published


def test_original_checkpoint_file_loads_with_prefix_and_refuses_others(tmp_path):
    torch.save({f"module.{name}": value for name, value in original_state().items()}, tmp_path / "original.pt")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    model = build_model("ctrgcn", KINECT_V2, bodies=2, width=64, classes=120)
    model.load_state_dict(load_original(tmp_path / "original.pt").state)
    with pytest.raises(ValueError, match=r"other\.pt: not an original checkpoint of ctrgcn, ctrsgcn, hdgcn"):
        load_original(tmp_path / "other.pt")


def test_start_follows_the_papers_distributions():
    """Fused convolutions start with the deviation of the separate ones they stand for."""
    torch.manual_seed(0)
    block = build_model("ctrgcn", KINECT_V2, bodies=2, width=64, classes=120).backbone.blocks[9]
    assert block.spatial.value.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert block.spatial.relate.weight.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.02)
    assert block.temporal.near.weight.std().item() == pytest.approx((2 / (64 * 5)) ** 0.5, rel=0.03)
    assert block.spatial.bn.weight.unique().tolist() == pytest.approx([1e-6])
    assert block.spatial.alpha.item() == 0


def test_unknown_backbone_lists_the_known_ones():
    with pytest.raises(ValueError, match="backbone 'ctr': known are ctrgcn"):
        build_model("ctr", KINECT_V1, bodies=1, width=64, classes=10)

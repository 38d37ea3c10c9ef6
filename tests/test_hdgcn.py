"""HD-GCN: its hierarchies of joints, and the network against the numbers of the original."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmcl.cache.skeletons import Layout
from mmcl.pipeline.preparation.layouts import COCO_17, H36M_17, KINECT_V1, KINECT_V1_UTD, KINECT_V2, LAYOUTS
from mmcl.tests.golden import Golden
from mmcl.trainer.backbones.hierarchy import LEVELS, centre_of_mass, hierarchical_graph, levels
from mmcl.trainer.backbones.originals.hdgcn import from_original
from mmcl.trainer.backbones.originals.load import load_original
from mmcl.trainer.model import SkeletonClassifier, build_model

GOLDEN = Golden("hdgcn_ntu120")
CENTRES = ("chest", "belly", "hip")

# The authors' levels of NTU RGB+D's joints, from 1.
PUBLISHED = {
    "chest": ({21}, {2, 3, 5, 9}, {4, 6, 10, 1}, {7, 11, 13, 17}, {8, 12, 14, 18}, {22, 23, 24, 25, 15, 19}, {16, 20}),
    "belly": ({2}, {1, 21}, {13, 17, 3, 5, 9}, {14, 18, 4, 6, 10}, {15, 19, 7, 11}, {16, 20, 8, 12}, {22, 23, 24, 25}),
    "hip": ({1}, {2, 13, 17}, {14, 18, 21}, {3, 5, 9, 15, 19}, {4, 6, 10, 16, 20}, {7, 11}, {8, 12, 22, 23, 24, 25}),
}


def golden_model() -> SkeletonClassifier:
    model = build_model("hdgcn", KINECT_V2, bodies=2, width=64, classes=120)
    model.load_state_dict(from_original(GOLDEN.state))
    return model


@pytest.mark.parametrize("centre", CENTRES)
def test_levels_and_graph_of_the_kinects_25_joints_are_the_authors(centre: str):
    found = levels(KINECT_V2, centre_of_mass(KINECT_V2, centre))
    assert [{joint + 1 for joint in level} for level in found] == list(PUBLISHED[centre])
    assert torch.equal(hierarchical_graph(found), torch.tensor(GOLDEN.arrays[f"graph_{centre}"]))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("centre", CENTRES)
def test_every_layout_has_its_joints_in_levels_by_their_distance(layout: Layout, centre: str):
    """Each joint once; whoever is a neighbour in the tree is on the next level, or on the last with those beyond it."""
    start = centre_of_mass(layout, centre)
    found = levels(layout, start)
    assert found[0] == (start,) and len(found) <= LEVELS
    assert sorted(joint for level in found for joint in level) == list(range(len(layout.joints)))
    at = {joint: number for number, level in enumerate(found) for joint in level}
    tips = {joint for joint, name in enumerate(layout.joints) if name.endswith("hand tip")}
    for child, parent in layout.edges:
        apart = abs(at[child] - at[parent])
        assert apart == (0 if child in tips or at[child] == at[parent] == LEVELS - 1 else 1)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_graph_joins_each_level_with_the_next_and_nothing_else(layout: Layout):
    found = levels(layout, centre_of_mass(layout, "chest"))
    graph = hierarchical_graph(found)
    assert graph.shape == (len(found) - 1, 3, len(layout.joints), len(layout.joints))
    for (itself, outward, inward), near, far in zip(graph, found, found[1:], strict=False):
        assert {int(i) for i in itself.diagonal().nonzero()} == {*near, *far}
        assert {(int(u), int(v)) for u, v in outward.nonzero()} == {(u, v) for u in far for v in near}
        assert torch.equal(outward > 0, inward.T > 0)
        for links in (outward, inward):
            assert set(links.sum(0).round(decimals=5).tolist()) == {0.0, 1.0}


def test_centres_of_mass_are_found_by_what_they_join():
    named = {
        layout.name: [layout.joints[centre_of_mass(layout, centre)] for centre in CENTRES]
        for layout in (KINECT_V1, KINECT_V1_UTD, KINECT_V2, COCO_17, H36M_17)
    }
    assert named == {
        "kinect-v1": ["shoulder centre", "spine", "hip centre"],
        "kinect-v1-utd": ["shoulder centre", "spine", "hip centre"],
        "kinect-v2": ["spine shoulder", "spine middle", "spine base"],
        "coco-17": ["nose", "nose", "nose"],
        "h36m-17": ["thorax", "spine", "pelvis"],
    }


def test_layout_without_shoulders_is_refused():
    hand = Layout("hand", ("wrist", "thumb"), ((1, 0),), 0)
    with pytest.raises(ValueError, match="layout hand: HD-GCN's chest lies between left shoulder and right shoulder"):
        build_model("hdgcn", hand, bodies=1, width=8, classes=3)
    assert levels(hand, centre_of_mass(hand, "belly")) == ((0,), (1,))


def test_one_joint_is_refused():
    with pytest.raises(ValueError, match="layout dot: HD-GCN wants two joints or more"):
        build_model("hdgcn-belly", Layout("dot", ("dot",), (), 0), bodies=1, width=8, classes=3)


def test_fewer_joints_than_nearest_ones_make_a_network_too():
    chain = Layout("chain", ("a", "b", "c"), ((1, 0), (2, 1)), 0)
    model = build_model("hdgcn-belly", chain, bodies=1, width=4, classes=3)
    assert model(torch.randn(2, 3, 8, 3, 1)).scores.isfinite().all()


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
        model = build_model("hdgcn", KINECT_V2, bodies=2, width=64, classes=classes)
        assert sum(p.numel() for p in model.parameters()) == wanted


def test_original_checkpoint_may_have_prefixes_and_others_are_refused():
    prefixed = from_original({f"module.{name}": value for name, value in GOLDEN.state.items()})
    assert all(torch.equal(value, prefixed[name]) for name, value in from_original(GOLDEN.state).items())
    with pytest.raises(ValueError, match=r"not an original HD-GCN checkpoint: it has no 'l1\.gcn1\.PA'"):
        from_original({name: value for name, value in GOLDEN.state.items() if name != "l1.gcn1.PA"})


def test_the_file_of_an_original_says_which_network_it_is_of(tmp_path: Path):
    torch.save({f"module.{name}": value for name, value in GOLDEN.state.items()}, tmp_path / "original.pt")
    backbone, state = load_original(tmp_path / "original.pt")
    assert backbone == "hdgcn"
    build_model("hdgcn", KINECT_V2, bodies=2, width=64, classes=120).load_state_dict(state)


def test_start_follows_the_authors_distributions():
    """Fused convolutions start with the deviation of the separate ones they stand for, topologies at the graph."""
    torch.manual_seed(0)
    spatial = build_model("hdgcn", KINECT_V2, bodies=2, width=64, classes=120).backbone.blocks[9].spatial
    assert torch.equal(spatial.topology, torch.tensor(GOLDEN.arrays["graph_chest"]))
    for weight in (spatial.reduce.weight, spatial.value, spatial.nearest.weight, spatial.attention.reduce.weight):
        assert weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    assert spatial.bn.weight.unique().tolist() == pytest.approx([1e-6])

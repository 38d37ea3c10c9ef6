"""Joint layouts against the published edge lists."""

from __future__ import annotations

import pytest
import torch

from mmcl.cache.skeletons import Layout
from mmcl.pipeline.preparation.layouts import COCO_17, H36M_17, KINECT_V1, KINECT_V1_UTD, KINECT_V2, LAYOUTS
from mmcl.trainer.backbones.graph import adjacency
from mmcl.trainer.model import build_model

NW_UCLA_EDGES = (
    *((1, 2), (2, 3), (4, 3), (5, 3), (6, 5), (7, 6), (8, 7), (9, 3), (10, 9), (11, 10), (12, 11)),
    *((13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19)),
)
NTU_EDGES = (
    *((1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11)),
    *((13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19)),
    *((22, 23), (23, 8), (24, 25), (25, 12)),
)
# PYSKL's graph of COCO's keypoints, from 0
COCO_EDGES = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 5), (12, 6), (9, 7), (7, 5), (10, 8), (8, 6)),
    *((5, 0), (6, 0), (1, 0), (3, 1), (2, 0), (4, 2)),
)
# the parents that pose estimation on Human3.6M uses, from 0; -1 is the root
H36M_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)


def named(layout: Layout) -> set[tuple[str, str]]:
    return {(layout.joints[child], layout.joints[parent]) for child, parent in layout.edges}


@pytest.mark.parametrize(("layout", "edges"), [(KINECT_V1, NW_UCLA_EDGES), (KINECT_V2, NTU_EDGES)])
def test_kinects_have_the_edges_of_nw_ucla_and_ntu(layout: Layout, edges: tuple[tuple[int, int], ...]):
    assert layout.edges == tuple((child - 1, parent - 1) for child, parent in edges)


def test_both_orders_of_kinect_v1_are_one_skeleton():
    assert KINECT_V1.joints != KINECT_V1_UTD.joints
    assert named(KINECT_V1) == named(KINECT_V1_UTD)


def test_coco_has_the_edges_of_pyskl_and_left_before_right():
    assert set(COCO_17.edges) == set(COCO_EDGES)
    assert COCO_17.joints[0] == "nose" and COCO_17.parents[0] == 0
    assert all(joint.startswith(("left", "right")[index % 2]) for index, joint in enumerate(COCO_17.joints[1:]))


def test_h36m_has_the_usual_parents_and_the_right_leg_before_the_left():
    assert [-1 if joint == parent else parent for joint, parent in enumerate(H36M_17.parents)] == list(H36M_PARENTS)
    assert H36M_17.joints[1:4] == ("right hip", "right knee", "right ankle")
    assert H36M_17.joints[11:14] == ("left shoulder", "left elbow", "left wrist")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_left_and_right_mirror_each_other(layout: Layout):
    for left, right in layout.pairs:
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
    assert len(layout.pairs) == sum(joint.startswith("left") for joint in layout.joints)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_bones_stay_on_their_side(layout: Layout):
    """A bone of the left side is a bone of the right side too, mirrored."""
    swap = {"left": "right", "right": "left"}
    mirrored = {
        tuple(" ".join(swap.get(word, word) for word in joint.split()) for joint in bone) for bone in named(layout)
    }
    assert mirrored == named(layout)


def test_layouts_are_found_by_name():
    assert list(LAYOUTS) == ["kinect-v1", "kinect-v1-utd", "kinect-v2", "coco-17", "h36m-17"]
    assert {name: len(layout.joints) for name, layout in LAYOUTS.items()} == dict(
        zip(LAYOUTS, (20, 20, 25, 17, 17), strict=True)
    )
    assert all(layout.joints[layout.centre] in ("spine", "spine middle", "nose") for layout in LAYOUTS.values())


def test_root_is_its_own_parent():
    assert KINECT_V2.parents[20] == 20
    assert KINECT_V1.parents[2] == 2


def test_edges_that_do_not_make_a_tree_are_refused():
    with pytest.raises(ValueError, match="layout broken: 1 edges do not join 3 joints to a tree"):
        Layout("broken", ("a", "b", "c"), ((0, 1),), 0)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_layout_makes_a_network(layout):
    """The adjacency follows from the edges alone: identity, inward, outward, each column summing to one or nothing."""
    joints = len(layout.joints)
    itself, inward, outward = adjacency(layout)
    assert torch.equal(itself, torch.eye(joints))
    assert {(int(parent), int(child)) for parent, child in inward.nonzero()} == {(p, c) for c, p in layout.edges}
    assert {(int(child), int(parent)) for child, parent in outward.nonzero()} == set(layout.edges)
    for links in (inward, outward):
        assert set(links.sum(0).round(decimals=5).tolist()) == {0.0, 1.0}
    model = build_model("ctrgcn", layout, bodies=1, width=8, classes=3).eval()
    assert model(torch.zeros(2, 3, 16, joints, 1)).scores.shape == (2, 3)

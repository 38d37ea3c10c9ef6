"""From layout to layout: every pair converts or is refused with names, and the sums are worked out by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from mmcl.cache.convert import convert
from mmcl.cache.skeletons import Layout
from mmcl.pipeline.preparation.convert import joint_map
from mmcl.pipeline.preparation.layouts import COCO_17, H36M_17, KINECT_V1, KINECT_V1_UTD, KINECT_V2, LAYOUTS

KINECTS = (KINECT_V1, KINECT_V1_UTD, KINECT_V2)
PAIRS = list(permutations(LAYOUTS.values(), 2))
CONVERT = {*permutations(KINECTS, 2), *((layout, H36M_17) for layout in (*KINECTS, COCO_17))}


def side(joint: str) -> str:
    return joint.split()[0] if joint.startswith(("left", "right")) else ""


def mirrored(joints: np.ndarray, layout: Layout) -> np.ndarray:
    """The same body seen in a mirror: x turned round, left and right exchanged."""
    order = list(range(len(layout.joints)))
    for left, right in layout.pairs:
        order[left], order[right] = right, left
    return joints[..., order, :] * np.array([-1, 1, 1], np.float32)


def body(layout: Layout) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 5, len(layout.joints), 3)).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda layout: layout.name)
def test_a_pair_converts_or_is_refused_by_the_joints_that_lack(source: Layout, target: Layout):
    if (source, target) not in CONVERT:
        with pytest.raises(ValueError, match=rf"{source.name} can't be turned into {target.name}: no joint stands for"):
            joint_map(source, target)
        return
    made = joint_map(source, target)
    assert len(made) == len(target.joints)
    for joint, parts in zip(target.joints, made, strict=True):
        assert sum(weight for _, weight in parts) == pytest.approx(1)
        sides = {side(source.joints[part]) for part, _ in parts}
        assert sides == {side(joint)} if side(joint) else sides in ({""}, {"left", "right"}, {"", "left", "right"})
    joints = body(source)
    there, back = convert(mirrored(joints, source), made), mirrored(convert(joints, made), target)
    assert there.shape == (2, 5, len(target.joints), 3) and there.dtype == np.float32
    np.testing.assert_allclose(there, back, atol=1e-6)


def test_refusals_name_the_joints():
    with pytest.raises(ValueError, match="no joint stands for nose, left eye, right eye, left ear, right ear; use"):
        joint_map(KINECT_V2, COCO_17)
    with pytest.raises(ValueError, match="no joint stands for left hand, right hand, left foot, right foot; use a"):
        joint_map(COCO_17, KINECT_V1)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_joint_that_is_there_is_taken_as_it_is(layout: Layout):
    assert joint_map(layout, layout) == tuple(((joint, 1.0),) for joint in range(len(layout.joints)))


def test_half_a_rule_makes_no_joint():
    one_armed = Layout("one-armed", ("left shoulder", "head"), ((1, 0),), 0)
    chest = Layout("chest", ("head", "thorax"), ((0, 1),), 1)
    with pytest.raises(ValueError, match="one-armed can't be turned into chest: no joint stands for thorax; use a"):
        joint_map(one_armed, chest)


def test_both_orders_of_kinect_v1_go_round_exactly():
    there, back = joint_map(KINECT_V1, KINECT_V1_UTD), joint_map(KINECT_V1_UTD, KINECT_V1)
    joints = body(KINECT_V1)
    turned = convert(joints, there)
    np.testing.assert_array_equal(turned[..., 0, :], joints[..., 3, :])  # UTD-MHAD begins with the head
    np.testing.assert_array_equal(convert(turned, back), joints)


def test_a_kinect_v2_gives_up_its_five_joints_and_nothing_else():
    joints = body(KINECT_V1)
    there = convert(joints, joint_map(KINECT_V1, KINECT_V2))
    np.testing.assert_array_equal(convert(there, joint_map(KINECT_V2, KINECT_V1)), joints)


def test_twenty_joints_become_twenty_five_by_hand():
    """Joint i of 20 stands at (i, 10 i, 100 i + 1)."""
    number = np.arange(20, dtype=np.float32)
    made = convert(np.stack([number, 10 * number, 100 * number + 1], -1), joint_map(KINECT_V1, KINECT_V2))
    # 1 base, 2 middle, 3 neck = (2 + 3) / 2, 4 head, 5-20 limbs as they are, 21 spine shoulder;
    # 22 left tip = 7 + (7 - 6) / 2, 23 left thumb = (6 + 7) / 2, 24 right tip = 11 + (11 - 10) / 2, 25 right thumb
    wanted = np.array([0, 1, 2.5, 3, *range(4, 20), 2, 7.5, 6.5, 11.5, 10.5])
    np.testing.assert_allclose(made[:, 0], wanted)
    np.testing.assert_allclose(made[:, 1], 10 * wanted)
    np.testing.assert_allclose(made[:, 2], 100 * wanted + 1)


def test_coco_gives_the_trunk_of_h36m_by_rules_of_rules():
    number = np.arange(17, dtype=np.float32) + 1
    made = convert(np.stack([number] * 3, -1), joint_map(COCO_17, H36M_17))[:, 0]
    at = dict(zip(H36M_17.joints, made.tolist(), strict=True))
    # from 1: ears 4 and 5, shoulders 6 and 7, hips 12 and 13
    assert (at["pelvis"], at["thorax"], at["head"]) == (12.5, 6.5, 4.5)
    assert (at["spine"], at["neck"]) == ((12.5 + 6.5) / 2, (6.5 + 4.5) / 2)
    assert (at["left wrist"], at["right ankle"]) == (10, 17)


def test_a_joint_made_of_one_that_is_not_there_is_not_there():
    joints = body(KINECT_V1)
    joints[0, 2] = 0  # a frame without a body
    joints[1, 3, 7] = 0  # one left hand
    made = convert(joints, joint_map(KINECT_V1, KINECT_V2))
    assert not made[0, 2].any() and made[0, 1].all()
    gone = [KINECT_V2.joints[joint] for joint in np.flatnonzero(~made[1, 3].any(-1))]
    assert gone == ["left hand", "left hand tip", "left thumb"]

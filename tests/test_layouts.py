"""Joint layouts against the published edge lists."""

from __future__ import annotations

import pytest

from mmcl.cache.skeletons import Layout
from mmcl.pipeline.layouts import KINECT_V1, KINECT_V1_UTD, KINECT_V2, LAYOUTS

NW_UCLA_EDGES = (
    *((1, 2), (2, 3), (4, 3), (5, 3), (6, 5), (7, 6), (8, 7), (9, 3), (10, 9), (11, 10), (12, 11)),
    *((13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19)),
)


def named(layout: Layout) -> set[tuple[str, str]]:
    return {(layout.joints[child], layout.joints[parent]) for child, parent in layout.edges}


def test_kinect_v1_has_nw_uclas_edges():
    assert set(KINECT_V1.edges) == {(child - 1, parent - 1) for child, parent in NW_UCLA_EDGES}


def test_both_orders_of_kinect_v1_are_one_skeleton():
    assert KINECT_V1.joints != KINECT_V1_UTD.joints
    assert named(KINECT_V1) == named(KINECT_V1_UTD)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_left_and_right_mirror_each_other(layout):
    for left, right in layout.pairs:
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
    assert len(layout.pairs) == sum(joint.startswith("left") for joint in layout.joints)


def test_root_is_its_own_parent():
    assert KINECT_V2.parents[20] == 20
    assert KINECT_V1.parents[2] == 2


def test_edges_that_do_not_make_a_tree_are_refused():
    with pytest.raises(ValueError, match="layout broken: 1 edges do not join 3 joints to a tree"):
        Layout("broken", ("a", "b", "c"), ((0, 1),), 0)

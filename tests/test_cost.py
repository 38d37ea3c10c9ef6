"""What networks cost, against what was published and what the released code costs."""

from __future__ import annotations

import pytest
from rich.console import Console

from mmcl.pipeline.preparation.layouts import KINECT_V1, KINECT_V2
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.backbones.cost import PUBLISHED, backbone_table, cost


@pytest.mark.parametrize("name", BACKBONES)
def test_cost_is_the_published_one(name: str):
    """Parameters to 1.5% (papers round, and count 60 or 120 classes), multiply-adds to 10%: ours repeats nothing.

    Of the released code's operations, counted in the same way, ours does at most all and not less than nine in ten.
    """
    found, said = cost(name, KINECT_V2), PUBLISHED[name]
    if said.parameters is not None:
        assert found.parameters / 1e6 == pytest.approx(said.parameters, rel=0.015)
    if said.multiply_adds is not None:
        assert found.multiply_adds / 1e9 == pytest.approx(said.multiply_adds, rel=0.1)
    assert 0.9 * said.released < found.multiply_adds / 1e9 < 1.001 * said.released


def test_every_multiply_add_is_counted_once():
    """A count by hand of the smallest network: topologies, subsets, shortcuts, five frames, classifier."""
    joints, c_in, t, by_hand = 20, 3, 4, 32 * 5
    for c_out, stride in [(8, 1)] * 4 + [(16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1)]:
        shortcut = c_in * c_out if c_in != c_out else 0
        by_hand += joints * t * (3 * c_in * joints + 3 * c_in * c_out + shortcut)
        t //= stride
        by_hand += joints * t * (5 * c_out * c_out + (shortcut if c_in != 3 else 0))
        c_in = c_out
    assert cost("ctrsgcn", KINECT_V1, frames=4, bodies=1, classes=5, width=8).multiply_adds == by_hand


def test_cost_follows_clips_and_classes():
    whole = cost("ctrgcn", KINECT_V2)
    classes, width = 120, 64
    assert whole.parameters - cost("ctrgcn", KINECT_V2, classes=60).parameters == (4 * width + 1) * (classes - 60)
    body = cost("ctrgcn", KINECT_V2, bodies=1)
    assert whole.multiply_adds - 4 * width * classes == 2 * (body.multiply_adds - 4 * width * classes)


def test_table_has_a_line_for_every_backbone_and_says_whose_figures_it_gives():
    console = Console(width=200)
    with console.capture() as printed:
        console.print(backbone_table(KINECT_V2))
    text = printed.get()
    for name in BACKBONES:
        assert name in text
    assert "1.46 M" in text and "1.97" in text and "Chen et al., ICCV 2021" in text
    assert "25 joints (kinect-v2), 64 frames, 2 bodies, 120 classes" in text

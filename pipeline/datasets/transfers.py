"""How networks that were trained on NTU RGB+D 120 are tested on another data set."""

from __future__ import annotations

from collections.abc import Mapping

from ...cache.skeletons import Layout, Transfer
from ..preparation.convert import joint_map
from ..preparation.layouts import KINECT_V2
from .ntu_classes import CLASSES


def from_ntu120(layout: Layout, actions: Mapping[str, int], source: str) -> Transfer:
    """The transfer to a data set of `layout`; `actions` are its class names with their A numbers in NTU RGB+D 120."""
    classes = {own: CLASSES[action - 1] for own, action in actions.items()}
    return Transfer("ntu120", KINECT_V2, joint_map(layout, KINECT_V2), classes, source)

"""HD-GCN's graph (Lee et al., ICCV 2023): joints by their distance from a centre of mass, neighbouring levels joined.

Every joint of a level is joined with every joint of the next, so that a hand is a neighbour of the other hand's wrist.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...cache.skeletons import Layout

LEVELS = 7  # farther joints count with the seventh level, as in the authors' three graphs of NTU RGB+D
CENTRES = {"chest": "shoulder", "hip": "hip"}  # half way between the left and the right one


def centre_of_mass(layout: Layout, centre: str) -> int:
    """The joint that a hierarchy starts from: "chest", "belly" or "hip", joints 21, 2 and 1 of NTU RGB+D.

    COCO's keypoints have no trunk: there all three are the nose. ValueError where a layout lacks shoulders or hips.
    """
    if centre == "belly":
        return layout.centre
    pair = [f"{side} {CENTRES[centre]}" for side in ("left", "right")]
    if not set(pair) <= set(layout.joints):
        raise ValueError(f"layout {layout.name}: HD-GCN's {centre} lies between {' and '.join(pair)}; it lacks them")
    left, right = (layout.joints.index(joint) for joint in pair)
    path = _path(_neighbours(layout), left, right)
    return path[len(path) // 2]


def levels(layout: Layout, centre: int) -> tuple[tuple[int, ...], ...]:
    """The joints by their distance from a joint, nearest first; two levels at least, `LEVELS` at most."""
    if len(layout.joints) < 2:
        raise ValueError(f"layout {layout.name}: HD-GCN wants two joints or more")
    neighbours, found = _neighbours(layout), [{centre}]
    while beyond := {n for joint in found[-1] for n in neighbours[joint]} - set().union(*found):
        found.append(beyond)
    far = set().union(*found[LEVELS - 1 :])
    return tuple(tuple(sorted(level)) for level in [*found[: LEVELS - 1], far] if level)


def hierarchical_graph(found: tuple[tuple[int, ...], ...]) -> Tensor:
    """For each of the L pairs of neighbouring levels: the joints themselves, outward, inward: [L, 3, V, V].

    Entry [u, v] is what joint u takes from joint v; each column that is not empty sums to one.
    """
    joints = sum(map(len, found))
    graph = torch.zeros(len(found) - 1, 3, joints, joints)
    for (itself, outward, inward), near, far in zip(graph, found, found[1:], strict=False):
        itself[[*near, *far], [*near, *far]] = 1
        outward[torch.tensor(far)[:, None], torch.tensor(near)] = 1 / len(far)
        inward[torch.tensor(near)[:, None], torch.tensor(far)] = 1 / len(near)
    return graph


def _neighbours(layout: Layout) -> list[set[int]]:
    """Each joint's neighbours in the tree, in which HD-GCN's hands carry their tips, not the thumbs."""
    joints = layout.joints
    neighbours: list[set[int]] = [set() for _ in joints]
    for child, parent in layout.edges:
        hand = joints[child].removesuffix(" tip")
        parent = joints.index(hand) if joints[child].endswith("hand tip") and hand in joints else parent
        neighbours[child].add(parent)
        neighbours[parent].add(child)
    return neighbours


def _path(neighbours: list[set[int]], start: int, end: int, came: int = -1) -> list[int]:
    """The joints from `start` to `end`, both included; none where it is not on this branch of the tree."""
    if start == end:
        return [end]
    for joint in neighbours[start] - {came}:
        if rest := _path(neighbours, joint, end, start):
            return [start, *rest]
    return []

"""Joints and how they hang together, and how one layout's joints are made of another's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# for each joint of the target: (own joint, weight), ...; the weights of a joint sum to 1
JointMap = tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class Layout:
    """Joints and how they hang together; indices count from 0.

    `edges` are (child, parent); the joint that is nobody's child is the root. `centre` is the joint that clips are
    moved by (the middle spine). `pairs` are (left, right).
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    centre: int
    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        count = len(self.joints)
        if not _is_tree(self.edges, count):
            raise ValueError(f"layout {self.name}: {len(self.edges)} edges do not join {count} joints to a tree")
        named = [self.centre, *(joint for pair in self.pairs for joint in pair)]
        if not all(0 <= joint < count for joint in named):
            raise ValueError(f"layout {self.name}: centre or pairs name a joint outside 0..{count - 1}")

    @property
    def parents(self) -> list[int]:
        """The parent of each joint; the root is its own."""
        parent = dict(self.edges)
        return [parent.get(joint, joint) for joint in range(len(self.joints))]

    @staticmethod
    def from_dict(found: Mapping[str, object]) -> Layout:
        def pairs(name: str) -> tuple[tuple[int, int], ...]:
            return tuple((int(a), int(b)) for a, b in found[name])  # type: ignore[attr-defined]

        joints = tuple(str(joint) for joint in found["joints"])  # type: ignore[attr-defined]
        return Layout(str(found["name"]), joints, pairs("edges"), int(str(found["centre"])), pairs("pairs"))


def _is_tree(edges: tuple[tuple[int, int], ...], joints: int) -> bool:
    """Every joint but one has one parent, and following parents ends at that one."""
    parent = dict(edges)
    if len(parent) != len(edges) or len(edges) != joints - 1 or {j for e in edges for j in e} - set(range(joints)):
        return False
    reached = set(range(joints)) - set(parent)
    for _ in edges:
        reached |= {child for child, above in edges if above in reached}
    return len(reached) == joints

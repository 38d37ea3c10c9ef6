"""From one joint layout to another through the joints' names; the sums themselves are made by cache/convert.py."""

from __future__ import annotations

from collections.abc import Mapping

from ...cache.skeletons import JointMap, Layout

# one place of the body under several names
SYNONYMS = {
    "hip centre": "pelvis",
    "spine base": "pelvis",
    "spine middle": "spine",
    "shoulder centre": "thorax",
    "spine shoulder": "thorax",
}
_SIDED_RULES = {
    "side thumb": ((0.5, "side wrist"), (0.5, "side hand")),
    "side hand tip": ((1.5, "side hand"), (-0.5, "side wrist")),  # hand + (hand - wrist) / 2
}
# What stands in for a joint that a layout lacks: a weighted sum of others. There is none for hands and feet: a copy of
# the wrist or the ankle would be a bone of no length, and where a foot points can't be known from the leg.
RULES: Mapping[str, tuple[tuple[float, str], ...]] = {
    "pelvis": ((0.5, "left hip"), (0.5, "right hip")),
    "thorax": ((0.5, "left shoulder"), (0.5, "right shoulder")),
    "spine": ((0.5, "pelvis"), (0.5, "thorax")),
    "neck": ((0.5, "thorax"), (0.5, "head")),
    "head": ((0.5, "left ear"), (0.5, "right ear")),  # its middle, where the Kinect puts it
    **{
        joint.replace("side", side): tuple((weight, part.replace("side", side)) for weight, part in parts)
        for joint, parts in _SIDED_RULES.items()
        for side in ("left", "right")
    },
}


def joint_map(source: Layout, target: Layout) -> JointMap:
    """For each joint of `target` the joints of `source` that make it and their weights, which sum to 1.

    A joint of the same name is taken as it is, then one of another name for the same place, then a rule.
    Raises ValueError with the joints that can't be had.
    """
    own = {SYNONYMS.get(joint, joint): index for index, joint in enumerate(source.joints)}
    made = [_made(SYNONYMS.get(joint, joint), own) for joint in target.joints]
    if missing := [joint for joint, parts in zip(target.joints, made, strict=True) if not parts]:
        raise ValueError(
            f"{source.name} can't be turned into {target.name}: no joint stands for {', '.join(missing)}; "
            f"use a layout without {'it' if len(missing) == 1 else 'them'}"
        )
    return tuple(tuple(sorted(parts.items())) for parts in made)


def _made(joint: str, own: Mapping[str, int]) -> dict[int, float]:
    """Own joints and weights that make a joint, by rules of rules if need be; empty where nothing does."""
    if joint in own:
        return {own[joint]: 1.0}
    total: dict[int, float] = {}
    for weight, part in RULES.get(joint, ()):
        if not (parts := _made(part, own)):
            return {}
        for index, share in parts.items():
            total[index] = total.get(index, 0.0) + weight * share
    return total
